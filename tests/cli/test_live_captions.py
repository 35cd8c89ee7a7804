"""Tests the lines of `max-whisper live`: what the model says, but without the marks of the phrase before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from max_whisper.cli.live.captions import Captions
from max_whisper.runtime.results import Segment, Word
from max_whisper.runtime.streaming.events import EventKind, StreamEvent

CASES = {
    " Hello.": "Hello.",
    ", the Gutenberg": "the Gutenberg",
    "...and so on": "...and so on",
    "... and so on, and on": "and so on, and on",
    "?! He went.": "He went.",
    " .5 percent": ".5 percent",
    ".NET": ".NET",
    "，然后呢？": "然后呢？",
    " - yes": "- yes",
    ' "Yes," he said.': '"Yes," he said.',
    "¿Qué?": "¿Qué?",
    " .": ".",
    "，": "，",
}


def event(kind: EventKind, text: str) -> StreamEvent:
    """Returns an event with the words of a text."""
    words = [Word(word, 0.0, 1.0, 1.0) for word in text.replace(" ", "\0 ").split("\0")]
    segment = Segment(0, 0.0, 1.0, text, [1], 0.0, 0.0, 1.0, 0.0) if kind == "final" else None
    return StreamEvent(kind, 0, 0.0, 1.0, text, words, segment)


def streams(*, terminal: bool, **methods: Any) -> Any:
    """Returns what stands in for the streams of a program, both of which are a terminal or a pipe."""
    end = SimpleNamespace(isatty=lambda: terminal, fileno=lambda: 1)
    return SimpleNamespace(stdout=end, stderr=end, **methods)


@pytest.mark.parametrize(("text", "line"), CASES.items())
def test_lines(text: str, line: str) -> None:
    written: list[str] = []
    captions = Captions(streams(terminal=False, write=written.append), to_stdout=True, for_files=True)
    captions.tell([event("final", text)])
    assert written == [f"{line}\n"]
    assert [segment.text for segment in captions.segments] == [text]  # as it is for files


@pytest.mark.parametrize(("text", "line"), CASES.items())
def test_texts_that_nobody_has_seen(text: str, line: str) -> None:
    """They are shown in the end, and look the same."""
    shown: list[str] = []
    captions = Captions(streams(terminal=True, show=shown.append), to_stdout=False, for_files=False)
    captions.tell([event("final", text)])
    captions.show_rest()
    assert shown == [line]


@pytest.mark.parametrize(
    ("confirmed", "hypothesis", "seen"),
    [
        ("", ", and so", "and so"),
        (", and", " so", "and so"),
        (",", " and so", "and so"),
        (" and", ", so", "and, so"),
        (" and", "", "and"),
        ("", "", ""),
    ],
)
def test_what_is_drawn_meanwhile(confirmed: str, hypothesis: str, seen: str) -> None:
    drawn: list[str] = []
    screen: Any = SimpleNamespace(show=lambda first, rest, state: drawn.append(first + rest))
    captions = Captions(streams(terminal=True), to_stdout=True, for_files=False)
    captions._screen = screen
    captions.tell([event("confirmed", confirmed), event("hypothesis", hypothesis)])
    assert drawn[-1].strip() == seen
