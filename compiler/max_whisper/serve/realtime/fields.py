"""Reads the fields of a client's events, none of which can be relied on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from max_whisper.messages import one_of, suggestion
from max_whisper.serve.errors import RequestError
from max_whisper.serve.shown import can_be_written, shown

MOST_TEXTS = 10_000


def wrong_value(path: str, expected: str, got: object) -> RequestError:
    """Returns the error for a value. path: where it stands, as session.audio.input.format."""
    return RequestError(400, f"{path}: expected {expected}, got {shown(got)}", param=path, code="invalid_value")


def unsupported(path: str, why: str) -> RequestError:
    """Returns the error for what OpenAI's service has, and this server has not."""
    return RequestError(400, f"{path}: {why}", param=path, code="unsupported")


class Fields:
    """The fields of an object. Its methods raise RequestError, which names the field, for what is wrong.

    Attributes:
        path: Where the object stands.
    """

    def __init__(self, path: str, value: Any, known: Collection[str]) -> None:
        """Takes an object, which may have no fields but those that are known."""
        if not isinstance(value, dict):
            raise wrong_value(path, "an object", value)
        self.path = path
        self._values = value
        for name in value:
            if name not in known:
                where = f"{path}.{name}"
                raise RequestError(
                    400,
                    f"{where}: unknown field{suggestion(name, known)}; expected one of {', '.join(known)}",
                    param=where,
                    code="unknown_parameter",
                )

    def has(self, name: str) -> bool:
        """Returns whether a field is given, if only as null."""
        return name in self._values

    def value(self, name: str) -> Any:
        """Returns the value of a field; None where there is none."""
        return self._values.get(name)

    def wrong(self, name: str, expected: str, got: object) -> RequestError:
        """Returns the error for a field."""
        return wrong_value(f"{self.path}.{name}", expected, got)

    def object(self, name: str, known: Collection[str]) -> Fields:
        """Returns the fields of a field; of an empty one where there is none."""
        return Fields(f"{self.path}.{name}", {} if self.value(name) is None else self.value(name), known)

    def text(self, name: str) -> str | None:
        """Returns a text; None where there is none, or where it is empty."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, str) or not can_be_written(value):
            raise self.wrong(name, "text", value)
        return value.strip() or None

    def texts(self, name: str) -> Sequence[str]:
        """Returns a list of texts; an empty one where there is none."""
        values = [] if self.value(name) is None else self.value(name)
        if not isinstance(values, list) or len(values) > MOST_TEXTS:
            raise self.wrong(name, f"a list of at most {MOST_TEXTS} texts", values)
        for value in values:
            if not isinstance(value, str) or not can_be_written(value):
                raise self.wrong(name, "a list of texts", value)
        return values

    def word(self, name: str, words: Collection[str], why: str = "") -> str | None:
        """Returns one of several words; None where there is none. why: the reason why there are no others."""
        value = self.value(name)
        if value is not None and not (isinstance(value, str) and value in words):
            reason = f" ({why})" if why else ""
            raise self.wrong(name, f"{one_of(words)}{reason}", value)
        return value

    def number(self, name: str, low: float, high: float, default: float) -> float:
        """Returns a number; the default where there is none."""
        value = default if self.value(name) is None else self.value(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # nor NaN
            raise self.wrong(name, f"a number, {low:g} to {high:g}", value)
        return float(value)

    def integer(self, name: str, low: int, high: int, default: int) -> int:
        """Returns an integer; the default where there is none."""
        value = self.number(name, low, high, default)
        if not value.is_integer():
            raise self.wrong(name, f"an integer, {low} to {high}", value)
        return int(value)


def known(asked: Mapping[str, Any], *names: str) -> None:
    """Raises RequestError for an event with a field that is not known."""
    Fields(asked["type"], asked, ("type", "event_id", *names))
