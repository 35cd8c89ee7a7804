"""Writes weights.safetensors from a checkpoint, with each tensor in the dtype and layout of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from max_whisper.plan import BuildPlan
from max_whisper.spec import Spec
from max_whisper.tensors import safetensors_file
from max_whisper.tensors.dtypes import ComputeDtype, byte_count
from max_whisper.tensors.pack import as_matrix, pack
from max_whisper.tensors.quantize import quantize
from max_whisper.tensors.stored import StoredTensor
from max_whisper.weights.checkpoint import Checkpoint

Read = Callable[[ComputeDtype], NDArray[Any]]


def write_weights(path: Path, plan: BuildPlan, spec: Spec, checkpoint: Checkpoint) -> None:
    """Writes the tensors of a plan to a file, in the form that the graphs read, under the names of the spec.

    Raises WeightsError for a tensor that the checkpoint does not have, or that holds NaN or infinities.
    """
    described = {tensor.name: tensor for tensor in spec.tensors()}

    def reader(tensor: StoredTensor) -> Read:
        compute = described[tensor.name].computed
        if compute is not None:
            return lambda dtype: compute(*tensor.shape)
        if described[tensor.name].cut:
            return lambda dtype: checkpoint.read(tensor.name, dtype)[: tensor.shape[0]]
        return lambda dtype: checkpoint.read(tensor.name, dtype)

    safetensors_file.write(path, [entry for tensor in plan.tensors for entry in _entries(tensor, reader(tensor))])


def stored_bytes(plan: BuildPlan) -> int:
    """Returns the bytes that the tensors of a plan take in the file."""
    entries = [entry for tensor in plan.tensors for entry in tensor.entries]
    return sum(byte_count(dtype, shape) for _, dtype, shape in entries)


def _entries(tensor: StoredTensor, read: Read) -> Iterator[safetensors_file.Entry]:
    """Yields a tensor and, if it is int8, its scales.

    Each is computed when it is written, so a matrix is quantized twice, and never more than one is in memory.
    """

    def values() -> NDArray[Any]:
        if tensor.dtype == "int8":
            array, _ = quantize(as_matrix(read("float32")))
        elif tensor.dtype == "bfloat16":
            array = read("bfloat16")
        else:  # float16 is in a plan only where it holds the elements exactly
            array = read("float32").astype(tensor.dtype, copy=False)
        return pack(as_matrix(array), tensor.dtype) if tensor.packed else array.reshape(tensor.stored_shape)

    def scales() -> NDArray[Any]:
        return quantize(as_matrix(read("float32")))[1]

    for (name, dtype, shape), load in zip(tensor.entries, (values, scales), strict=False):  # not all have scales
        yield safetensors_file.Entry(name, dtype, shape, load)
