"""Makes the plan of a build: everything is decided before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from max_whisper.compile.options import BuildOptions
from max_whisper.errors import UserError
from max_whisper.plan import INT8_FEATURE, MATRIX_DTYPES, BuildPlan, Kernels, SpecIdentity, Target
from max_whisper.spec import Spec
from max_whisper.spec.family import Family
from max_whisper.tensors.dtypes import FLOAT32, BuildDtype
from max_whisper.tensors.layout import logits_tables, stored_tensors, token_matrices
from max_whisper.weights.checkpoint import Checkpoint


def make_plan(
    spec: Spec,
    checkpoint: Checkpoint,
    alignment_heads: Sequence[tuple[int, int]],
    target: Target,
    kernels: Kernels,
    dtype: BuildDtype,
    batch: int,
) -> BuildPlan:
    """Returns the plan for building a spec with the weights of a checkpoint.

    Raises WeightsError for a checkpoint with a tensor that holds NaN or infinities.
    """
    plan = BuildPlan(
        spec=SpecIdentity(spec.name, spec.hash),
        target=target,
        dtype=dtype,
        kernels=kernels,
        batch=batch,
        alignment_heads=list(alignment_heads),
        tensors=[],
    )
    return with_tensors(plan, spec, checkpoint.lossless_dtypes(token_matrices(spec)) if plan.lossless_dtypes else {})


def with_tensors(plan: BuildPlan, spec: Spec, lossless: Mapping[str, str]) -> BuildPlan:
    """Returns the plan with its tensors filled in; `lossless` is what `Checkpoint.lossless_dtypes` returns."""
    overrides = dict(lossless)
    if plan.logits_dtype != plan.dtype:
        overrides |= dict.fromkeys(logits_tables(spec), plan.logits_dtype)
    tensors = stored_tensors(spec, dtype=plan.dtype, packed=plan.packed, overrides=overrides)
    return msgspec.structs.replace(plan, tensors=tensors)


def choose_kernels(target: Target, family: Family, options: BuildOptions) -> Kernels:
    """Returns the kernels that the options name, or the target's default; raises UserError if it cannot use them."""
    kernels: Kernels = options.kernels or target.kernels[0]  # type: ignore[assignment]  # one of these
    if kernels not in family.kernels:
        got = options.target if options.kernels is None else f"kernels {kernels}"
        raise UserError(f"a spec of the family {family.name} is compiled for a CPU with kernels ours, got {got}")
    if kernels not in target.kernels:
        raise UserError(f"kernels ours are for a CPU only: build for {options.target} with kernels max")
    return kernels


def default_dtype(target: Target, kernels: Kernels) -> BuildDtype:
    """Returns the dtype of a build that names none: the fastest that keeps the words, by docs/performance.md."""
    return "int8" if kernels == "ours" and INT8_FEATURE in target.features else "float32"


def choose_dtype(target: Target, kernels: Kernels, family: Family, options: BuildOptions) -> BuildDtype:
    """Returns the dtype that the options name, or the default.

    Raises UserError where the family or the kernels do not support the dtype, or not on this target.
    """
    if options.dtype is None:
        return family.dtypes[0] if family.dtypes else default_dtype(target, kernels)  # type: ignore[return-value]
    dtype: BuildDtype = options.dtype  # type: ignore[assignment]  # BuildOptions checks that it is one of these
    if family.dtypes and dtype not in family.dtypes:
        raise UserError(
            f"a spec of the family {family.name} is built in {' or '.join(family.dtypes)}, got dtype {dtype}"
        )
    if not target.on_host and dtype != FLOAT32.name:
        # Only our kernels have int8. In bfloat16 on an H200, prompts saw the tokens that come after them (MAX 26.7).
        raise UserError(f"dtype {dtype} is for a CPU only: build for {options.target} with float32")
    if dtype not in MATRIX_DTYPES[kernels]:
        raise UserError(
            f"dtype {dtype} needs kernels ours, got kernels {kernels}: build with kernels ours, or with dtype bfloat16"
        )
    return dtype
