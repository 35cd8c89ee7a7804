"""Define your own kind of layer. Specs can use it once this module has been imported."""

from dataclasses import dataclass

from max_whisper.spec.layer import Layer, Shape, TensorSpec, register, weight_name
from max_whisper.spec.ops import Ops, Value


@register("layer_scale")
@dataclass(frozen=True, kw_only=True)
class LayerScale(Layer):
    """Multiplies each channel by a learned number (Touvron et al., 2021, arXiv:2103.17239)."""

    weights: str = weight_name("The prefix of the tensor `weight` [channels].")

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        return [self.tensor(f"{self.weights}.weight", shape.channels)]

    def lower(self, ops: Ops, x: Value) -> Value:
        return ops.mul(x, ops.weight(f"{self.weights}.weight"))
