"""The sizes that layers are described by: shapes of activations and tensors, and the workload of an execution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Shape(NamedTuple):
    """The shape of an activation without its batch dimension.

    Attributes:
        length: The number of rows: frames, features or tokens.
        channels: The number of channels of a row; 0 stands for token ids, which have not been embedded yet.
    """

    length: int
    channels: int

    def __str__(self) -> str:
        return f"{self.length} tokens" if self.channels == 0 else f"({self.length}, {self.channels})"


class Workload(NamedTuple):
    """The sizes of one execution of a layer, from which its FLOPs are counted.

    Attributes:
        query_length: The input rows that are computed: a whole window in the encoder, one token in a decoder step.
        channels: The channels of the input.
        out: The channels of the output.
        kv_length: The rows that self-attention sees, including the computed ones.
        memory: The shape of the encoder's features, for cross-attention.
    """

    query_length: int
    channels: int
    out: int
    kv_length: int
    memory: Shape


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a layer reads.

    Attributes:
        name: Its name in a checkpoint of transformers' layout.
        shape: Its shape in the checkpoint.
        layer_path: The path of the layer that it belongs to (see `tree.LayerNode`).
        computed: A function that returns the tensor, given the sizes of its shape, for one that is computed at build
            time; None for one that is read from the checkpoint.
        matrix: Whether it holds the weights of a matrix product, [out, in, ...], and can have the dtype of the build.
            Vectors and tables of positions are not matrices: they stay in float32.
        cut: Whether the checkpoint may have more rows of it, of which the first are taken: a table of positions, in a
            spec with shorter windows or texts than the checkpoint was made for.
    """

    name: str
    shape: tuple[int, ...]
    layer_path: str
    computed: Callable[..., NDArray[np.float32]] | None = None
    matrix: bool = False
    cut: bool = False

    @property
    def size(self) -> int:
        """The number of elements."""
        count = 1
        for dim in self.shape:
            count *= dim
        return count
