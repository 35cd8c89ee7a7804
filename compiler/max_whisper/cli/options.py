"""Options of the command line, made from the fields of option classes: type, range, unit and help come from there."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import click

from max_whisper.options import Bounded, Choice, Flag, Integer, Number, Option, Options
from max_whisper.runtime.decoding.options import MAX_TEMPERATURE

Command = Callable[..., Any]


@dataclass(frozen=True)
class FallbackOptions(Options):
    """The temperatures of `max-whisper transcribe`, as openai/whisper's command line takes them."""

    temperature: Annotated[
        float,
        Number(
            "Randomness that is tried first; 0 always takes the most probable token.",
            low=0,
            high=MAX_TEMPERATURE,
            unit="T",
        ),
    ] = 0.0
    temperature_increment_on_fallback: Annotated[
        float | None,
        Number(
            "What is added, until 1 is reached, when the text of a window is repetitive or improbable.",
            low=0.01,
            high=1,
            unit="STEP",
            unset="the first temperature alone",
        ),
    ] = 0.2

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures that are tried in turn, at most 101."""
        first, step = self.temperature, self.temperature_increment_on_fallback
        if step is None or first > 1:
            return (first,)
        return tuple(round(first + i * step, 6) for i in range(int((1 - first) / step + 1e-6) + 1))


@dataclass(frozen=True)
class ThreadOptions(Options):
    """The part of the machine that a command uses."""

    threads: Annotated[
        int | None,
        Integer("Number of CPU cores to use, of which the least busy are taken.", low=1, high=4096, unset="all"),
    ] = None


class OptionType(click.ParamType):  # type: ignore[type-arg]
    """Reads and checks a value as the field of an option class takes it."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = option.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the checked value. Raises UserError, which names the option as it was written."""
        if not isinstance(value, str):  # a default, or converted before
            return value
        return self.option.parsed(value, flag_of(self.option.name))


def options_from(
    options: type[Options], *, leave_out: Collection[str] = (), defaults: Mapping[str, Any] | None = None
) -> Callable[[Command], Command]:
    """Returns a decorator that gives a command one option for each field of an option class.

    leave_out: fields that the command does not have. defaults: where they are others than the class's.
    """
    made = {field.name: (defaults or {}).get(field.name, field.default) for field in fields(options)}  # type: ignore[arg-type]

    def decorate(command: Command) -> Command:
        for name in reversed([name for name in made if name not in leave_out]):
            command = _click_option(options.declared[name], made[name])(command)
        return command

    return decorate


def flag_of(name: str) -> str:
    """Returns how an option is written on the command line."""
    return f"--{name.replace('_', '-')}"


def _click_option(option: Option, default: Any) -> Callable[[Command], Command]:
    kind, flag = option.kind, flag_of(option.name)
    if isinstance(kind, Flag):
        names = f"{flag}/--no-{flag[2:]}" if default else flag
        return click.option(names, option.name, is_flag=True, default=default, help=kind.help, show_default=default)
    shown = kind.unset if default is None else ",".join(map(str, default)) if isinstance(default, tuple) else default
    unit = f"[{'|'.join(kind.words)}]" if isinstance(kind, Choice) else kind.unit
    none = "|none" if option.optional and default is not None and isinstance(kind, Bounded) else ""
    return click.option(
        flag,
        option.name,
        type=OptionType(option),
        default=default,
        metavar=f"{unit}{none}",
        help=f"{kind.help}  [default: {shown}]",
    )
