"""Runs a compiled voice activity detector, such as Silero VAD."""

from __future__ import annotations

from os import PathLike

import numpy as np
from max.driver import Buffer
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from max_whisper.artifact.load import Artifact, open_family
from max_whisper.artifact.manifest import VAD, Manifest
from max_whisper.errors import ArtifactError, UserError
from max_whisper.runtime.audio.mel import Samples
from max_whisper.runtime.audio.recording import Recording
from max_whisper.runtime.audio.waveform import check_waveform

CHUNKS_AT_ONCE = 1024
"""The chunks of a recording that are computed in one call, half a minute, so that its memory does not grow."""


class VoiceDetector:
    """A compiled voice activity detector. Its methods may be called from several threads.

    Attributes:
        n_samples: The samples of a chunk, each of which has one probability.
        n_context: The samples before a chunk that the model sees, too.
        sample_rate: The samples of a second.
    """

    def __init__(self, artifact: Artifact[Manifest]) -> None:
        """Takes an artifact that `open_family` returned."""
        self._artifact = artifact
        dims = artifact.manifest.dims
        self.n_samples, self.n_context, self.sample_rate = (
            dims[name] for name in ("n_samples", "n_context", "sample_rate")
        )
        self._states = [tuple(map(int, port.shape)) for port in artifact.manifest.graphs["step"].inputs[1:]]

    def probabilities(self, waveform: ArrayLike | Samples) -> NDArray[np.float32]:
        """Returns the probability of speech in each chunk of a recording, float32 [chunks].

        Args:
            waveform: The sound [samples] at `sample_rate`, in the types that `transcribe` takes: float32 or float64 of
                full scale 1.0, or int16; or what `open_audio` returned, which need not fit into memory. The last chunk
                is filled up with zeros.

        Raises:
            AudioError: The array is empty, has another type or more dimensions, or is no sound of full scale 1.0.
            ForkError: The process was forked from the one that loaded the artifact.
            ArtifactError: A file of the artifact was changed.
        """
        samples = waveform if isinstance(waveform, Recording) else check_waveform(np.asarray(waveform))
        n_chunks, states = -(-len(samples) // self.n_samples), self._new_states()
        probabilities = np.zeros(n_chunks, np.float32)
        for first in range(0, n_chunks, CHUNKS_AT_ONCE):
            last = min(first + CHUNKS_AT_ONCE, n_chunks)
            chunks = np.ascontiguousarray(self._chunks(samples, first, last))
            probabilities[first:last] = self._run("recording", chunks, states)
        return probabilities

    def chunks(self, waveform: ArrayLike) -> NDArray[np.float32]:
        """Returns the chunks of a recording, each after its context: float32 [chunks, n_context + n_samples], a view.

        The waveform and the errors are those of `probabilities`. There are zeros before the recording, and after it.
        """
        samples = check_waveform(np.asarray(waveform))
        return self._chunks(samples, 0, -(-len(samples) // self.n_samples))

    def _chunks(self, samples: Samples, first: int, last: int) -> NDArray[np.float32]:
        """Returns the chunks from `first` up to, without, `last`, each after its context."""
        start, stop = first * self.n_samples - self.n_context, last * self.n_samples
        part = samples[max(0, start) : stop]
        before = max(0, -start)
        padded = np.pad(part, (before, stop - start - before - len(part)))
        return sliding_window_view(padded, self.n_context + self.n_samples)[:: self.n_samples]

    def stream(self) -> VoiceStream:
        """Returns a stream that takes one chunk after the other, as sound comes in."""
        return VoiceStream(self)

    def _new_states(self) -> list[Buffer]:
        """Returns the recurrent states before a recording, which are zeros."""
        return [Buffer.from_numpy(np.zeros(shape, np.float32)) for shape in self._states]

    def _run(self, graph: str, chunks: NDArray[np.float32], states: list[Buffer]) -> NDArray[np.float32]:
        """Returns the probabilities of chunks [n_chunks, n_context + n_samples], and moves the states on."""
        self._artifact.check()
        (output,) = self._artifact.graphs[graph].execute(Buffer.from_numpy(chunks), *states)
        probabilities: NDArray[np.float32] = output.to_numpy()
        if not np.isfinite(probabilities).all():
            raise ArtifactError(
                f"{self._artifact.folder} gives probabilities that are no numbers: its weights are wrong"
            )
        return probabilities


class VoiceStream:
    """The probabilities of speech in sound that comes in chunk by chunk, for one thread."""

    def __init__(self, detector: VoiceDetector) -> None:
        """Starts with silence before the first chunk."""
        self._detector = detector
        self._states = detector._new_states()
        self._samples = np.zeros((1, detector.n_context + detector.n_samples), np.float32)

    def step(self, chunk: ArrayLike) -> float:
        """Returns the probability of speech in the next chunk.

        Args:
            chunk: The sound [n_samples].

        Raises:
            UserError: The chunk has another length.
            AudioError, ForkError, ArtifactError: As for `VoiceDetector.probabilities`.
        """
        samples, expected = check_waveform(np.asarray(chunk)), self._detector.n_samples
        if len(samples) != expected:
            raise UserError(f"expected a chunk of {expected} samples, got {len(samples)}")
        n_context = self._detector.n_context
        self._samples[0, :n_context] = self._samples[0, -n_context:]
        self._samples[0, n_context:] = samples
        return float(self._detector._run("step", self._samples, self._states)[0])


def load_detector(folder: str | PathLike[str]) -> VoiceDetector:
    """Returns the voice activity detector of an artifact's folder.

    Raises UserError where there is none, ArtifactError where it is damaged or not for this machine or this version of
    MAX, and ForkError in a process that was forked from one that had loaded an artifact.
    """
    return VoiceDetector(open_family(folder, Manifest, VAD))
