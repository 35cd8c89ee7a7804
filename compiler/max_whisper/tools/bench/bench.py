"""Benchmarks one artifact on this machine: its phases, and each layer beside the limits of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from max_whisper.artifact.load import check_artifact, open_artifact
from max_whisper.artifact.manifest import VAD
from max_whisper.compile.stored_spec import read_spec
from max_whisper.errors import UserError
from max_whisper.files import expanded
from max_whisper.lowering.family import timed_graphs
from max_whisper.options import OptionError
from max_whisper.progress import OnProgress, Progress, check_progress, ignore_progress
from max_whisper.spec import Spec
from max_whisper.tools.bench.clocks import compile_instrumented, times
from max_whisper.tools.bench.detector import DetectorReport, bench_detector
from max_whisper.tools.bench.lower_bounds import lower_bounds
from max_whisper.tools.bench.peak_rates import PeakRates, Probes, higher
from max_whisper.tools.bench.phases import NoiseWindows, load_time, peak_memory, phases
from max_whisper.tools.bench.roofline import Roofline, for_one_token, roofline, whisper_layers
from max_whisper.tools.options import BenchOptions


@dataclass(frozen=True)
class BenchReport:
    """The results of a benchmark. Times are medians in milliseconds, of a batch of windows.

    Attributes:
        artifact: The artifact's folder.
        model: The name of the spec.
        dtype: The dtype of the build.
        kernels: "ours" or "max".
        batch: The number of windows that are computed at once.
        n_tokens: The number of tokens that were decoded in each window.
        rounds: The number of measurements.
        seconds: The duration of a window.
        threads: The number of CPU cores that were used.
        peak_rates: The peak rates of the machine.
        phases: The times of "load", "log_mel", "encoder", "cross_kv", "first", "token" and "total".
        lower_bounds: The lower bounds of "encoder", "token" and "total"; empty if the CPU has no instruction for
            products of this dtype.
        peak_memory: The peak memory of a process that runs the phases, in MB.
        position: The number of tokens in the KV cache for which the FLOPs and bytes of a token are counted.
        rooflines: The layers of each graph.
    """

    artifact: Path
    model: str
    dtype: str
    kernels: str
    batch: int
    n_tokens: int
    rounds: int
    seconds: float
    threads: int
    peak_rates: PeakRates
    phases: dict[str, float]
    lower_bounds: dict[str, float]
    peak_memory: float
    position: int
    rooflines: list[Roofline]


def bench(
    folder: Path, *, n_tokens: int, rounds: int, progress: OnProgress = ignore_progress
) -> BenchReport | DetectorReport:
    """Measures an artifact's phases and layers on this machine.

    The graphs are compiled once more with timestamps around their kernels; the first time, that takes as long as a
    build.

    Args:
        folder: The artifact.
        n_tokens: The number of tokens to decode in each window; a voice activity detector takes the default only.
        rounds: The number of measurements, whose medians are reported.
        progress: Called after each step.

    Raises:
        UserError: The artifact is for a GPU, or it cannot hold so many tokens.
        ArtifactError: The artifact is damaged, or cannot run on this machine.
        CompileError: MAX cannot compile a graph.
    """
    check_progress(progress)
    options = BenchOptions(n_tokens, rounds)
    n_tokens, rounds = options.tokens, options.rounds
    folder = expanded(folder)
    manifest = check_artifact(folder, machine=False)
    plan = manifest.plan
    if not plan.target.on_host:
        raise UserError(
            f"{folder} is for {plan.target}: only artifacts for a CPU can be measured; build one with `--target cpu`"
        )
    if manifest.family == VAD:
        if n_tokens != BenchOptions().tokens:
            raise OptionError("{tokens}: is for a Whisper, a voice activity detector has none; leave it out")
        return bench_detector(folder, rounds, progress)
    artifact = open_artifact(folder)
    spec = read_spec(folder, artifact.manifest)
    windows = NoiseWindows(artifact, n_tokens)
    measured = phases(windows, rounds)
    memory = peak_memory()
    progress(Progress("measured the phases"))
    probes = Probes()
    before = probes.measure()
    progress(Progress("measured the machine"))
    instrumented = compile_instrumented(artifact, spec, progress) if plan.kernels == "ours" else None
    graph_times = times(windows, timed_graphs(spec.family), instrumented, rounds)
    progress(Progress("measured the layers"))
    peak_rates = higher(before, probes.measure())
    position = windows.prompt_length + (n_tokens - 1) // 2  # of the token in the middle
    return BenchReport(
        artifact=folder,
        model=spec.name,
        dtype=plan.dtype,
        kernels=plan.kernels,
        batch=plan.batch,
        n_tokens=n_tokens,
        rounds=rounds,
        seconds=windows.seconds,
        threads=probes.threads,
        peak_rates=peak_rates,
        phases={"load": load_time(folder), **measured},
        lower_bounds=_lower_bounds(spec, peak_rates, plan.dtype, plan.batch, n_tokens),
        peak_memory=memory,
        position=position,
        rooflines=[
            roofline(
                graph,
                for_one_token(instrumented.calls[graph], plan.batch) if instrumented else [],
                graph_times[graph],
                layers=whisper_layers(spec, graph, plan.batch, position),
                peak_rates=peak_rates,
                position=position,
            )
            for graph in timed_graphs(spec.family)
        ],
    )


def _lower_bounds(spec: Spec, peak_rates: PeakRates, dtype: str, batch: int, n_tokens: int) -> dict[str, float]:
    """Returns the lower bounds of the phases that `lower_bounds` and the report both have."""
    bounds = lower_bounds(spec, peak_rates, batch, n_tokens).get(dtype, {})
    return {name: bounds[name] for name in ("encoder", "token", "total") if name in bounds}
