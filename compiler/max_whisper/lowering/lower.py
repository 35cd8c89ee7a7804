"""Lowers a spec to the MAX graphs of one module: records programs, runs passes on them, emits graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from max.graph import DeviceRef, Module

from max_whisper.lowering.backends.cpu.kernels import CPU_KERNELS
from max_whisper.lowering.backends.emission import Backend, Context
from max_whisper.lowering.backends.max_ops import MAX_OPS
from max_whisper.lowering.emit import Signature, emit
from max_whisper.lowering.family import graphs_of
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.lowering.ops import Program
from max_whisper.lowering.passes.expose import expose as expose_layers
from max_whisper.lowering.passes.instrument import instrument
from max_whisper.plan import BuildPlan
from max_whisper.spec import Spec

BACKENDS: Mapping[str, Backend] = {"ours": CPU_KERNELS, "max": MAX_OPS}


@dataclass(frozen=True)
class Lowered:
    """The graphs of one module, which are compiled together."""

    module: Module
    extensions: Sequence[Path]  # the compiled packages of the kernels that they use
    graphs: dict[str, Signature] = field(default_factory=dict)
    calls: dict[str, list[KernelCall]] = field(default_factory=dict)  # of our kernels, in order, by graph


def lower(
    spec: Spec, plan: BuildPlan, module: str, *, kernels: Path, probes: Path | None = None, expose: bool = False
) -> Lowered:
    """Returns the graphs of one module.

    Args:
        spec: The model.
        plan: The target, dtypes and tensors of the build.
        module: A module of the spec's family; Whisper has "encoder" and "decoder".
        kernels: The compiled package of our kernels.
        probes: The compiled package of the clock. With it, only the graphs that `bench` times are lowered, with
            timestamps before and after every kernel call.
        expose: Whether the graphs that `verify` compares also return the output of every layer, under its path.
    """
    backend = BACKENDS[plan.kernels]
    context = Context(DeviceRef.CPU() if plan.target.on_host else DeviceRef.GPU(), plan.dtype)
    lowered = Lowered(Module(), [path for path in (kernels, probes) if path is not None])
    for name, recipe in graphs_of(spec.family)[module].items():
        if probes is not None and not recipe.timed:
            continue
        program = recipe.record(spec, plan, backend.emitters.keys())
        program = _transformed(program, backend, timed=probes is not None, exposed=expose and recipe.exposed)
        lowered.graphs[name], lowered.calls[name] = emit(program, backend, context, lowered.module, lowered.extensions)
    return lowered


def _transformed(program: Program, backend: Backend, *, timed: bool, exposed: bool) -> Program:
    """Returns the program after all passes. Layers are exposed first, so that fusion leaves their outputs alone."""
    if exposed:
        program = expose_layers(program)
    for run_pass in backend.passes:
        program = run_pass(program)
    return instrument(program, backend.kernels) if timed else program
