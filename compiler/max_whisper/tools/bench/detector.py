"""Benchmarks a voice activity detector: a recording, a chunk, and each layer beside the limits of the machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from max_whisper.artifact.load import Artifact, open_family
from max_whisper.artifact.manifest import VAD, Manifest
from max_whisper.compile.recompile import recompile
from max_whisper.compile.stored_spec import read_spec
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.progress import OnProgress, Progress
from max_whisper.runtime.vad.detector import VoiceDetector
from max_whisper.spec import Spec
from max_whisper.tools.bench.clocks import InstrumentedGraph, TimedGraph, Times
from max_whisper.tools.bench.peak_rates import PeakRates, Probes, higher
from max_whisper.tools.bench.phases import LOADS, peak_memory, timed
from max_whisper.tools.bench.roofline import Roofline, roofline

SECONDS = 60
"""The length of the recording of noise that is measured."""
STEPS = 200
"""The chunks that are measured one by one in a round."""


@dataclass(frozen=True)
class DetectorReport:
    """The results of a benchmark. Times are medians in milliseconds.

    Attributes:
        artifact: The artifact's folder.
        model: The name of the spec.
        rounds: The number of measurements.
        threads: The number of CPU cores that were used.
        load: The time of loading.
        recording: The time of a recording of SECONDS.
        step: The time of a chunk in a stream.
        chunk: The duration of a chunk in milliseconds.
        peak_memory: The peak memory of this process, in MB.
        peak_rates: The peak rates of the machine.
        roofline: The layers of the graph of one chunk.
    """

    artifact: Path
    model: str
    rounds: int
    threads: int
    load: float
    recording: float
    step: float
    chunk: float
    peak_memory: float
    peak_rates: PeakRates
    roofline: Roofline

    @property
    def speed(self) -> float:
        """How many seconds of a recording are computed in a second."""
        return 1000 * SECONDS / self.recording


def bench_detector(folder: Path, rounds: int, progress: OnProgress) -> DetectorReport:
    """Measures the artifact of a voice activity detector; `bench` says more, and which errors are raised."""
    artifact = open_family(folder, Manifest, VAD)
    detector, spec = VoiceDetector(artifact), read_spec(folder, artifact.manifest)
    samples = max(SECONDS * detector.sample_rate, STEPS * detector.n_samples)
    sound = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1
    recording = sound[: SECONDS * detector.sample_rate]
    recordings = [timed(lambda: detector.probabilities(recording))[1] for _ in range(rounds + 1)]
    steps = [timed(lambda: _step_through(detector, sound))[1] / STEPS for _ in range(rounds + 1)]
    memory = peak_memory()  # before the probes, which take more
    progress(Progress("measured a recording and a stream"))
    probes = Probes()
    before = probes.measure()
    progress(Progress("measured the machine"))
    times, calls = _kernel_times(artifact, spec, sound, progress)
    peak_rates = higher(before, probes.measure())
    layers = {node.path: node.flops_per_window for node in spec.parts["detector"].walk() if not node.children}
    return DetectorReport(
        artifact=folder,
        model=spec.name,
        rounds=rounds,
        threads=probes.threads,
        load=median(timed(lambda: VoiceDetector(open_family(folder, Manifest, VAD)))[1] for _ in range(LOADS)),
        recording=median(recordings[1:]),
        step=median(steps[1:]),
        chunk=1000 * detector.n_samples / detector.sample_rate,
        peak_memory=memory,
        peak_rates=peak_rates,
        roofline=roofline("step", calls, times, layers=layers, peak_rates=peak_rates),
    )


def _step_through(detector: VoiceDetector, sound: NDArray[np.float32]) -> None:
    """Computes the first STEPS chunks one by one."""
    stream = detector.stream()
    for chunk in sound[: STEPS * detector.n_samples].reshape(STEPS, -1):
        stream.step(chunk)


def _kernel_times(
    artifact: Artifact[Manifest], spec: Spec, sound: NDArray[np.float32], progress: OnProgress
) -> tuple[Times, list[KernelCall]]:
    """Returns the times of the graph of one chunk and of its kernels, and the calls of these.

    The graph is compiled once more, with timestamps around its kernels; both versions take turns.
    """
    instrumented, calls = recompile(artifact.folder, artifact.manifest, spec, progress=progress, instrument=True)
    plain = TimedGraph(artifact.graphs["step"])
    clocked = InstrumentedGraph(instrumented.graphs["step"], len(calls["step"]))
    versions: list[TimedGraph | InstrumentedGraph] = [plain, clocked]
    streams = [VoiceDetector(replace(artifact, graphs={"step": graph})).stream() for graph in versions]
    for chunk in sound[: STEPS * artifact.manifest.dims["n_samples"]].reshape(STEPS, -1):
        for stream in streams:
            stream.step(chunk)
    warm = slice(STEPS // 10, None)
    kernels = np.median(clocked.runs[warm], axis=0).tolist()
    progress(Progress("measured the layers"))
    return Times(kernels, median(plain.runs[warm])), calls["step"]
