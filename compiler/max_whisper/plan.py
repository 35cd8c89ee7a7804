"""The plan of a build: for which machine, by which kernels, and how each tensor is stored.

A plan is made once, by `build`, before anything is compiled. The processes that compile get it whole, the manifest
keeps it, and `bench` and `verify` read it back from there. Lowering and the artifact both read it, so it belongs to
neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from max_whisper.records import Hash, Id, Name, Record, Word
from max_whisper.tensors.dtypes import BUILD_DTYPES, COMPUTE_DTYPES, LOSSLESS_DTYPES, BuildDtype, ComputeDtype
from max_whisper.tensors.stored import StoredTensor

MAX_BATCH = 256

Kernels = Literal["ours", "max"]

MATRIX_DTYPES: Mapping[Kernels, tuple[str, ...]] = {"ours": BUILD_DTYPES, "max": COMPUTE_DTYPES}
"""The dtypes that the matrices of a build can have, by its kernels."""


class Target(Record, frozen=True):
    """The machine that the code was compiled for."""

    device: Literal["cpu", "cuda", "hip"]
    arch: Word  # "x86_64", "aarch64"; of a GPU as its maker calls it: "sm_90a", "gfx942"
    features: Annotated[list[Word], msgspec.Meta(max_length=1000)]  # of the CPU that it may use, as Linux calls them

    def __str__(self) -> str:
        return self.arch if self.on_host else f"{self.device}:{self.arch}"

    @property
    def on_host(self) -> bool:
        """Whether the graphs run on a CPU, so that everything is in the host's memory."""
        return self.device == "cpu"

    @property
    def kernels(self) -> tuple[Kernels, ...]:
        """The kernels that graphs for this machine can have, the default first."""
        return ("ours", "max") if self.on_host else ("max",)


class SpecName(Record, frozen=True):
    """Which spec a plan is for."""

    name: Name
    hash: Hash  # sha256 of its canonical form


class BuildPlan(Record, frozen=True):
    """How a spec is compiled."""

    spec: SpecName
    target: Target
    dtype: BuildDtype  # of the weights of matrix products
    kernels: Kernels  # our own, which are for CPUs, or MAX's ops alone
    batch: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH)]  # windows computed at once
    alignment_heads: list[tuple[Id, Id]]  # (layer, head) of the cross-attention that give words their times
    tensors: list[StoredTensor]  # all of weights.safetensors, in the order of the spec

    @property
    def packed(self) -> bool:
        """Whether the matrices that are used once per window are packed in panels, as our kernels read them."""
        return self.kernels == "ours"

    @property
    def lossless_dtypes(self) -> tuple[str, ...]:
        """The 16-bit dtypes that matrices which are read for every token have where it loses nothing; or none."""
        lossless = self.kernels == "ours" and self.dtype == "float32"
        return tuple(dtype.name for dtype in LOSSLESS_DTYPES) if lossless else ()

    @property
    def logits_dtype(self) -> BuildDtype:
        """The dtype of the table that logits are a product with; MAX rounds a product to the dtype of its factors."""
        return "float32" if self.kernels == "max" else self.dtype

    @property
    def cross_kv_dtype(self) -> ComputeDtype:
        """The dtype of the cross-attention KV cache.

        A CPU reads it anew for each token, so that its size counts; MAX's attention takes operands of one dtype alone.
        """
        return "bfloat16" if self.kernels == "ours" and self.dtype != "float32" else "float32"

    @property
    def by_name(self) -> dict[str, StoredTensor]:
        """The tensors by their names."""
        return {tensor.name: tensor for tensor in self.tensors}
