"""Declares options once, with type, range, unit and description in the annotation of a field.

    @dataclass(frozen=True)
    class SearchOptions(Options, headings={"beam_size": "Search"}):
        beam_size: Annotated[int | None, Integer("Number of texts that are followed.", low=1, high=100)] = None

Making an object checks every field, and raises OptionError for a wrong value. The command line takes its options from
the same fields (cli/options.py). A class with a field that has no kind (option_kinds.py) is refused when it is made, so
that every option is checked.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from types import NoneType
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

import msgspec

from max_whisper.errors import UserError
from max_whisper.messages import printable, quote, suggestion
from max_whisper.option_kinds import Bounded, Integer, Kind, Refused

Function = TypeVar("Function", bound=Callable[..., Any])

Spelling = Callable[[str], str]
"""A function that returns the name of an option as it is written: `beam_size` in Python, `--beam-size` in a shell."""


class OptionError(UserError):
    """The value of an option is wrong, or conflicts with another option.

    The message has the names of options as Python writes them; `spelled` returns it with another spelling.
    """

    def __init__(self, template: str, **values: object) -> None:
        """Makes the message.

        Args:
            template: The sentence. A field in braces, as in "{patience}: is for {beam_size}", stands for one of
                `values`, or else for the name of an option.
            values: Values to fill in, by name; none may have the name of an option in the template.
        """
        self._template, self._values = template, values
        super().__init__(self.spelled(str))

    def spelled(self, spelling: Spelling) -> str:
        """Returns the message with the names of options in a spelling, on one line and safe to print."""
        return printable(spelled(self._template, spelling, self._values))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(OptionError, self._template, **self._values), ()


def spelled(template: str, spelling: Spelling, values: Mapping[str, object] | None = None) -> str:
    """Returns a text with its fields in braces filled in, by values or else by the names of options in a spelling."""
    return template.format_map(_Names(spelling, values or {}))


class _Names(dict[str, object]):
    def __init__(self, spelling: Spelling, values: Mapping[str, object]) -> None:
        super().__init__(values)
        self._spelling = spelling

    def __missing__(self, name: str) -> str:
        return self._spelling(name)


class Options:
    """The base of option classes: frozen dataclasses whose fields are annotated with a kind, and are checked by it.

    Values are kept in plain Python types: numpy's numbers become int and float, sequences become tuples.
    """

    declared: ClassVar[Mapping[str, Option]] = {}

    def __init_subclass__(cls, headings: Mapping[str, str] | None = None) -> None:
        """Reads the annotations, and describes the fields in the docstring.

        Args:
            headings: The headings under which `--help` lists the options, by the first field below each.
        """
        headings = headings or {}
        if unknown := headings.keys() - cls.__annotations__:
            raise TypeError(f"{cls.__name__}: headings of {sorted(unknown)}, which are no options")
        declared, heading = {**cls.declared}, ""
        for name, annotation in cls.__annotations__.items():
            heading = headings.get(name, heading)
            declared[name] = Option.of(name, annotation, heading)
        cls.declared = declared
        described = "\n".join(f"    {name}: {option.described}" for name, option in declared.items())
        cls.__doc__ = f"{(cls.__doc__ or '').rstrip()}\n\nAttributes:\n{described}\n"

    def __post_init__(self) -> None:
        for name, option in self.declared.items():
            object.__setattr__(self, name, option.checked(getattr(self, name)))


class Option(msgspec.Struct, frozen=True):
    """A field of an option class.

    Attributes:
        name: The name in Python.
        kind: The values that it takes.
        optional: Whether it takes None, too.
        heading: The heading under which `--help` lists it; empty for the general one.
    """

    name: str
    kind: Kind
    optional: bool
    heading: str = ""

    @classmethod
    def of(cls, name: str, annotation: Any, heading: str = "") -> Option:
        """Reads an annotation such as `Annotated[int | None, Integer(…)]`. Raises TypeError for one without a kind.

        The annotation must not be a string: modules with options do not import `annotations` from `__future__`, because
        evaluating the strings of all options would take 10 ms of every start.
        """
        kinds = [part for part in get_args(annotation)[1:] if isinstance(part, Kind)]
        if get_origin(annotation) is not Annotated or len(kinds) != 1:
            raise TypeError(f"option {name}: expected Annotated[type, a kind of option_kinds], got {annotation}")
        plain = get_args(annotation)[0]
        return cls(name, kinds[0], plain is NoneType or NoneType in get_args(plain), heading)

    @property
    def described(self) -> str:
        """The help with the range of values, for the docstring of an option class."""
        text = spelled(self.kind.help, str)
        return f"{text} [{self.kind.range}]" if self.kind.range else text

    def checked(self, value: Any) -> Any:
        """Returns the value in plain Python types. Raises OptionError for a wrong one."""
        return None if value is None and self.optional else self._accepted(self.kind.checked, value)

    def parsed(self, text: str) -> Any:
        """Returns the checked value that a text of the command line stands for. Raises OptionError for a wrong one.

        The text "none" stands for None where numbers are expected.
        """
        if self.optional and isinstance(self.kind, Bounded) and text.lower() == "none":
            return None
        return self._accepted(lambda text: self.kind.checked(self.kind.parsed(text)), text)

    def _accepted(self, accept: Callable[[Any], Any], value: Any) -> Any:
        try:
            return accept(value)
        except Refused as refusal:
            expected = f"{refusal.expected}, or none" if self.optional else refusal.expected
            raise OptionError(
                f"{{{self.name}}}: expected {{expected}}, got {{got}}", expected=expected, got=refusal.got
            ) from None


def checked_integer(name: str, value: Any, *, low: int, high: int) -> int:
    """Returns an argument that belongs to no option class as an int. Raises UserError, which calls it `name`."""
    number: int = Option(name, Integer("", low=low, high=high), optional=False).checked(value)
    return number


def options_of(arguments: Mapping[str, Any], *classes: type[Options]) -> list[Any]:
    """Returns one object of each option class, made of the arguments that are its fields.

    A name that several classes have belongs to the first of them.

    Args:
        arguments: Values by the names of options; options without a value have their defaults.
        classes: The option classes.

    Raises:
        UserError: A value is wrong, or no class has such an option.
    """
    check_names(arguments, {name for options in classes for name in options.declared})
    left = {**arguments}
    return [options(**{name: left.pop(name) for name in options.declared if name in left}) for options in classes]


def check_names(names: Iterable[str], known: Collection[str]) -> None:
    """Raises UserError, with the nearest known name, for the name of an option that does not exist."""
    for name in names:
        if name not in known:
            expected = suggestion(name, known) or f": expected one of {', '.join(sorted(known))}"
            raise UserError(f"unknown option {quote(name)}{expected}")


def lists_options(
    *classes: type[Options], only: Collection[str] = (), leave_out: Collection[str] = ()
) -> Callable[[Function], Function]:
    """Returns a decorator that lists the options of classes in the signature of a function that takes `**options`.

    help() and notebooks show this signature. A name that several classes have belongs to the first of them.

    Args:
        classes: The option classes.
        only: The options that the function takes, if it does not take all of them.
        leave_out: The options that it does not take.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        options = {
            field.name: inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default)
            for options in reversed(classes)
            for field in dataclasses.fields(options)  # type: ignore[arg-type]
            if field.name not in leave_out and (not only or field.name in only)
        }
        parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*parameters, *options.values()]
        )
        return function

    return decorate
