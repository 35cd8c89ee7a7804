"""No text is lost by Ctrl-C, whenever it comes."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from max_whisper.cli.interrupts import Interrupted, Interrupts
from max_whisper.cli.streams import NoBar
from max_whisper.cli.transcribing import transcribe_files
from max_whisper.runtime.transcription.batch import BatchEvent


class Finished:
    """The transcriber of a recording whose windows are done; Ctrl-C comes when somebody first looks at these."""

    segments: tuple[Any, ...] = ()
    seconds = 2.0

    def __init__(self) -> None:
        self.interrupted = False

    @property
    def windows(self) -> list[Any]:
        if not self.interrupted:
            self.interrupted = True
            os.kill(os.getpid(), signal.SIGINT)
        return [SimpleNamespace(end=2.0)]

    def result(self) -> str:
        return "text"


def test_ctrl_c_before_a_text_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_whisper.cli.interrupts.SIGNALS", (signal.SIGINT,))
    transcriber: Any = Finished()
    events: Any = [BatchEvent(0, "opening"), BatchEvent(0, "opened", transcriber), BatchEvent(0, "ended", transcriber)]
    show: Any = SimpleNamespace(
        progress=lambda: nullcontext(NoBar()),
        speech=lambda name, transcriber: None,
        invented=lambda name, transcriber: None,
    )
    written: list[tuple[int, str, bool]] = []
    texts: Any = SimpleNamespace(
        follow=lambda number, segments: None,
        finish=lambda number, result, complete: written.append((number, result, complete)),
    )
    with Interrupts() as interrupts, pytest.raises(Interrupted):
        transcribe_files(["talk.wav"], events, show, texts, interrupts)
    assert written == [(0, "text", True)]


def test_a_delay_lasts_to_the_end_of_the_outer_block() -> None:
    reached: list[str] = []
    with Interrupts() as interrupts, pytest.raises(Interrupted), interrupts.held():
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGINT)
        reached.append("behind the inner block")
    assert reached


def test_an_interrupt_that_is_taken_is_not_raised() -> None:
    with Interrupts() as interrupts, interrupts.held():
        assert not interrupts.waiting and interrupts.take() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.waiting
        taken = interrupts.take()
        assert taken is not None and taken.exit_code == 130
        assert not interrupts.waiting and interrupts.take() is None
