"""Finds where a phrase begins and ends, by the probability of speech in each chunk of the sound."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.runtime.audio.waveform import SAMPLE_RATE
from max_whisper.runtime.vad.speech import SpeechSettings

LONG = 0.5
"""The part of the longest phrase from which on a phrase ends at ever shorter pauses, so that few need be cut."""
SHORTEST_PAUSE_MS = 100.0


@dataclass
class Endpoints:
    """Hears chunks of sound, and knows since when somebody speaks, and since when not any more.

    The thresholds are Silero's (`VADIterator`): between the two, speech goes on, and silence, too.

    Attributes:
        settings: The thresholds and lengths.
        longest: The seconds of the longest phrase.
        began: The sample at which the speech of the phrase began; None between phrases.
        silent_since: The sample since which nobody speaks; None while somebody does.
    """

    settings: SpeechSettings
    longest: float
    began: int | None = None
    silent_since: int | None = None

    def hear(self, probability: float, first: int) -> None:
        """Takes the probability of speech in the chunk that begins at the sample `first`."""
        if probability >= self.settings.threshold:
            self.began = first if self.began is None else self.began
            self.silent_since = None
        elif self.began is not None and self.silent_since is None and probability < self.settings.end_threshold:
            self.silent_since = first

    def spoken(self, now: int) -> float:
        """Returns the length of the speech so far in milliseconds, with pauses but without the silence behind it."""
        if self.began is None:
            return 0.0
        return 1000 * ((now if self.silent_since is None else self.silent_since) - self.began) / SAMPLE_RATE

    def silence(self, now: int) -> float:
        """Returns the length of the silence behind the speech in milliseconds."""
        return 0.0 if self.silent_since is None else 1000 * (now - self.silent_since) / SAMPLE_RATE

    def ended(self, now: int) -> bool:
        """Returns whether the silence behind the speech ends the phrase."""
        if self.began is None or self.silent_since is None:
            return False
        return self.silence(now) >= self._pause_ms((self.silent_since - self.began) / SAMPLE_RATE)

    def reset(self) -> None:
        """Begins anew after a phrase."""
        self.began = self.silent_since = None

    def cut(self, began: int) -> None:
        """Goes on with the next phrase, which began where the one before it was cut."""
        self.began = began
        if self.silent_since is not None and self.silent_since < began:
            self.silent_since = began

    def _pause_ms(self, seconds: float) -> float:
        """Returns the length of a pause that ends a phrase of so many seconds."""
        pause = self.settings.min_silence_duration_ms
        share = min(1.0, max(0.0, (seconds / self.longest - LONG) / (1 - LONG)))
        return pause + share * (min(SHORTEST_PAUSE_MS, pause) - pause)
