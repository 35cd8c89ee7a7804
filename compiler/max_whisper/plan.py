"""The plan of a build: its machine, its kernels, and how each tensor is stored.

`build` makes a plan once, before anything is compiled. The processes that compile receive all of it, the manifest keeps
it, and `bench` and `verify` read it back from there. Lowering and the artifact both read it, so it belongs to neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from max_whisper.records import Hash, Id, Identifier, Name, Record
from max_whisper.tensors.dtypes import BUILD_DTYPES, COMPUTE_DTYPES, LOSSLESS_DTYPES, BuildDtype
from max_whisper.tensors.stored import StoredTensor

MAX_BATCH = 256
INT8_FEATURE = "avx512_vnni"
"""The feature of a CPU with which int8 is the fastest dtype (kernels/tile.mojo); without it, float32 is."""

Kernels = Literal["ours", "max"]

MATRIX_DTYPES: Mapping[Kernels, tuple[str, ...]] = {"ours": BUILD_DTYPES, "max": COMPUTE_DTYPES}
"""The dtypes that the matrices of a build with these kernels can have."""


class Target(Record, frozen=True):
    """The machine that code is compiled for.

    Attributes:
        device: The kind of processor that runs the graphs.
        arch: The architecture: "x86_64", "x86-64-v3" or "aarch64" for a CPU, "sm_90a" or "gfx942" for a GPU.
        features: The CPU features that the code may use, by their names in Linux.
    """

    device: Literal["cpu", "cuda", "hip"]
    arch: Identifier
    features: Annotated[list[Identifier], msgspec.Meta(max_length=1000)]

    def __str__(self) -> str:
        return self.arch if self.on_host else f"{self.device}:{self.arch}"

    @property
    def on_host(self) -> bool:
        """Whether the graphs run on a CPU, with all data in the host's memory."""
        return self.device == "cpu"

    @property
    def kernels(self) -> tuple[Kernels, ...]:
        """The kernels that graphs for this machine can use, the default first."""
        return ("ours", "max") if self.on_host else ("max",)


class SpecIdentity(Record, frozen=True):
    """The identity of the spec that a plan is for.

    Attributes:
        name: The name of the spec.
        hash: The SHA-256 of its canonical form.
    """

    name: Name
    hash: Hash


class BuildPlan(Record, frozen=True):
    """How a spec is compiled.

    Attributes:
        spec: The identity of the spec.
        target: The machine that it is compiled for.
        dtype: The dtype of the weights of matrix products.
        kernels: "ours" for this package's own kernels, which are for CPUs, or "max" for MAX's ops alone.
        batch: The number of windows that are computed at once.
        alignment_heads: The cross-attention heads that words get their times from, as (layer, head), from 0.
        tensors: The tensors of weights.safetensors, in the order of the spec.
    """

    spec: SpecIdentity
    target: Target
    dtype: BuildDtype
    kernels: Kernels
    batch: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH)]
    alignment_heads: list[tuple[Id, Id]]
    tensors: list[StoredTensor]

    @property
    def packed(self) -> bool:
        """Whether matrices that are used once per window are packed in panels, the layout that our kernels read."""
        return self.kernels == "ours"

    @property
    def lossless_dtypes(self) -> tuple[str, ...]:
        """The 16-bit dtypes in which the matrices that every token reads may be stored, where that loses nothing."""
        lossless = self.kernels == "ours" and self.dtype == "float32"
        return tuple(dtype.name for dtype in LOSSLESS_DTYPES) if lossless else ()

    @property
    def logits_dtype(self) -> BuildDtype:
        """The dtype of the table that logits are computed with; MAX rounds a product to the dtype of its factors."""
        return "float32" if self.kernels == "max" else self.dtype

    @property
    def cross_kv_dtype(self) -> BuildDtype:
        """The dtype of the cross-attention KV cache, which has a scale for each row in int8.

        A CPU reads the cache again for each token, so its size counts; MAX's attention takes operands of one dtype.
        """
        if self.kernels != "ours" or self.dtype == "float32":
            return "float32"
        return "int8" if self.dtype == "int8" and INT8_FEATURE in self.target.features else "bfloat16"

    @property
    def several_texts(self) -> bool:
        """Whether the decoder takes several texts of each window at once, and a step several tokens of each text.

        MAX's attention takes as many queries as keys, so that each text would need a copy of its window's.
        """
        return self.kernels == "ours"

    @property
    def by_name(self) -> dict[str, StoredTensor]:
        """The tensors by their names."""
        return {tensor.name: tensor for tensor in self.tensors}
