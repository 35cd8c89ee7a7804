"""The options that say which parts of a recording are transcribed.

The names and defaults of voice activity detection are those of faster-whisper's `VadOptions`, with `vad_` before them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Annotated, Literal, TypedDict

from max_whisper.option_kinds import Choice, Flag, Folder, Integer, Number, Numbers
from max_whisper.options import OptionError, Options
from max_whisper.runtime.audio.waveform import MAX_SECONDS
from max_whisper.runtime.vad.speech import SpeechSettings

MAX_MS = 1000 * MAX_SECONDS

Detector = Literal["silero", "loudness"]
DETECTORS: tuple[Detector, ...] = ("silero", "loudness")
OF_ONE_DETECTOR: dict[str, Detector] = {
    "vad_threshold": "silero",
    "vad_neg_threshold": "silero",
    "vad_model": "silero",
    "vad_loudness": "loudness",
}
"""The options that only one of the detectors has."""


@dataclass(frozen=True)
class PartOptions(
    Options,
    headings={"audio_track": "Parts of a recording", "vad_filter": "Parts with speech (voice activity detection)"},
):
    """The parts of a recording that are transcribed."""

    audio_track: Annotated[
        int | None,
        Integer(
            "Transcribe this audio track of a file that has several; the first is 0.",
            low=0,
            high=1000,
            unset="the file's default track",
        ),
    ] = None
    clip_timestamps: Annotated[
        str | Sequence[float],
        Numbers(
            "Transcribe only these parts, given as start,end,start,end,... Without its end, the last part goes "
            "to the end of the recording, so that 0 is the whole.",
            low=0,
            high=MAX_SECONDS,
            unit="SECONDS",
            most=10_000,
        ),
    ] = "0"
    vad_filter: Annotated[
        bool,
        Flag(
            "Transcribe only the parts in which somebody speaks, so that no text is made up on music, noise and "
            "silence, and long pauses take no time. Silero VAD finds them: at its first use it is compiled, from the "
            "weights in 'max-whisper[vad]'."
        ),
    ] = False
    vad: Annotated[
        Detector | None,
        Choice(
            "Transcribe only the parts in which this detector finds speech, with {vad_filter} or without: Silero VAD, "
            "or one without a model that goes by loudness, and takes loud music and noise for speech.",
            words=DETECTORS,
            unset="silero with {vad_filter}, else all is transcribed",
        ),
    ] = None
    vad_threshold: Annotated[
        float,
        Number("Speech begins where it is at least as probable as this.", low=0, high=1, unit="PROBABILITY"),
    ] = 0.5
    vad_neg_threshold: Annotated[
        float | None,
        Number(
            "Speech may end where it is less probable than this.",
            low=0,
            high=1,
            unit="PROBABILITY",
            unset="0.15 less than {vad_threshold}, at least 0.01",
        ),
    ] = None
    vad_min_speech_duration_ms: Annotated[
        int, Integer("Leave out parts that are not longer than this.", low=0, high=MAX_MS, unit="MILLISECONDS")
    ] = 0
    vad_max_speech_duration_s: Annotated[
        float | None,
        Number(
            "Transcribe at most this long a part at once: longer ones are cut, if possible at their last pause, and "
            "shorter ones are joined.",
            low=1,
            high=MAX_SECONDS,
            unit="SECONDS",
            unset="parts are not cut, and joined up to four windows",
        ),
    ] = None
    vad_min_silence_duration_ms: Annotated[
        int, Integer("End a part at a pause of this length.", low=0, high=MAX_MS, unit="MILLISECONDS")
    ] = 2000
    vad_speech_pad_ms: Annotated[
        int,
        Integer(
            "Add this time to both ends of a part, so that no word is cut; half of the pause where that is shorter.",
            low=0,
            high=MAX_MS,
            unit="MILLISECONDS",
        ),
    ] = 400
    vad_model: Annotated[
        str | os.PathLike[str] | None,
        Folder(
            'Folder of a voice detector that "build" made.', unset="Silero VAD in the cache, built at its first use"
        ),
    ] = None
    vad_loudness: Annotated[
        float,
        Number(
            "How much louder than the quietest moments speech is, at least. Needs {vad} loudness.",
            low=0,
            high=200,
            unit="DECIBELS",
        ),
    ] = 10.0

    def check(self) -> None:
        """Raises OptionError for values that conflict with each other."""
        if any(start > end for start, end in pairwise(self.clip_times)):
            times = ", ".join(f"{time:g}" for time in self.clip_times)
            raise OptionError("{clip_timestamps}: expected seconds in order, got {times}", times=times)
        given = [field.name for field in fields(self) if getattr(self, field.name) != getattr(_DEFAULTS, field.name)]
        if self.detector is None:
            for name in given:
                if name.startswith("vad_"):
                    raise OptionError(f"{{{name}}}: is for {{vad_filter}} or {{vad}}, give one of them too")
            return
        if "clip_timestamps" in given:
            raise OptionError("{vad_filter}, {vad}: find the clips themselves; leave them out, or {clip_timestamps}")
        for name in given:
            if OF_ONE_DETECTOR.get(name, self.detector) != self.detector:
                detector = OF_ONE_DETECTOR[name]
                raise OptionError(f"{{{name}}}: is for {{vad}} {detector}; give that, or leave it out")
        if self.vad_neg_threshold is not None and self.vad_neg_threshold > self.vad_threshold:
            raise OptionError(
                "{vad_neg_threshold}: expected at most {vad_threshold}, which is {most:g}, got {got:g}",
                most=self.vad_threshold,
                got=self.vad_neg_threshold,
            )

    @property
    def detector(self) -> Detector | None:
        """The detector that finds the parts with speech; None where all parts are transcribed."""
        return self.vad or ("silero" if self.vad_filter else None)

    @property
    def clip_times(self) -> tuple[float, ...]:
        """The times in seconds at which parts of the recording begin and end in turn."""
        return tuple(float(time) for time in self.clip_timestamps)

    @property
    def speech(self) -> SpeechSettings:
        """How probabilities of speech become parts with speech."""
        return SpeechSettings(
            threshold=self.vad_threshold,
            neg_threshold=self.vad_neg_threshold,
            min_speech_duration_ms=self.vad_min_speech_duration_ms,
            max_speech_duration_s=self.vad_max_speech_duration_s,
            min_silence_duration_ms=self.vad_min_silence_duration_ms,
            speech_pad_ms=self.vad_speech_pad_ms,
        )


_DEFAULTS = PartOptions()


class PartKeywords(TypedDict, total=False):
    """The options of `PartOptions`, for type checkers and editors."""

    audio_track: int | None
    clip_timestamps: str | Sequence[float]
    vad_filter: bool
    vad: Detector | None
    vad_threshold: float
    vad_neg_threshold: float | None
    vad_min_speech_duration_ms: int
    vad_max_speech_duration_s: float | None
    vad_min_silence_duration_ms: int
    vad_speech_pad_ms: int
    vad_model: str | os.PathLike[str] | None
    vad_loudness: float
