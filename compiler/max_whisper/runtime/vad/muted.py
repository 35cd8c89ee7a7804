"""The spectrogram of a recording of which only the parts with speech are heard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from max_whisper.runtime.audio.mel import HOP, Floats, LogMel
from max_whisper.runtime.vad.speech import Part


class MutedMel:
    """A `LogMel` with silence between the parts with speech, so that the model makes up no text from music and noise.

    Attributes:
        n_mels: The number of mel bands.
        frames: The number of frames, the padding included.
        seconds: The duration of the recording in seconds, without the padding.
        begins: The frame from which on something is heard.
        loudness: That of each frame of the whole recording in dB.
    """

    def __init__(self, mel: LogMel, parts: Sequence[Part]) -> None:
        """Takes the spectrogram of the whole recording, and its parts with speech in samples, in order."""
        self.n_mels, self.frames, self.seconds = mel.n_mels, mel.frames, mel.seconds
        self.loudness = mel.loudness
        self._mel = mel
        self._heard = [(part.first // HOP, -(-part.last // HOP)) for part in parts]
        self.begins = self._heard[0][0] if self._heard else 0

    def part(self, first: int, last: int) -> Floats:
        """Returns the frames from `first` up to, without, `last`: float32 [n_mels, last - first]."""
        frames = np.full((self.n_mels, last - first), self._mel.silence, np.float32)
        for begin, end in self._heard:
            begin, end = max(begin, first), min(end, last)
            if begin < end:
                frames[:, begin - first : end - first] = self._mel.part(begin, end)
        return frames
