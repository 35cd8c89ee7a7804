"""The errors that people see: each is one sentence that says what was wrong, where, and what to do next."""

from __future__ import annotations

from max_whisper.messages import printable


class MaxWhisperError(Exception):
    """The base class of this package's errors, and a failure that the user could not have known of.

    The message is one line. Text in it that comes from a file, the Hub or another library is made safe to print.

    Attributes:
        exit_code: The exit code of the command line after this error.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Makes an error with a message of one sentence."""
        super().__init__(printable(message))


class UserError(MaxWhisperError):
    """Something that the user asked for cannot be done as asked; the command line exits with 2."""

    exit_code = 2


class SpecError(UserError):
    """A model spec is wrong; the message starts with `file:line: key:`."""


class WeightsError(UserError):
    """A checkpoint cannot be read, or does not hold the tensors and files that the spec needs."""


class HubError(MaxWhisperError):
    """The Hugging Face Hub cannot be reached, or has sent something broken."""


class AudioError(UserError):
    """An audio or video file cannot be read, or has no sound to transcribe."""


class NoRoomError(MaxWhisperError):
    """The temporary folder is full. The sound is not at fault, and may be taken when there is room again."""


class ArtifactError(MaxWhisperError):
    """A compiled artifact is damaged, or does not fit this machine, this version of MAX or of max-whisper."""


class CompileError(MaxWhisperError):
    """MAX cannot compile a graph."""


class Cancelled(MaxWhisperError):
    """The caller ended the work before its result was there. `Transcriber.result` has the windows that were done."""

    def __init__(self) -> None:
        super().__init__("the work was cancelled before its end: what was found until then is kept")


class ForkError(MaxWhisperError):
    """A model was used or loaded in a process that was forked from one that had loaded a model."""
