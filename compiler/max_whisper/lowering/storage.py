"""How the graphs want each tensor of a spec: the number type, and the layout that the kernels read.

Matrices have the dtype of the build; vectors and tables of positions are float32 always, as they cost nothing. On a
CPU, the matrices that meet a whole window of rows (the encoder's, and those of the keys and values of its features) are
packed for kernels/dense_linear.mojo. int8 matrices have scales beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from max_whisper.spec import Spec, TensorSpec
from max_whisper.weights.packing import packed_shape


@dataclass(frozen=True)
class Stored:
    """A tensor of the spec as it is in an artifact."""

    tensor: TensorSpec
    dtype: str  # "float32", "bfloat16" or "int8"
    packed: bool = False

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Outputs, and the numbers that each of them is a product with: of a convolution, kernel * in."""
        return self.tensor.shape[0], prod(self.tensor.shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        return packed_shape(*self.matrix_shape, self.dtype) if self.packed else self.tensor.shape

    @property
    def scales(self) -> str | None:
        """The name of the tensor float32 [2, out] that belongs to it."""
        return f"{self.tensor.name}.scales" if self.dtype == "int8" else None

    @property
    def scales_shape(self) -> tuple[int, ...]:
        return 2, self.tensor.shape[0]


def storage(spec: Spec, *, dtype: str, on_cpu: bool) -> dict[str, Stored]:
    """Every tensor of the spec by its name, in the order of the spec."""
    window = {tensor.name for node in spec.encoder.walk() for tensor in node.tensors}
    window |= {tensor.name for node in spec.decoder.walk() for tensor in node.layer.memory_tensors(node.input_shape)}
    return {
        tensor.name: Stored(tensor, dtype, packed=on_cpu and tensor.name in window)
        if tensor.matrix
        else Stored(tensor, "float32")
        for tensor in spec.tensors()
    }
