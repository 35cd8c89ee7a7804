"""The options of `build`."""

from dataclasses import dataclass
from typing import Annotated, get_args

from max_whisper.option_kinds import Choice, Flag, Integer, Text
from max_whisper.options import Options
from max_whisper.plan import MAX_BATCH, Kernels
from max_whisper.tensors.dtypes import BUILD_DTYPES


@dataclass(frozen=True)
class BuildOptions(Options):
    """How a model is compiled."""

    revision: Annotated[
        str | None,
        Text(
            "Branch, tag or commit of the repository on the Hub.",
            unit="REVISION",
            unset="the one in the spec for the spec's own repository, else main",
        ),
    ] = None
    dtype: Annotated[
        str | None,
        Choice(
            "Type of the weights, and of the numbers in matrix products. float32 gives the tokens of "
            "openai/whisper; bfloat16 and int8 make the model smaller, and keep the words. Which is the fastest "
            "depends on the CPU. A GPU takes float32 only.",
            words=BUILD_DTYPES,
            unset="int8 for a CPU with AVX-512 VNNI, else float32; float32 with MAX's operations",
        ),
    ] = None
    target: Annotated[
        str,
        Text(
            "Machine to compile for: cpu is this one; others are cpu:x86-64-v3, cuda:sm_80, cuda:sm_89, "
            "cuda:sm_90a and hip:gfx942.",
            unit="TARGET",
        ),
    ] = "cpu"
    kernels: Annotated[
        str | None,
        Choice(
            "Code that computes the model: ours (the kernels of this package, for CPUs), or max (MAX's own "
            "operations, for float32 and bfloat16).",
            words=get_args(Kernels),
            unset="ours for a CPU, max for a GPU",
        ),
    ] = None
    batch: Annotated[
        int,
        Integer(
            "Number of windows that are computed at once. Above 1, several recordings are transcribed faster "
            "together, and there is no beam search.",
            low=1,
            high=MAX_BATCH,
        ),
    ] = 1
    force: Annotated[bool, Flag("Replace a model that is already in the folder.")] = False
    offline: Annotated[bool, Flag("Do not connect to the Hub; use what is in its cache.")] = False
