"""Options: what each kind takes, and that signatures and the command line say the same as the classes."""

import inspect
import pickle
import types
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_args, get_type_hints

import max_whisper
import numpy as np
import pytest
from max_whisper.batch.options import BatchOptions
from max_whisper.cli.live.options import SourceOptions
from max_whisper.cli.main import main
from max_whisper.cli.options import FallbackOptions, FormatType, OptionType, ThreadOptions, flag_of
from max_whisper.compile.build import build
from max_whisper.compile.options import BuildOptions
from max_whisper.errors import UserError
from max_whisper.option_kinds import Bounded, Choice, Flag, Ids, Integer, Number, Numbers, Text, TextOrIds
from max_whisper.options import OptionError, Options, options_of
from max_whisper.runtime.decoding.keywords import DecodingKeywords, PromptKeywords
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.model import Model
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.streaming.options import NOT_FOR_STREAMS, StreamKeywords, StreamOptions
from max_whisper.runtime.transcription.options import TranscribeKeywords, TranscribeOptions
from max_whisper.runtime.transcription.part_options import PartOptions
from max_whisper.serve.options import ServeOptions
from max_whisper.tools.options import BenchOptions, VerifyOptions
from support.command import error, run
from support.option_classes import CLASSES


@dataclass(frozen=True)
class Every(Options):
    """One of each kind."""

    flag: Annotated[bool, Flag("On or off.")] = False
    count: Annotated[int | None, Integer("A count.", low=1, high=9)] = None
    share: Annotated[float, Number("A share.", low=0, high=1, unit="SHARE", words=("auto",))] = 0.5
    word: Annotated[str, Choice("A word.", words=("left", "right"))] = "left"
    text: Annotated[str | None, Text("A text.")] = None
    ids: Annotated[str | Sequence[int], Ids("Ids.")] = ()
    prompt: Annotated[str | Sequence[int] | None, TextOrIds("Text or ids.")] = None
    times: Annotated[str | Sequence[float], Numbers("Times.", low=0, high=10, unit="SECONDS", most=3)] = ()


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("flag", np.bool_(True), True),
        ("count", np.int64(3), 3),
        ("count", np.array(3), 3),
        ("count", None, None),
        ("share", np.float32(0.25), 0.25),
        ("share", 1, 1.0),
        ("share", "auto", "auto"),
        ("ids", "1,-1,3", (1, -1, 3)),
        ("ids", np.array([4, 5]), (4, 5)),
        ("ids", "", ()),
        ("prompt", "text", "text"),
        ("prompt", [1, 2], (1, 2)),
        ("times", "1,2.5", (1.0, 2.5)),
        ("times", 3, (3.0,)),
        ("times", np.array([1.5]), (1.5,)),
    ],
)
def test_values_are_kept_in_plain_types(name: str, value: Any, kept: Any):
    found = getattr(Every(**{name: value}), name)
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("flag", 1, "flag: expected True or False, got 1"),
        ("count", 0, "count: expected 1 to 9, or none, got 0"),
        ("count", True, "count: expected an integer, 1 to 9, or none, got True"),
        ("count", 3.0, "count: expected an integer, 1 to 9, or none, got 3.0"),
        ("count", 10**4000, "count: expected 1 to 9, or none, got an integer of 13288 bits"),
        ("share", float("nan"), "share: expected 0 to 1, got nan"),
        ("share", -float("inf"), "share: expected 0 to 1, got -inf"),
        ("share", 10**400, "share: expected a number, 0 to 1, or auto, got an integer of 1329 bits"),
        ("share", 1j, "share: expected a number, 0 to 1, or auto, got 1j"),
        ("share", None, "share: expected a number, 0 to 1, or auto, got None"),
        ("word", "rihgt", "word: expected left or right, got 'rihgt'; did you mean 'right'?"),
        ("text", b"bytes", "text: expected text, or none, got b'bytes'"),
        ("text", "\udcff", "text: expected text that can be written as UTF-8, or none, got '\\udcff'"),
        ("text", "x" * 200_000, "text: expected at most 100000 characters, or none, got '200000 of them'"),
        ("ids", "1,a", "ids: expected ids with commas between them, got '1,a'"),
        ("ids", [1.5], "ids: expected token ids, got 1.5"),
        ("ids", [-2], "ids: expected token ids, each -1 to 2147483647, got -2"),
        ("ids", {1: 2}, "ids: expected token ids, got {1: 2}"),
        ("prompt", [[1], [2, 3]], "prompt: expected text or token ids, or none, got [1]"),
        ("prompt", 7, "prompt: expected text or token ids, or none, got 7"),
        ("times", "1,x", "times: expected seconds with commas between them, each 0 to 10, got '1,x'"),
        ("times", [1, float("inf")], "times: expected 0 to 10 seconds, got inf"),
        ("times", [1, 2, 3, 4], "times: expected at most 3 items, got 'more of them'"),
        ("times", np.zeros((2, 2)), "times: expected 0 to 10 seconds, got array([0., 0.])"),
    ],
)
def test_wrong_values_are_named(name: str, value: Any, said: str):
    with pytest.raises(UserError) as raised:
        Every(**{name: value})
    assert str(raised.value) == said


def test_an_endless_sequence_is_refused():
    def forever() -> Any:
        while True:
            yield 1

    with pytest.raises(UserError, match="ids: expected at most 100000 items"):
        Every(ids=forever())


@pytest.mark.parametrize("annotation", ["int", "Annotated[int, 'no kind']"])
def test_an_option_without_a_kind_cannot_exist(annotation: str):
    with pytest.raises(TypeError, match="option size: expected Annotated"):
        type("Wrong", (Options,), {"__annotations__": {"size": annotation}, "__module__": __name__})


@pytest.mark.parametrize("kind", [Integer, Number])
def test_a_number_without_a_range_cannot_exist(kind: type):
    with pytest.raises(TypeError, match="low"):
        kind("A number.", unit="N")


@pytest.mark.parametrize("options", CLASSES, ids=lambda options: options.__name__)
def test_options_are_described_and_their_defaults_taken(options: type[Options]):
    made = options()
    for field in fields(made):  # type: ignore[arg-type]
        kind = options.declared[field.name].kind
        assert kind.help.endswith(".") and kind.help[0].isupper()
        assert field.name in (options.__doc__ or "")
        if isinstance(kind, Bounded):
            assert np.isfinite([kind.low, kind.high]).all()
        if field.default is None:
            assert kind.unset, f"{field.name}: what holds where it is None?"


def declared(*options: type[Options], leave_out: Sequence[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Type and default of each field, by name."""
    return {
        field.name: (get_args(hint)[0], field.default)
        for kind in options
        for field in fields(kind)  # type: ignore[arg-type]
        for hint in [get_type_hints(kind, include_extras=True)[field.name]]
        if field.name not in leave_out
    }


def written(function: Any, leave_out: Sequence[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Type and default of each keyword of a function, by name: types as written out, defaults as help() shows them."""
    hints = get_type_hints(function)
    if (unpacked := hints.get("options")) is not None:  # **options: Unpack[a TypedDict]
        hints |= get_type_hints(get_args(unpacked)[0])
    parameters = inspect.signature(function).parameters.values()
    assert {p.kind for p in parameters} <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    return {
        p.name: (hints.get(p.name), p.default)
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in leave_out
    }


@pytest.mark.parametrize("method", [Model.transcribe, Model.transcribe_batch, Model.transcriber, Model.batch])
def test_the_signature_of_transcribe_is_that_of_the_options(method: Any):
    expected = declared(DecodingOptions, TranscribeOptions, PartOptions, leave_out=["prompt"])
    assert written(method, ["progress"]) == expected
    assert {*get_type_hints(TranscribeKeywords)} == {*expected}


def test_the_signature_of_stream_is_that_of_the_options():
    expected = declared(DecodingOptions, TranscribeOptions, StreamOptions, leave_out=NOT_FOR_STREAMS)
    assert written(Model.stream, ["progress", "sample_rate"]) == expected
    assert {*get_type_hints(StreamKeywords)} == {*expected}


def test_the_signature_of_decode_is_that_of_the_options():
    assert written(Model.decode) == declared(DecodingOptions)
    assert {*get_type_hints(DecodingKeywords)} == {*declared(DecodingOptions)}


def test_the_signature_of_prompt_is_a_part_of_that_of_decode():
    found, options = written(Model.prompt), declared(DecodingOptions)
    assert found == {name: options[name] for name in found} and "prefix" in found
    assert {*get_type_hints(PromptKeywords)} == {*found}


@pytest.mark.parametrize("function", [build, max_whisper.build])
def test_the_signature_of_build_is_that_of_the_options(function: Any):
    assert written(function, ["weights", "out", "progress"]) == declared(BuildOptions)


COMMANDS: dict[str, tuple[type[Options], ...]] = {
    "build": (BuildOptions,),
    "transcribe": (
        DecodingOptions,
        FallbackOptions,
        TranscribeOptions,
        PartOptions,
        SubtitleOptions,
        ThreadOptions,
    ),
    "live": (
        SourceOptions,
        StreamOptions,
        DecodingOptions,
        FallbackOptions,
        TranscribeOptions,
        SubtitleOptions,
        ThreadOptions,
    ),
    "verify": (VerifyOptions,),
    "bench": (BenchOptions, ThreadOptions),
    "serve": (ServeOptions, ThreadOptions),
    "batch": (BatchOptions, SubtitleOptions, ThreadOptions),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_has_every_option(command: str):
    names = {parameter.name for parameter in main.commands[command].params}
    expected = {name for options in COMMANDS[command] for name in options.declared}
    assert expected - names <= ({*NOT_FOR_STREAMS} if command == "live" else {"prompt", "token_logprobs"})


@pytest.mark.parametrize("command", main.commands)
def test_the_command_line_has_no_number_without_a_range(command: str):
    for parameter in main.commands[command].params:
        if isinstance(parameter.type, OptionType | FormatType):
            continue
        assert parameter.type.name in ("text", "path", "file", "boolean"), parameter


def test_an_error_names_options_as_they_are_written() -> None:
    error = OptionError("{beam_size}: {given:g} is {what}, see {best_of}", given=2, what="a {brace} \x1b")
    assert str(error) == "beam_size: 2 is a {brace} \\x1b, see best_of"
    assert error.spelled(flag_of) == "--beam-size: 2 is a {brace} \\x1b, see --best-of"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.spelled(flag_of), copy.exit_code) == (str(error), error.spelled(flag_of), 2)


def test_headings_of_what_is_no_option_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Wrong: headings of \['sise'\], which are no options"):
        types.new_class(
            "Wrong", (Options,), {"headings": {"sise": "Sizes"}}, lambda body: body.update(__annotations__={})
        )


def test_options_of_takes_what_belongs_to_each_class():
    bench, threads = options_of({"tokens": 5, "threads": 2}, BenchOptions, ThreadOptions)
    assert (bench, threads) == (BenchOptions(tokens=5), ThreadOptions(threads=2))


def test_the_command_line_says_the_option_as_it_is_written():
    said = error(run("transcribe", "x.wav", "--model", "m", "--vad-loudness", "nan"))
    assert said == "--vad-loudness: expected 0 to 200 decibels, got nan"
    said = error(run("transcribe", "x.wav", "--model", "m", "--temperature-increment-on-fallback", "1e-9"))
    assert said == "--temperature-increment-on-fallback: expected 0.01 to 1, or none, got 1e-09"


@pytest.mark.parametrize(
    ("first", "step", "expected"),
    [(0.0, 0.2, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)), (0.5, None, (0.5,)), (3.0, 0.2, (3.0,)), (0.0, 0.7, (0.0, 0.7))],
)
def test_temperatures_of_the_command_line(first: float, step: float | None, expected: tuple[float, ...]):
    assert FallbackOptions(first, step).temperatures == expected


def test_the_smallest_step_gives_few_temperatures():
    assert len(FallbackOptions(0.0, 0.01).temperatures) == 101
