"""Tests the judge of the fuzz tests: what it must let pass, and what it must find."""

from __future__ import annotations

import pytest
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.messages import LONGEST_MESSAGE
from support.harness import Outcome, fault, refusal

GOOD = [
    Outcome(0, b"text\n", b""),
    Outcome(0, b"", b"warning: a.mp3 is damaged\n"),
    Outcome(2, b"", b"error: there is no file x\n"),
    Outcome(1, b"", b"warning: a\nerror: b\n"),
]
BAD = {
    "exit code -11": Outcome(-11, b"", b""),
    "a traceback": Outcome(1, b"", b"Traceback (most recent call last):\n  x\nerror: y\n"),
    "control characters in stderr": Outcome(2, b"", b"error: \x1b[31mred\n"),
    "exit code 2 with 0 errors in 1 lines": Outcome(2, b"", b"usage\n"),
    "exit code 2 with 1 errors in 2 lines": Outcome(2, b"", b"error: a\nand more\n"),
    "exit code 0 with an error": Outcome(0, b"", b"error: a\n"),
    "stderr is not UTF-8": Outcome(2, b"", b"error: \xff\n"),
    "a line of stderr that is too long": Outcome(2, b"", b"error: " + b"x" * 9000 + b"\n"),
}


@pytest.mark.parametrize("outcome", GOOD, ids=lambda outcome: f"code-{outcome.code}")
def test_a_right_outcome_passes(outcome: Outcome) -> None:
    assert fault(outcome) == ""


@pytest.mark.parametrize("said", BAD)
def test_a_wrong_outcome_is_found(said: str) -> None:
    assert fault(BAD[said]) == said


def test_only_our_errors_are_refusals() -> None:
    def refuse() -> None:
        raise UserError("a name: \x1b[2J" + "x" * 100_000)

    def crash() -> None:
        raise ValueError("a name")

    sentence = refusal(refuse)
    assert sentence is not None and len(sentence) <= LONGEST_MESSAGE and "\\x1b[2J" in sentence
    assert refusal(lambda: None) is None
    with pytest.raises(ValueError, match="a name"):
        refusal(crash)
    with pytest.raises(MaxWhisperError):
        refusal(refuse, kind=type("Other", (MaxWhisperError,), {}))
