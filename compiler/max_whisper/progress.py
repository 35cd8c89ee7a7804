"""The type of progress reports, which is the same everywhere in this package.

Whatever takes long calls a function with each report:

    def show(progress: max_whisper.Progress) -> None:
        print(progress.message)

    max_whisper.build("tiny.yaml", progress=show)
    model.transcribe("speech.flac", progress=show)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from max_whisper.errors import UserError


@dataclass(frozen=True)
class Progress:
    """A report of how far a build, a download or a transcription is.

    Attributes:
        message: A sentence for people, such as "compiled the encoder in 31 s" or "transcribed 90 of 600 s".
        done: The amount that is done, in `unit`.
        total: The whole amount, in `unit`; 0 if it is unknown.
        unit: "seconds" of a recording, "bytes" of a download, or "" where there is only the message.
        index: The index of the recording in a batch, from 0; 0 for anything else.
    """

    message: str
    done: float = 0.0
    total: float = 0.0
    unit: Literal["seconds", "bytes", ""] = ""
    index: int = 0


OnProgress: TypeAlias = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Does nothing: the default of every `progress` parameter."""


def check_progress(progress: object) -> None:
    """Raises UserError for a `progress` that cannot be called."""
    if not callable(progress):
        raise UserError(f"progress: expected a function, got {progress!r}")
