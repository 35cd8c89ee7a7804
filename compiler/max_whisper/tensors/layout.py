"""How an artifact stores each tensor of a spec: the dtype, and the layout that the kernels read.

Matrices have the dtype of the build; vectors and tables of positions are float32 always, as they cost nothing. For our
own kernels, the matrices that meet a whole window of rows (the encoder's, and those of the keys and values of its
features) are packed for kernels/dense_linear.mojo. int8 matrices have scales beside them. Where float32 is asked for,
and 16 bits hold a matrix without loss, the matrices that the decoder reads for every token have 16 bits: reading them
is what a token costs, and the results are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping

from max_whisper.spec import Spec, TensorSpec
from max_whisper.spec.family import families
from max_whisper.tensors.stored import StoredTensor


def stored_tensors(
    spec: Spec, *, dtype: str, packed: bool, lossless: Mapping[str, str] | None = None
) -> list[StoredTensor]:
    """Returns how each tensor of a spec is stored, in the order of the spec.

    packed: whether kernels/dense_linear.mojo reads the matrices that are used once per window. lossless: the dtype of
    16 bits, "float16" or "bfloat16", of those of `token_matrices` that it holds without loss.
    """
    window, halves = window_tensors(spec), lossless or {}

    def stored(tensor: TensorSpec) -> StoredTensor:
        of = halves.get(tensor.name, dtype) if tensor.matrix else "float32"
        return StoredTensor(
            tensor.name,
            list(tensor.shape),
            of,  # type: ignore[arg-type]  # one of these
            tensor.matrix,
            packed=packed and tensor.matrix and tensor.name in window,
        )

    return [stored(tensor) for tensor in spec.tensors()]


def token_matrices(spec: Spec) -> list[str]:
    """Returns the names of the matrices that the decoder reads for each token."""
    window = window_tensors(spec)
    return [tensor.name for tensor in spec.tensors() if tensor.matrix and tensor.name not in window]


def window_tensors(spec: Spec) -> set[str]:
    """Returns the names of the tensors that are used once per window."""
    windowed = [spec.parts[part] for part in families()[spec.family].windowed]
    return {tensor.name for part in windowed for node in part.walk() for tensor in node.tensors} | {
        tensor.name
        for part in spec.parts.values()
        for node in part.walk()
        for tensor in node.layer.memory_tensors(node.input_shape)
    }
