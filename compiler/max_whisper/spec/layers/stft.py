"""Short-time Fourier transform."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, Workload, option, register, weight_name
from max_whisper.spec.ops import Ops, Value, conv1d_length


@register("stft")
@dataclass(frozen=True, kw_only=True)
class Stft(Layer):
    """Applies a short-time Fourier transform to samples, as a convolution without a bias.

    The output has the cosine coefficients of all frequencies first, then the sine coefficients; `magnitude` follows.
    """

    window: int = option("The samples that each output row is computed from.", maximum=2**16)
    hop: int = option("The samples from one output row to the next.", maximum=2**16)
    weights: str = weight_name("The prefix of the tensor `weight` [window + 2, 1, window].")

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        if shape.channels != 1:
            raise self.error(f"expected samples, which have one channel, got {shape.channels} channels")
        if self.window % 2:
            raise self.error(f"expected an even number, got {self.window}", "window")
        if shape.length < self.window:
            raise self.error(f"expected at most {shape.length}, the samples of the input, got {self.window}", "window")
        return Shape(self._length(shape.length), self._channels)

    @property
    def _channels(self) -> int:
        return 2 * (self.window // 2 + 1)

    def _length(self, samples: int) -> int:
        return conv1d_length(samples, self.window, stride=self.hop, padding=0)

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        return [self.matrix(f"{self.weights}.weight", self._channels, 1, self.window)]

    def flops(self, workload: Workload) -> int:
        return 2 * self._length(workload.query_length) * self._channels * self.window

    def lower(self, ops: Ops, x: Value) -> Value:
        return ops.conv1d(x, ops.weight(f"{self.weights}.weight"), None, stride=self.hop, padding=0)
