"""The record, in the plan of a build, of how a tensor is stored."""

from __future__ import annotations

from math import prod

from max_whisper.records import Dim, Name, Record
from max_whisper.tensors.dtypes import DTYPES, FLOAT32, INT8, StoredDtype
from max_whisper.tensors.pack import packed_shape


class StoredTensor(Record, frozen=True):
    """How an artifact stores a tensor.

    Attributes:
        name: Its name in the spec and in weights.safetensors.
        shape: Its shape in the spec.
        dtype: Its dtype in weights.safetensors.
        matrix: Whether it holds the weights of a matrix product, [out, in, ...].
        packed: Whether it is packed in panels (see tensors/pack.py).
    """

    name: Name
    shape: list[Dim]
    dtype: StoredDtype
    matrix: bool
    packed: bool

    @property
    def format(self) -> str:
        """The name of its dtype in safetensors files."""
        return DTYPES[self.dtype].format

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The outputs and the inputs of its matrix product; a convolution has kernel * channels inputs."""
        return self.shape[0], prod(self.shape[1:])

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Its shape in weights.safetensors."""
        return packed_shape(*self.matrix_shape, self.dtype) if self.packed else tuple(self.shape)

    @property
    def scales(self) -> str | None:
        """The name of the scales of an int8 matrix; None for any other tensor."""
        return f"{self.name}.scales" if self.dtype == INT8.name else None

    @property
    def scales_shape(self) -> tuple[int, int]:
        """The shape of the scales, [2, out]; they are float32."""
        return 2, self.shape[0]

    @property
    def entries(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """The name, format and shape of the tensor in weights.safetensors and, for an int8 matrix, of its scales."""
        entries: list[tuple[str, str, tuple[int, ...]]] = [(self.name, self.format, self.stored_shape)]
        if self.scales is not None:
            entries.append((self.scales, FLOAT32.format, self.scales_shape))
        return entries
