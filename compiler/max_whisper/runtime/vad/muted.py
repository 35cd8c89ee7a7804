"""The spectrogram of a recording of which only the parts with speech are heard."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from max_whisper.runtime.audio.mel import HOP, Floats, LogMel
from max_whisper.runtime.audio.waveform import SAMPLE_RATE
from max_whisper.runtime.vad.speech import Part


class MutedMel:
    """A `LogMel` with silence between the parts with speech, so that the model makes up no text from music and noise.

    Attributes:
        n_mels: The number of mel bands.
        frames: The number of frames, the padding included.
        seconds: The duration of the recording in seconds, without the padding.
        loudness: That of each frame of the whole recording in dB.
        heard: Whether each frame before the padding is heard.
        speech: The parts that are heard, as start and end in seconds.
    """

    def __init__(self, mel: LogMel, parts: Sequence[Part]) -> None:
        """Takes the spectrogram of the whole recording, and its parts with speech in samples, in order."""
        self.n_mels, self.frames, self.seconds, self.loudness = mel.n_mels, mel.frames, mel.seconds, mel.loudness
        self.speech = [(part.first / SAMPLE_RATE, part.last / SAMPLE_RATE) for part in parts]
        self._mel = mel
        self._firsts = [part.first // HOP for part in parts]
        self._lasts = [-(-part.last // HOP) for part in parts]
        self.heard: npt.NDArray[np.bool_] = np.zeros(len(mel.loudness), bool)
        for first, last in zip(self._firsts, self._lasts, strict=True):
            self.heard[first:last] = True

    def heard_from(self, frame: int) -> int:
        """Returns the first frame from `frame` on in which something is heard; `frames` if there is none."""
        i = bisect_right(self._lasts, frame)
        return max(frame, self._firsts[i]) if i < len(self._firsts) else self.frames

    def part(self, first: int, last: int) -> Floats:
        """Returns the frames from `first` up to, without, `last`: float32 [n_mels, last - first]."""
        frames = np.full((self.n_mels, last - first), self._mel.silence, np.float32)
        for i in range(bisect_right(self._lasts, first), bisect_right(self._firsts, last)):
            begin, end = max(self._firsts[i], first), min(self._lasts[i], last)
            frames[:, begin - first : end - first] = self._mel.part(begin, end)
        return frames
