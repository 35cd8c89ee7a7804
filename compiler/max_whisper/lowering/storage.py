"""How the graphs want each tensor of a spec: the number type, and the layout that the kernels read.

Matrices have the dtype of the build; vectors and tables of positions are float32 always, as they cost nothing. On a
CPU, the matrices that meet a whole window of rows (the encoder's, and those of the keys and values of its features) are
packed for kernels/dense_linear.mojo. int8 matrices have scales beside them. Where float32 is asked for, and the numbers
are such that 16 bits hold them exactly, the matrices that every token reads anew have 16 bits: reading them is what a
token costs, and the results are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from max_whisper.spec import Spec, TensorSpec
from max_whisper.tensors.pack import packed_shape

FORMATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}  # as safetensors calls them


@dataclass(frozen=True)
class Stored:
    """A tensor of the spec as it is in an artifact."""

    tensor: TensorSpec
    dtype: str  # "float32", "float16", "bfloat16" or "int8"
    packed: bool = False

    @property
    def format(self) -> str:
        """The dtype's name in a safetensors file."""
        return FORMATS[self.dtype]

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


def storage(spec: Spec, *, dtype: str, on_cpu: bool, exact_halves: Mapping[str, str]) -> dict[str, Stored]:
    """Every tensor of the spec by its name, in the order of the spec.

    exact_halves: "float16" or "bfloat16" for those of `token_matrices` that it holds exactly.
    """
    window = _window_tensors(spec)
    return {
        tensor.name: Stored(tensor, exact_halves.get(tensor.name, dtype), packed=on_cpu and tensor.name in window)
        if tensor.matrix
        else Stored(tensor, "float32")
        for tensor in spec.tensors()
    }


def token_matrices(spec: Spec) -> list[str]:
    """The names of the matrices that the decoder reads for each token."""
    window = _window_tensors(spec)
    return [tensor.name for tensor in spec.tensors() if tensor.matrix and tensor.name not in window]


def _window_tensors(spec: Spec) -> set[str]:
    """The names of those that are used once for each window."""
    window = {tensor.name for node in spec.encoder.walk() for tensor in node.tensors}
    return window | {
        tensor.name for node in spec.decoder.walk() for tensor in node.layer.memory_tensors(node.input_shape)
    }
