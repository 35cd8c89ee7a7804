"""The errors that people see: one sentence with what was wrong, where, what was expected, what to do next."""

from __future__ import annotations

from max_whisper.messages import printable


class MaxWhisperError(Exception):
    """Something failed that the user could not have known; the command line exits with 1.

    The message is one line: whatever a file, the Hub or another library put into it is made safe to print here.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UserError(MaxWhisperError):
    """The user asked for something that cannot be done as asked; the command line exits with 2."""

    exit_code = 2


class SpecError(UserError):
    """A model spec is wrong; the message starts with `file:line: key:`."""


class WeightsError(UserError):
    """A checkpoint does not hold what the spec asks for, or cannot be read."""


class HubError(MaxWhisperError):
    """The Hugging Face Hub could not be reached, or sent something broken."""


class AudioError(UserError):
    """An audio or video file cannot be read, or holds nothing to transcribe."""


class ArtifactError(MaxWhisperError):
    """A compiled artifact is damaged, or does not fit this machine or this MAX."""


class CompileError(MaxWhisperError):
    """MAX could not compile a graph."""


class Cancelled(MaxWhisperError):
    """The caller ended the work before its result was there."""

    def __init__(self, message: str = "the work was cancelled before its end: there is no result of it") -> None:
        super().__init__(message)


class ForkError(MaxWhisperError):
    """A model was used or loaded in a process that was forked from one that had loaded a model."""
