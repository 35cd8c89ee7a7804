"""What the fuzz tests share: cases that can be repeated, and a judge of outcomes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from max_whisper.errors import MaxWhisperError, WeightsError
from max_whisper.messages import LONGEST_MESSAGE


@dataclass(frozen=True)
class Budget:
    """The cases of a test. `--long HOURS` replaces their number and seconds by hours; `--seed N` gives other cases."""

    name: str  # the name of the test, as each has cases of its own
    seed: int
    hours: float

    def cases(self, count: int, seconds: float) -> Iterator[tuple[int, random.Random]]:
        """Yields numbers and generators of random numbers, at most `count`, for at most `seconds`.

        The same seed, name of a test and number give the same case.
        """
        end = time.monotonic() + (self.hours * 3600 or seconds)
        number = 0
        while time.monotonic() < end and (self.hours or number < count):
            yield number, random.Random(f"{self.seed}/{self.name}/{number}")
            number += 1
        assert number, "the time was over before the first case"


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a command."""

    code: int  # negative: the signal that killed it
    stdout: bytes
    stderr: bytes


def fault(outcome: Outcome) -> str:
    """Says what is wrong with the outcome of a command; "" if it is right.

    Right is exit code 0; or 1 for a failure or 2 for a mistake of the user, and then one readable line that begins with
    `error: `. Warnings may stand before it, each a line of its own.
    """
    if outcome.code not in (0, 1, 2):
        return f"exit code {outcome.code}"
    try:
        text = outcome.stderr.decode("utf-8")
    except UnicodeDecodeError:
        return "stderr is not UTF-8"
    lines = text.splitlines()
    if any("Traceback" in line or "Exception ignored" in line for line in lines):
        return "a traceback"
    if any(not line.isprintable() for line in lines):
        return "control characters in stderr"
    if any(len(line) > LONGEST_MESSAGE + len("warning: ") for line in lines):
        return "a line of stderr that is too long"
    errors = [line for line in lines if line.startswith("error: ")]
    if outcome.code and not (len(errors) == 1 and lines[-1] == errors[0]):
        return f"exit code {outcome.code} with {len(errors)} errors in {len(lines)} lines"
    if not outcome.code and errors:
        return "exit code 0 with an error"
    return ""


def refusal(call: Callable[[], object], *, kind: type[MaxWhisperError] = MaxWhisperError) -> str | None:
    """Calls a function that may refuse; returns the sentence with which it did, None if it did not.

    Fails for any other exception, for an error of another kind, and for a sentence that is not one readable line.
    """
    try:
        call()
    except kind as error:
        sentence = str(error)
        assert sentence.isprintable(), f"not safe to print: {sentence!r}"
        assert 10 <= len(sentence) <= LONGEST_MESSAGE, f"{len(sentence)} characters"
        return sentence
    return None


def refuses_weights(read: Callable[[Path], object], path: Path, case: object) -> bool:
    """Reads a file of weights; returns whether that was refused. Any failure names the case.

    A refusal is a WeightsError that names the file.
    """
    try:
        sentence = refusal(lambda: read(path), kind=WeightsError)
    except BaseException as e:
        raise AssertionError(f"{str(case)[:200]}: {type(e).__name__}: {e}"[:1000]) from e
    assert sentence is None or str(path) in sentence
    return sentence is not None
