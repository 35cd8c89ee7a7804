"""Decides how an artifact stores each tensor of a spec: the dtype and the layout.

Matrices have the dtype of the build; vectors and tables of positions are always float32, because they are small. For
our own kernels, the matrices that are multiplied with a whole window of rows (the encoder's, and those of the keys and
values of its features) are packed for kernels/gemm.mojo. int8 matrices have scales beside them. In a float32
build, the matrices that the decoder reads for every token are stored in 16 bits where that loses nothing: reading them
takes most of a token's time, and the results are the same to the last bit. For MAX's own kernels, which
round a product to the dtype of its factors, the table of the vocabulary is always float32, because logits in bfloat16
(in steps of 0.125 from 16 on) have ties.
"""

from __future__ import annotations

from collections.abc import Mapping

from max_whisper.spec import Spec, TensorSpec
from max_whisper.spec.counts import window_tensors
from max_whisper.spec.layers.logits import Logits
from max_whisper.tensors.dtypes import FLOAT32
from max_whisper.tensors.stored import StoredTensor


def stored_tensors(
    spec: Spec, *, dtype: str, packed: bool, overrides: Mapping[str, str] | None = None
) -> list[StoredTensor]:
    """Returns how each tensor of a spec is stored, in the order of the spec.

    Args:
        spec: The spec.
        dtype: The dtype of matrices.
        packed: Whether the matrices that are used once per window are packed for kernels/gemm.mojo.
        overrides: The dtypes of the matrices that have another dtype, by name.
    """
    window, dtypes = window_tensors(spec), overrides or {}

    def stored(tensor: TensorSpec) -> StoredTensor:
        stored_dtype = dtypes.get(tensor.name, dtype) if tensor.matrix else FLOAT32.name
        return StoredTensor(
            tensor.name,
            list(tensor.shape),
            stored_dtype,  # type: ignore[arg-type]  # a StoredDtype
            tensor.matrix,
            packed=packed and tensor.matrix and tensor.name in window,
        )

    return [stored(tensor) for tensor in spec.tensors()]


def token_matrices(spec: Spec) -> list[str]:
    """Returns the names of the matrices that the decoder reads for each token."""
    window = window_tensors(spec)
    return [tensor.name for tensor in spec.tensors() if tensor.matrix and tensor.name not in window]


def logits_tables(spec: Spec) -> list[str]:
    """Returns the names of the tables that logits are computed with."""
    nodes = (node for part in spec.parts.values() for node in part.walk())
    return [node.layer.table for node in nodes if isinstance(node.layer, Logits)]
