"""What a model recognized in recordings, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.tools.eval.manifest import NO_SPEECH, Recording
from max_whisper.tools.eval.scoring import Score


@dataclass(frozen=True)
class Outcome:
    """What a model recognized in one recording.

    Attributes:
        recording: The recording.
        text: What was recognized.
        language: The code of the language in which it was transcribed, which was given or detected.
        seconds: The duration of the recording.
        wall_seconds: How long transcribing it took, with the decoding of its file.
        score: How the text differs from what was said; all that is recognized where nobody speaks is an insertion.
    """

    recording: Recording
    text: str
    language: str
    seconds: float
    wall_seconds: float
    score: Score

    @property
    def silent(self) -> bool:
        """Whether nobody speaks in the recording."""
        return self.recording.language == NO_SPEECH


@dataclass(frozen=True)
class Failure:
    """A recording that could not be transcribed.

    Attributes:
        recording: The recording.
        reason: A sentence that says why.
    """

    recording: Recording
    reason: str


@dataclass(frozen=True)
class Run:
    """What one model did with all recordings.

    Attributes:
        label: The name of the model in the report.
        model: The folder or spec, as it was given.
        spec: The name of the model's spec, such as "whisper-tiny".
        dtype: The data type of its weights.
        outcomes: The recordings that it transcribed, in the order of the manifest.
        failures: The recordings that could not be transcribed.
        skipped: The recordings in languages that the model does not know.
    """

    label: str
    model: str
    spec: str
    dtype: str
    outcomes: tuple[Outcome, ...]
    failures: tuple[Failure, ...]
    skipped: tuple[Recording, ...]

    @property
    def audio_seconds(self) -> float:
        """The duration of all that was transcribed."""
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def wall_seconds(self) -> float:
        """How long that took."""
        return sum(outcome.wall_seconds for outcome in self.outcomes)

    @property
    def speed(self) -> float | None:
        """Seconds of sound that are transcribed in a second, the inverse real-time factor; None if nothing was."""
        return self.audio_seconds / self.wall_seconds if self.outcomes else None

    @property
    def spoken(self) -> list[Outcome]:
        """The recordings in which somebody speaks."""
        return [outcome for outcome in self.outcomes if not outcome.silent]

    @property
    def silence(self) -> list[Outcome]:
        """The recordings in which nobody speaks."""
        return [outcome for outcome in self.outcomes if outcome.silent]
