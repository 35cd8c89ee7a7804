"""How one tensor of an artifact is stored, as its plan keeps it."""

from __future__ import annotations

from math import prod

from max_whisper.records import Dim, Name, Record
from max_whisper.tensors.dtypes import DTYPES, FLOAT32, INT8, StoredDtype
from max_whisper.tensors.pack import packed_shape


class StoredTensor(Record, frozen=True):
    """A tensor of the spec as it is in an artifact."""

    name: Name
    shape: list[Dim]  # in the spec
    dtype: StoredDtype
    matrix: bool  # the weights of a matrix product, [out, in, ...]
    packed: bool  # in panels, see tensors/pack.py

    @property
    def format(self) -> str:
        """The dtype's name in a safetensors file."""
        return DTYPES[self.dtype].format

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Outputs and inputs of the product; the inputs of a convolution are kernel * channels."""
        return self.shape[0], prod(self.shape[1:])

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        return packed_shape(*self.matrix_shape, self.dtype) if self.packed else tuple(self.shape)

    @property
    def scales(self) -> str | None:
        """The name of the scales, float32 [2, out], of an int8 matrix; None for any other tensor."""
        return f"{self.name}.scales" if self.dtype == INT8.name else None

    @property
    def scales_shape(self) -> tuple[int, int]:
        """The shape of the scales."""
        return 2, self.shape[0]

    @property
    def entries(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, format and shape of what is in the file: the tensor itself and, of an int8 matrix, its scales."""
        entries: list[tuple[str, str, tuple[int, ...]]] = [(self.name, self.format, self.stored_shape)]
        if self.scales is not None:
            entries.append((self.scales, FLOAT32.format, self.scales_shape))
        return entries
