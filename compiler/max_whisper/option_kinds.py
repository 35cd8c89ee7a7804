"""The kinds of options: the values that an option takes, and the errors for any other value."""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, ClassVar

import msgspec

from max_whisper.messages import LONGEST_QUOTE, printable, suggestion

LONGEST_TEXT = 100_000
"""The most characters of a text option; of a prompt, a model sees the last 1,000 or so."""


class Refused(Exception):
    """Raised for a value that a kind does not take; `expected` and `got` are the parts of the error message."""

    def __init__(self, expected: str, value: Any, hint: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = _shown(value) + hint


class Kind(msgspec.Struct, frozen=True):
    """The values that an option takes, and what its help says.

    Attributes:
        help: One or more sentences. `{name}` stands for another option, which Python and the command line spell
            differently.
        values: What a value is in Python, as the tables of the documentation say it.
        unit: The placeholder for a value, as the command line shows it behind the option: `SECONDS`.
        unset: What happens where the option is None, as the command line shows it behind `default:`.
    """

    values: ClassVar[str] = ""

    help: str
    unit: str = "TEXT"
    unset: str = ""

    def __repr__(self) -> str:
        """Returns the kind and its bounds, without the help, so that `help()` shows signatures that one can read."""
        return f"{type(self).__name__}({self.range})"

    @property
    def range(self) -> str:
        """The values that are taken, where they have bounds: "1 to 100"; else empty."""
        return ""

    def checked(self, value: Any) -> Any:
        """Returns the value in plain Python types. Raises Refused for a wrong one."""
        raise NotImplementedError

    def parsed(self, text: str) -> Any:
        """Returns the value that a text of the command line stands for, unchecked. Raises Refused if there is none."""
        return text


class Flag(Kind, frozen=True, kw_only=True):
    """True or False."""

    values = "`True` or `False`"

    def checked(self, value: Any) -> bool:
        """Returns the value as Python's own bool. Raises Refused for anything else, integers among it."""
        plain = _plain(value)
        if not isinstance(plain, bool):
            raise Refused("True or False", value)
        return plain


class Bounded(Kind, frozen=True, kw_only=True):
    """Numbers from `low` to `high`, both included; some kinds take one of `words` as well."""

    number: ClassVar[type[int | float | str]] = float

    low: float
    high: float
    words: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """The bounds, with the unit where it is one of measure: "0 to 30 seconds"."""
        unit = f" {self.unit.lower()}" if self.unit in ("SECONDS", "DECIBELS") else ""
        return f"{self.low} to {self.high}{unit}"

    def parsed(self, text: str) -> Any:
        """Returns the number that a text is, or the word. Raises Refused if it is neither."""
        if text in self.words:
            return text
        try:
            return self.number(text)
        except ValueError:
            raise Refused(self._expected, text) from None

    @property
    def _expected(self) -> str:
        kind = "an integer" if self.number is int else "a number"
        return ", or ".join([f"{kind}, {self.range}", *self.words])


class Integer(Bounded, frozen=True, kw_only=True):
    """An integer within bounds, or one of `words`."""

    number = int
    unit: str = "N"

    def checked(self, value: Any) -> int | str:
        """Returns the value as an int, or the word. Raises Refused for anything else."""
        if isinstance(value, str) and value in self.words:
            return value
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise Refused(self._expected, value)
        if not self.low <= plain <= self.high:
            raise Refused(self.range, value)
        return plain


class Number(Bounded, frozen=True, kw_only=True):
    """A finite number within bounds, or one of `words`."""

    def checked(self, value: Any) -> float | str:
        """Returns the value as a float, or the word. Raises Refused for anything else, NaN among it."""
        if isinstance(value, str) and value in self.words:
            return value
        number = _float(value)
        if number is None:
            raise Refused(self._expected, value)
        if not self.low <= number <= self.high:  # not true of NaN either
            raise Refused(self.range, value)
        return number


class Choice(Kind, frozen=True, kw_only=True):
    """A word of a list."""

    words: tuple[str, ...]

    def checked(self, value: Any) -> str:
        """Returns the word. Raises Refused, with the nearest word, for anything else."""
        expected = f"{', '.join(self.words[:-1])} or {self.words[-1]}"
        if not isinstance(value, str):
            raise Refused(expected, value)
        if value not in self.words:
            raise Refused(expected, value, suggestion(value, self.words))
        return value


class Text(Kind, frozen=True, kw_only=True):
    """Text of at most LONGEST_TEXT characters, all of which can be written as UTF-8."""

    values = "text"

    def checked(self, value: Any) -> str:
        """Returns the text. Raises Refused for anything else."""
        if not isinstance(value, str):
            raise Refused("text", value)
        return _text(value)


class Folder(Kind, frozen=True, kw_only=True):
    """The path of a folder; whether there is one is checked when it is used."""

    values = "a path"

    unit: str = "DIR"

    def checked(self, value: Any) -> str:
        """Returns the path as text. Raises Refused for anything else, and for an empty one."""
        path = os.fspath(value) if isinstance(value, str | os.PathLike) else b""
        if isinstance(path, bytes) or not path:
            raise Refused("a path", value)
        return path


class TextOrIds(Kind, frozen=True, kw_only=True):
    """Text, or ids of tokens, at most `longest`. Whether the model has such tokens is checked when they are used."""

    values = "text or token ids"
    longest: int = LONGEST_TEXT

    def checked(self, value: Any) -> str | tuple[int, ...]:
        """Returns the text, or the ids as a tuple. Raises Refused for anything else."""
        return _text(value, self.longest) if isinstance(value, str) else _ids(value, self.values, 0, self.longest)


class Ids(Kind, frozen=True, kw_only=True):
    """Ids of tokens and -1, as a sequence, or as text with commas between them."""

    values = "token ids"

    def checked(self, value: Any) -> tuple[int, ...]:
        """Returns the ids as a tuple. Raises Refused for anything else."""
        expected = "ids with commas between them"
        if not isinstance(value, str):
            return _ids(value, "token ids", -1)
        try:
            return _ids([int(part) for part in value.split(",") if part.strip()], expected, -1)
        except ValueError:
            raise Refused(expected, value) from None


class Numbers(Bounded, frozen=True, kw_only=True):
    """At most `most` finite numbers: one, a sequence, or text with commas between them."""

    number = str  # `checked` takes the text apart
    most: int

    def checked(self, value: Any) -> tuple[float, ...]:
        """Returns the numbers as a tuple of floats. Raises Refused for anything else."""
        expected = f"{self.unit.lower()} with commas between them, each {self.low:g} to {self.high:g}"
        if isinstance(value, str):
            try:
                items: list[Any] = [float(part) for part in value.split(",") if part.strip()]
            except ValueError:
                raise Refused(expected, value) from None
        else:
            one, asked = _float(value), f"a number or a sequence of them, {self.range}"
            items = [one] if one is not None else _items(value, asked, self.most)
        if len(items) > self.most:
            raise Refused(f"at most {self.most} numbers", value)
        numbers = [_float(item) for item in items]
        for item, number in zip(items, numbers, strict=True):
            if number is None or not self.low <= number <= self.high:
                raise Refused(self.range, item)
        return tuple(number for number in numbers if number is not None)


def _plain(value: Any) -> Any:
    """Returns numpy's numbers and arrays without dimensions, and what counts as an integer, as Python's own types."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int):  # bool among them
        return value
    try:
        return operator.index(value)
    except Exception:  # most values are no integers, and somebody else's class may raise anything
        return value


def _float(value: Any) -> float | None:
    """Returns a float, which may be NaN or infinite; None for what is no number, or is too large for a float."""
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _text(value: str, longest: int = LONGEST_TEXT) -> str:
    if len(value) > longest:
        raise Refused(f"at most {longest} characters", f"{len(value)} of them")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("text that can be written as UTF-8", value) from None
    return value


def _ids(value: Any, expected: str, lowest: int, longest: int = LONGEST_TEXT) -> tuple[int, ...]:
    items = [_plain(item) for item in _items(value, expected, longest)]
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int):
            raise Refused(expected, item)
        if not lowest <= item < 2**31:
            raise Refused(f"{expected}, each {lowest} to {2**31 - 1}", item)
    return tuple(items)


def _items(value: Any, expected: str, most: int) -> list[Any]:
    """Returns the items of a sequence. Raises Refused for what is none, and for more than `most` of them."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        raise Refused(expected, value)
    try:
        items = list(itertools.islice(value, most + 1))
    except Exception as e:  # somebody else's class may raise anything
        raise Refused(expected, value) from e
    if len(items) > most:
        raise Refused(f"at most {most} items", "more of them")
    return items


def _shown(value: Any) -> str:
    """Returns a value as an error message shows it, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = f"'{value}'" if isinstance(value, str) else f"{value}" if _float(value) is not None else repr(value)
    except Exception:  # the repr of somebody else's class
        text = f"a {type(value).__name__}"
    return printable(text, LONGEST_QUOTE + 2)
