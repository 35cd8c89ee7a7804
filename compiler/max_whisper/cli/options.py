"""Makes the options of commands from the fields of option classes: type, range, unit, heading and help."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any

import click

from max_whisper.cli.help import HeadedOption
from max_whisper.messages import suggestion
from max_whisper.option_kinds import Bounded, Choice, Flag, Integer, Number
from max_whisper.options import Option, Options, spelled
from max_whisper.runtime.decoding.options import MAX_TEMPERATURE

Command = Callable[..., Any]


@dataclass(frozen=True)
class FallbackOptions(
    Options,
    headings={
        "temperature": "Temperature and retries",
    },
):
    """The temperatures of `max-whisper transcribe`, as openai/whisper's command line takes them."""

    temperature: Annotated[
        float,
        Number(
            "How random the choice of each token is in the first attempt at a window: 0 always takes the most "
            "probable one.",
            low=0,
            high=MAX_TEMPERATURE,
            unit="T",
        ),
    ] = 0.0
    temperature_increment_on_fallback: Annotated[
        float | None,
        Number(
            "Where the text of a window is repetitive or improbable, try again at a temperature that is higher "
            "by this, up to 1; none tries once.",
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
        Integer("Use this number of CPU cores, the least busy ones.", low=1, high=4096, unset="all"),
    ] = None


class OptionType(click.ParamType):  # type: ignore[type-arg]
    """Reads and checks a value as the field of an option class takes it."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = option.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the checked value. Raises OptionError for a wrong one."""
        if not isinstance(value, str):  # a default, or converted before
            return value
        return self.option.parsed(value)


class FormatType(click.ParamType):  # type: ignore[type-arg]
    """The name of an output format, or "all"; which formats there are is looked up when it is needed."""

    name = "format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the name. Raises BadParameter, with the nearest name, for an unknown one."""
        names = self._names()
        if value not in names:
            self.fail(f"expected one of {', '.join(names)}, got {value!r}{suggestion(value, names)}", param, ctx)
        return str(value)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Returns all names, as `--help` shows them."""
        return f"[{'|'.join(self._names())}]"

    def _names(self) -> list[str]:
        from max_whisper.runtime.output.writers import known_formats

        return [*known_formats(), "all"]


def heading(text: str) -> Callable[..., Callable[[Command], Command]]:
    """Returns `click.option` for options that `--help` lists below a heading."""
    return partial(click.option, cls=HeadedOption, heading=text)


def model_option(command: Command) -> Command:
    """Gives a command the option for the one model that it uses."""
    return click.option(
        "--model",
        required=True,
        metavar="DIR_OR_SPEC",
        help='Folder that "build" made, or a spec (a YAML file, or a name such as tiny), which is built first unless '
        "it was before.",
    )(command)


def offline_option(command: Command) -> Command:
    """Gives a command the option not to ask the Hub where it builds a model."""
    return click.option(
        "--offline", is_flag=True, help="Do not connect to the Hub where a spec is built; use what is in its cache."
    )(command)


def options_from(
    options: type[Options],
    *,
    leave_out: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
    below: str | None = None,
) -> Callable[[Command], Command]:
    """Returns a decorator that gives a command one option for each field of an option class.

    Args:
        options: The option class.
        leave_out: Fields that the command does not have.
        defaults: Defaults that differ from those of the class, by field.
        below: The heading below which `--help` lists all of them; None takes those of the class.
    """
    values = {field.name: (defaults or {}).get(field.name, field.default) for field in fields(options)}  # type: ignore[arg-type]

    def decorate(command: Command) -> Command:
        for name in reversed([name for name in values if name not in leave_out]):
            option = options.declared[name]
            command = _click_option(option, values[name], option.heading if below is None else below)(command)
        return command

    return decorate


def flag_of(name: str) -> str:
    """Returns how an option is written on the command line."""
    return f"--{name.replace('_', '-')}"


def _click_option(option: Option, default: Any, below_heading: str) -> Callable[[Command], Command]:
    kind, flag, below = option.kind, flag_of(option.name), heading(spelled(below_heading, flag_of))
    text = spelled(kind.help, flag_of)
    if isinstance(kind, Flag):
        names = f"{flag}/--no-{flag[2:]}" if default else flag
        return below(names, option.name, is_flag=True, default=default, help=text, show_default=default)
    shown = kind.unset if default is None else ",".join(map(str, default)) if isinstance(default, tuple) else default
    unit = f"[{'|'.join(kind.words)}]" if isinstance(kind, Choice) else kind.unit
    none = "|none" if option.optional and default is not None and isinstance(kind, Bounded) else ""
    return below(
        flag,
        option.name,
        type=OptionType(option),
        default=default,
        metavar=f"{unit}{none}",
        help=f"{text}  [default: {spelled(str(shown), flag_of) if default is None else shown}]",
    )
