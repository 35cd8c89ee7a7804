"""Spec and plan -> the graphs of a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from max.graph import DeviceRef, Module

from max_whisper.lowering.calls import Call
from max_whisper.lowering.clocked import ClockedLowering
from max_whisper.lowering.graphs import HOST, Lowering, Signature
from max_whisper.lowering.storage import Stored
from max_whisper.plan import BuildPlan
from max_whisper.spec import Spec, TensorSpec


@dataclass(frozen=True)
class Lowered:
    """Graphs that are compiled together."""

    module: Module
    graphs: Mapping[str, Signature]
    calls: dict[str, list[Call]]  # of our kernels, by graph
    extensions: list[Path]


def lower(
    spec: Spec, plan: BuildPlan, module: str, *, kernels: Path, probes: Path | None = None, expose: bool = False
) -> Lowered:
    """Returns the graphs of a module, "encoder" or "decoder".

    kernels: the compiled package of our kernels. probes: that of the clocks, for graphs that tell when each kernel
    begins and ends. expose: whether the graphs give the output of every layer too.
    """
    shared = {
        "dtype": plan.dtype,
        "batch": plan.batch,
        "device": HOST if plan.target.on_host else DeviceRef.GPU(),
        "probe": expose,
        "alignment_heads": plan.alignment_heads,
    }
    lowering: Lowering
    if probes is not None:
        lowering = _PlannedClocked(spec, kernels, plan=plan, probes=probes, **shared)
    else:
        lowering = _Planned(spec, kernels, plan=plan, **shared)
    lowered = lowering.encoder_module() if module == "encoder" else lowering.decoder_module()
    calls = lowering.calls if isinstance(lowering, ClockedLowering) else {}
    return Lowered(lowered.module, lowered.graphs, calls, lowering.extensions)


def _stored(plan: BuildPlan) -> dict[str, Stored]:
    return {
        tensor.name: Stored(
            TensorSpec(tensor.name, tuple(tensor.shape), "", matrix=tensor.matrix), tensor.dtype, tensor.packed
        )
        for tensor in plan.tensors
    }


@dataclass(frozen=True, kw_only=True)
class _Planned(Lowering):
    plan: BuildPlan

    @property
    def _on_cpu(self) -> bool:
        return self.plan.kernels == "ours"

    @cached_property
    def _stored(self) -> Mapping[str, Stored]:
        return _stored(self.plan)


@dataclass(frozen=True, kw_only=True)
class _PlannedClocked(ClockedLowering):
    plan: BuildPlan

    @cached_property
    def _stored(self) -> Mapping[str, Stored]:
        return _stored(self.plan)
