"""The options of `build`."""

from dataclasses import dataclass
from typing import Annotated, get_args

from max_whisper.options import Choice, Flag, Integer, Options, Text
from max_whisper.plan import MAX_BATCH, Kernels
from max_whisper.tensors.dtypes import BUILD_DTYPES


@dataclass(frozen=True)
class BuildOptions(Options):
    """How a model is compiled."""

    revision: Annotated[
        str | None,
        Text(
            "Branch, tag or commit of the Hub repository.",
            unit="REVISION",
            unset="the spec's for its own source, else main",
        ),
    ] = None
    dtype: Annotated[
        str,
        Choice(
            "Data type of the weights and of the operands of matrix products; a GPU has float32 only.",
            words=BUILD_DTYPES,
        ),
    ] = "float32"
    target: Annotated[
        str,
        Text(
            "Machine to compile for: cpu is this one; others are cpu:x86-64-v3, cuda:sm_80, cuda:sm_89, cuda:sm_90a "
            "and hip:gfx942.",
            unit="TARGET",
        ),
    ] = "cpu"
    kernels: Annotated[
        str | None,
        Choice(
            "What graphs are made of: our own kernels, which are for CPUs, or MAX's ops alone, which take float32 and "
            "bfloat16.",
            words=get_args(Kernels),
            unset="ours for a CPU, max for a GPU",
        ),
    ] = None
    batch: Annotated[
        int,
        Integer(
            "Number of windows that are computed at once.",
            low=1,
            high=MAX_BATCH,
        ),
    ] = 1
    force: Annotated[bool, Flag("Replace an artifact that is already there.")] = False
    offline: Annotated[bool, Flag("Do not connect to the Hub; use what is in its cache.")] = False
