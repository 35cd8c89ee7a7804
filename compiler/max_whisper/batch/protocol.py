"""The messages between a run and its workers, which are frames of msgpack through two pipes."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec


class Start(msgspec.Struct, tag=True, frozen=True):
    """Says what a worker works with; it is the first message.

    Attributes:
        artifact: The folder of the model.
        options: The options of `Model.transcribe`, by name.
        cores: The CPU cores that it uses; empty where the system does not bind processes to cores.
    """

    artifact: bytes
    options: dict[str, Any]
    cores: list[int]


class Task(msgspec.Struct, tag=True, frozen=True):
    """Asks for the transcription of a recording.

    Attributes:
        number: The number of the recording in this run.
        file: Its path.
        name: Its path or URL, as messages and its row have it.
        key: Its key.
        windows: The file with the windows that are done already; empty for none.
    """

    number: int
    file: bytes
    name: str
    key: str
    windows: bytes


class Measure(msgspec.Struct, tag=True, frozen=True):
    """Asks how fast the worker transcribes the beginning of a recording, for so many seconds."""

    file: bytes
    seconds: float


class Stop(msgspec.Struct, tag=True, frozen=True):
    """Asks to stop each recording after its window."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Says that the model is loaded, and how many recordings are transcribed at once."""

    at_once: int


class Opened(msgspec.Struct, tag=True, frozen=True):
    """Says that a recording was read.

    Attributes:
        number: The number of the recording.
        seconds: How long it is.
        resumed: The number of windows that are taken from an earlier run.
        done: The seconds that these are.
    """

    number: int
    seconds: float
    resumed: int
    done: float


class Heard(msgspec.Struct, tag=True, frozen=True):
    """Gives a window of a recording, as msgpack, and the seconds that are done."""

    number: int
    done: float
    window: bytes


class Ended(msgspec.Struct, tag=True, frozen=True):
    """Gives the row of a recording, as JSON."""

    number: int
    row: bytes


class Refused(msgspec.Struct, tag=True, frozen=True):
    """Says why a recording cannot be transcribed."""

    number: int
    error: str


class Stopped(msgspec.Struct, tag=True, frozen=True):
    """Says that a recording was stopped before its end."""

    number: int


class Died(msgspec.Struct, tag=True, frozen=True):
    """Says how the process ended that transcribed a recording; the run tells itself."""

    number: int
    reason: str


class Measured(msgspec.Struct, tag=True, frozen=True):
    """Gives the seconds of sound that were transcribed in a second."""

    rate: float


class Broken(msgspec.Struct, tag=True, frozen=True):
    """Says why the worker cannot go on, whatever the recording is: the run has to end.

    Attributes:
        error: A sentence.
        is_users: Whether it is a mistake of the user (UserError).
    """

    error: str
    is_users: bool


ToWorker: TypeAlias = Start | Task | Measure | Stop
OfRecording: TypeAlias = Opened | Heard | Ended | Refused | Stopped | Died
FromWorker: TypeAlias = Ready | Opened | Heard | Ended | Refused | Stopped | Measured | Broken
