"""Options are declared once: type, range, unit and description stand in the annotation of a field.

    @dataclass(frozen=True)
    class SearchOptions(Options):
        beam_size: Annotated[int | None, Integer("Texts that are followed at once.", low=1, high=100)] = None

Making one checks every field, and a wrong value is a UserError that names it. The command line takes its options from
the same fields (cli/options.py). A field without a kind is refused when its class is made, so that an option that is
not checked cannot exist.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Real
from types import NoneType
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

import msgspec

from max_whisper.errors import UserError
from max_whisper.messages import LONGEST_QUOTE, printable, quote, suggestion

Function = TypeVar("Function", bound=Callable[..., Any])

LONGEST_TEXT = 100_000
"""Characters of a text option; of a prompt the model sees some 1,000."""


class Options:
    """The base of option classes: frozen dataclasses whose fields are annotated with a kind, and are checked by it.

    Values are kept in plain Python types: numpy's numbers become int and float, sequences become tuples.
    """

    declared: ClassVar[Mapping[str, Option]] = {}

    def __init_subclass__(cls) -> None:
        own = {name: Option.of(name, annotation) for name, annotation in cls.__annotations__.items()}
        cls.declared = {**cls.declared, **own}
        described = "\n".join(f"    {name}: {option.kind.described}" for name, option in cls.declared.items())
        cls.__doc__ = f"{(cls.__doc__ or '').rstrip()}\n\n{described}\n"

    def __post_init__(self) -> None:
        for name, option in self.declared.items():
            object.__setattr__(self, name, option.checked(getattr(self, name)))


class Option(msgspec.Struct, frozen=True):
    """A field of an option class. optional: whether None is a value, too."""

    name: str
    kind: Kind
    optional: bool

    @classmethod
    def of(cls, name: str, annotation: Any) -> Option:
        """Reads an annotation such as `Annotated[int | None, Integer(…)]`. Raises TypeError for one without a kind.

        It must be no text: modules with options go without `from __future__ import annotations`, because compiling the
        texts of all options takes 10 ms of every start.
        """
        kinds = [part for part in get_args(annotation)[1:] if isinstance(part, Kind)]
        if get_origin(annotation) is not Annotated or len(kinds) != 1:
            raise TypeError(f"option {name}: expected Annotated[type, one of options.Kind], got {annotation}")
        plain = get_args(annotation)[0]
        return cls(name, kinds[0], plain is NoneType or NoneType in get_args(plain))

    def checked(self, value: Any) -> Any:
        """Returns the value in plain Python types. Raises UserError for a wrong one."""
        return None if value is None and self.optional else self._taken(self.kind.checked, value, self.name)

    def parsed(self, text: str, shown: str) -> Any:
        """Returns the checked value that a text of the command line stands for; "none" is None where numbers are meant.

        shown: how the option is written there. Raises UserError for a wrong value.
        """
        if self.optional and isinstance(self.kind, Bounded) and text.lower() == "none":
            return None
        return self._taken(lambda text: self.kind.checked(self.kind.parsed(text)), text, shown)

    def _taken(self, take: Callable[[Any], Any], value: Any, shown: str) -> Any:
        try:
            return take(value)
        except Refused as refusal:
            expected = f"{refusal.expected}, or none" if self.optional else refusal.expected
            raise UserError(f"{shown}: expected {expected}, got {refusal.got}") from None


def checked_integer(name: str, value: Any, *, low: int, high: int) -> int:
    """Returns an argument that is no field of an option class as an int. Raises UserError, which calls it `name`."""
    number: int = Option(name, Integer("", low=low, high=high), optional=False).checked(value)
    return number


class Refused(Exception):
    """A kind does not take a value. expected, got: what an error message says of it."""

    def __init__(self, expected: str, value: Any, hint: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = _shown(value) + hint


class Kind(msgspec.Struct, frozen=True):
    """What values an option takes. help: one sentence. unit: of the value, as the command line shows it.

    unset: what holds where the option is None, as the command line shows it.
    """

    help: str
    unit: str = ""
    unset: str = ""

    @property
    def described(self) -> str:
        """The help, and what values there are, for the documentation of an option class."""
        return self.help

    def checked(self, value: Any) -> Any:
        """Returns the value in plain Python types; raises Refused for a wrong one."""
        raise NotImplementedError

    def parsed(self, text: str) -> Any:
        """Returns the value that a text of the command line stands for, unchecked; raises Refused for none."""
        return text


class Flag(Kind, frozen=True, kw_only=True):
    """True or False."""

    def checked(self, value: Any) -> bool:
        value = _plain(value)
        if not isinstance(value, bool):
            raise Refused("True or False", value)
        return value


class Bounded(Kind, frozen=True, kw_only=True):
    """Numbers from low to high, both included."""

    low: float
    high: float

    @property
    def described(self) -> str:
        return f"{self.help} [{self}]"

    def __str__(self) -> str:
        unit = f" {self.unit.lower()}" if self.unit in ("SECONDS", "DECIBELS") else ""
        return f"{self.low} to {self.high}{unit}"


class Integer(Bounded, frozen=True, kw_only=True):
    """An integer."""

    unit: str = "N"

    def checked(self, value: Any) -> int:
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise Refused(f"an integer, {self}", value)
        if not self.low <= plain <= self.high:
            raise Refused(str(self), value)
        return plain

    def parsed(self, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise Refused(f"an integer, {self}", text) from None


class Number(Bounded, frozen=True, kw_only=True):
    """A finite number. words: texts that are values, too."""

    words: tuple[str, ...] = ()

    def checked(self, value: Any) -> float | str:
        if isinstance(value, str) and value in self.words:
            return value
        number = _number(value)
        if number is None:
            raise Refused(", or ".join([f"a number, {self}", *self.words]), value)
        if not self.low <= number <= self.high:  # not true of NaN either
            raise Refused(str(self), value)
        return number

    def parsed(self, text: str) -> float | str:
        if text in self.words:
            return text
        try:
            return float(text)
        except ValueError:
            raise Refused(", or ".join([f"a number, {self}", *self.words]), text) from None


class Choice(Kind, frozen=True, kw_only=True):
    """One of some words."""

    words: tuple[str, ...]

    def checked(self, value: Any) -> str:
        expected = f"{', '.join(self.words[:-1])} or {self.words[-1]}"
        if not isinstance(value, str):
            raise Refused(expected, value)
        if value not in self.words:
            raise Refused(expected, value, suggestion(value, self.words))
        return value


class Text(Kind, frozen=True, kw_only=True):
    """Text of at most LONGEST_TEXT characters, all of which can be written as UTF-8."""

    def checked(self, value: Any) -> str:
        if not isinstance(value, str):
            raise Refused("text", value)
        return _text(value)


class TextOrIds(Kind, frozen=True, kw_only=True):
    """Text, or the ids of tokens. Whether the model has such tokens is seen when they are used."""

    def checked(self, value: Any) -> str | tuple[int, ...]:
        return _text(value) if isinstance(value, str) else _ids(value, "text or token ids", 0)


class Ids(Kind, frozen=True, kw_only=True):
    """Ids of tokens and -1, as a sequence, or as text with commas between them."""

    def checked(self, value: Any) -> tuple[int, ...]:
        expected = "ids with commas between them"
        if not isinstance(value, str):
            return _ids(value, "token ids", -1)
        try:
            return _ids([int(part) for part in value.split(",") if part.strip()], expected, -1)
        except ValueError:
            raise Refused(expected, value) from None


class Numbers(Bounded, frozen=True, kw_only=True):
    """At most `most` finite numbers: one, a sequence, or text with commas between them."""

    most: int

    def checked(self, value: Any) -> tuple[float, ...]:
        wanted = f"{self.unit.lower()} with commas between them, each {self.low:g} to {self.high:g}"
        if isinstance(value, str):
            try:
                items: list[Any] = [float(part) for part in value.split(",") if part.strip()]
            except ValueError:
                raise Refused(wanted, value) from None
        else:
            one = _number(value)
            items = [one] if one is not None else _items(value, f"a number or a sequence of them, {self}", self.most)
        if len(items) > self.most:
            raise Refused(f"at most {self.most} numbers", value)
        numbers = [_number(item) for item in items]
        for item, number in zip(items, numbers, strict=True):
            if number is None or not self.low <= number <= self.high:
                raise Refused(str(self), item)
        return tuple(number for number in numbers if number is not None)


def _plain(value: Any) -> Any:
    """Returns numpy's numbers and arrays without dimensions, and what counts as an integer, as Python's own."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int):  # bool among them
        return value
    try:
        return operator.index(value)
    except Exception:  # most values are no integers, and somebody else's class may raise anything
        return value


def _number(value: Any) -> float | None:
    """Returns a float, which may be NaN or infinite; None for what is no number, or is one too large for a float."""
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _text(value: str) -> str:
    if len(value) > LONGEST_TEXT:
        raise Refused(f"at most {LONGEST_TEXT} characters", f"{len(value)} of them")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("text that can be written as UTF-8", value) from None
    return value


def _ids(value: Any, expected: str, least: int) -> tuple[int, ...]:
    items = [_plain(item) for item in _items(value, expected, LONGEST_TEXT)]
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int):
            raise Refused(expected, item)
        if not least <= item < 2**31:
            raise Refused(f"{expected}, each {least} to {2**31 - 1}", item)
    return tuple(items)


def _items(value: Any, expected: str, most: int) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        raise Refused(expected, value)
    try:
        items = list(itertools.islice(value, most + 1))
    except Exception as e:  # what somebody else's class raises
        raise Refused(expected, value) from e
    if len(items) > most:
        raise Refused(f"at most {most} items", "more of them")
    return items


def _shown(value: Any) -> str:
    """Returns a value as an error message shows it, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = f"'{value}'" if isinstance(value, str) else f"{value}" if _number(value) is not None else repr(value)
    except Exception:  # the repr of somebody else's class
        text = f"a {type(value).__name__}"
    return printable(text, LONGEST_QUOTE + 2)


def options_of(arguments: Mapping[str, Any], *classes: type[Options]) -> list[Any]:
    """Returns one object of each option class, made of the arguments that are its fields.

    A name that several classes have belongs to the first of them.

    arguments: by name. Raises UserError for a value that is wrong, and for an option that no class has.
    """
    check_names(arguments, {name for options in classes for name in options.declared})
    left = {**arguments}
    return [options(**{name: left.pop(name) for name in options.declared if name in left}) for options in classes]


def check_names(names: Iterable[str], known: Collection[str]) -> None:
    """Raises UserError for the name of an option that there is not, with the nearest one."""
    for name in names:
        if name not in known:
            expected = suggestion(name, known) or f": expected one of {', '.join(sorted(known))}"
            raise UserError(f"unknown option {quote(name)}{expected}")


def lists_options(
    *classes: type[Options], only: Collection[str] = (), leave_out: Collection[str] = ()
) -> Callable[[Function], Function]:
    """Returns a decorator that lists the options of classes in the signature of a function that takes `**options`.

    help() and notebooks show this signature. A name that several classes have belongs to the first of them.

    only: the names that are options of the function, if not all are. leave_out: those that are not.
    """

    def decorate(function: Function) -> Function:
        own = inspect.signature(function)
        options = {
            field.name: inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default)
            for options in reversed(classes)
            for field in dataclasses.fields(options)  # type: ignore[arg-type]
            if field.name not in leave_out and (not only or field.name in only)
        }
        parameters = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = own.replace(parameters=[*parameters, *options.values()])  # type: ignore[attr-defined]
        return function

    return decorate
