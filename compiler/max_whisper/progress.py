"""Reports of progress, of one type everywhere in this package.

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
    """How far a build, a download or a transcription is.

    message: a sentence for people, such as "compiled the encoder in 31 s" or "transcribed 90 of 600 s".
    done, total: how much is done and how much there is, in `unit`; total is 0 where it is unknown.
    unit: "seconds" of a recording, "bytes" of a download, or "" where only the message counts.
    index: which of the recordings of `transcribe_batch`, from 0; else 0.
    """

    message: str
    done: float = 0.0
    total: float = 0.0
    unit: Literal["seconds", "bytes", ""] = ""
    index: int = 0


OnProgress: TypeAlias = Callable[[Progress], None]


def unheard(progress: Progress) -> None:
    """Does nothing: the default of every `progress` parameter."""


def check_progress(progress: object) -> None:
    """Raises UserError for a `progress` that cannot be called."""
    if not callable(progress):
        raise UserError(f"progress: expected a function, got {progress!r}")
