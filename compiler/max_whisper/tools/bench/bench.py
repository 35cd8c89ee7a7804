"""Benchmarks one artifact on this machine: its phases, and each layer beside what the machine allows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from max_whisper.artifact.load import check_artifact
from max_whisper.compile.stored_spec import read_spec
from max_whisper.errors import UserError
from max_whisper.files import expanded
from max_whisper.progress import OnProgress, Progress, check_progress, ignore_progress
from max_whisper.spec import Spec
from max_whisper.tools.bench.clocks import GRAPHS, compile_instrumented, times
from max_whisper.tools.bench.lower_bounds import lower_bounds
from max_whisper.tools.bench.peak_rates import PeakRates, Probes, higher
from max_whisper.tools.bench.phases import Window, load, loading, peak_memory, phases
from max_whisper.tools.bench.roofline import Roofline, roofline
from max_whisper.tools.options import BenchOptions


@dataclass(frozen=True)
class BenchReport:
    """What a benchmark measured. Times are medians, in milliseconds, of a batch of windows."""

    artifact: Path
    model: str  # the spec's name
    dtype: str
    kernels: str
    batch: int
    n_tokens: int  # of each window
    rounds: int
    seconds: float  # of sound in a window
    threads: int  # CPU cores that were used
    peak_rates: PeakRates
    phases: dict[str, float]  # "load", "log_mel", "encoder", "cross_kv", "first", "token", "total"
    lower_bounds: dict[str, float]  # of "encoder", "token", "total"; empty where the CPU has no products of this dtype
    peak_memory: float  # MB, of a process that runs the phases
    position: int  # tokens in the caches, for which FLOPs and bytes of a token are counted
    rooflines: list[Roofline]


def bench(folder: Path, *, n_tokens: int, rounds: int, progress: OnProgress = ignore_progress) -> BenchReport:
    """Returns the times of an artifact's phases and layers.

    For those of the layers its graphs are compiled again, which the first time takes as long as a build.

    n_tokens: chosen for each window. rounds: times that each phase is measured; reported are medians.

    Raises UserError for an artifact for a GPU and for tokens that do not fit; what `load` raises; CompileError.
    """
    check_progress(progress)
    options = BenchOptions(n_tokens, rounds)
    n_tokens, rounds = options.tokens, options.rounds
    folder = expanded(folder)
    plan = check_artifact(folder, machine=False).plan
    if not plan.target.on_host:
        raise UserError(f"{folder} is for {plan.target}: only artifacts for a CPU can be measured, build such a one")
    artifact, _ = load(folder)
    spec = read_spec(folder, artifact.manifest)
    window = Window(artifact, n_tokens)
    measured = phases(window, rounds)
    memory = peak_memory()
    progress(Progress("measured the phases"))
    probes = Probes()
    before = probes.measure()
    progress(Progress("measured the machine"))
    instrumented = compile_instrumented(artifact, spec, progress) if plan.kernels == "ours" else None
    graph_times = times(window, instrumented, rounds)
    progress(Progress("measured the layers"))
    peak_rates = higher(before, probes.measure())
    position = window.prompt_length + (n_tokens - 1) // 2  # of the token in the middle
    return BenchReport(
        folder,
        spec.name,
        plan.dtype,
        plan.kernels,
        plan.batch,
        n_tokens,
        rounds,
        window.seconds,
        probes.threads,
        peak_rates,
        {"load": loading(folder), **measured},
        _lower_bounds(spec, peak_rates, plan.dtype, plan.batch, n_tokens),
        memory,
        position,
        [
            roofline(
                graph,
                instrumented.calls[graph] if instrumented else [],
                graph_times[graph],
                spec=spec,
                peak_rates=peak_rates,
                batch=plan.batch,
                position=position,
            )
            for graph in GRAPHS
        ],
    )


def _lower_bounds(spec: Spec, peak_rates: PeakRates, dtype: str, batch: int, n_tokens: int) -> dict[str, float]:
    """Returns the lower bounds of the phases that are the same in the report and in `lower_bounds`."""
    bounds = lower_bounds(spec, peak_rates, batch, n_tokens).get(dtype, {})
    return {name: bounds[name] for name in ("encoder", "token", "total") if name in bounds}
