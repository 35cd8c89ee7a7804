"""Fuzzes the options of Python and of the command line: a strange value is used, or refused with one sentence."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from max_whisper import Model
from max_whisper.cli.main import main
from max_whisper.cli.options import OptionType, flag_of
from max_whisper.errors import UserError
from max_whisper.option_kinds import Bounded
from max_whisper.options import Options
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.part_options import PartOptions
from support.command import run
from support.harness import Budget, Outcome, fault, refusal
from support.option_classes import CLASSES
from support.sounds import noise, sweep, write_wav

NUMBERS: tuple[Any, ...] = (
    float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 1e-308, -0.0, 0, 1, -1, 0.5, 2, 3.7, 100, 2**31,
    2**63, 2**64, -(2**63), 10**30, 10**400, 1e9, np.float32("nan"), np.float16(0.5), np.int8(-1), np.uint64(2**63),
    np.array(3),
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, np.bool_(True), "", " ", "x", "nan", "none", "-1", "0", "1e9", "1,2", ",", "\x00", "\x1b[31m",
    "\udcff", "é" * 300, b"1", 1j, [], (), {}, [[]], [1], [1, "x"], [None], [float("nan")], [[1], [2, 3]], {"a": 1},
    {1, 2}, np.zeros((2, 2)), np.array([1, 2]), np.array(["x"]), np.zeros(0), object(), Exception, print, range(5),
)  # fmt: skip
NUMERALS = (
    "nan", "NaN", "inf", "-inf", "infinity", "1e308", "-1e308", "1e309", "1e-308", "0", "-0", "0.0", "-1", "1", "0.5",
    "9" * 30, "9" * 5000, "-" + "9" * 30, "2147483648", "9223372036854775808", "1_000", "0x10",
)  # fmt: skip
WRITTEN = (
    *NUMERALS, "3.7", "none", "None",
    "", " ", "x", "1,2", ",", "1,,2", "nan,1", "true", "\x1b[2J", "\n", "é", "\udcff", "-", "--", "%s", "[red]",
    "model", "a" * 5000,
)  # fmt: skip
QUICK: dict[str, Any] = {"max_new_tokens": 3, "temperature": 0.0, "language": "en"}
NEEDED: dict[str, dict[str, Any]] = {
    "patience": {"beam_size": 2},
    "vad_loudness": {"vad": "loudness"},
    "vad_min_speech_duration_ms": {"vad": "loudness"},
    "vad_max_speech_duration_s": {"vad": "loudness"},
    "vad_min_silence_duration_ms": {"vad": "loudness"},
    "vad_speech_pad_ms": {"vad": "loudness"},
    "hallucination_silence_threshold": {"word_timestamps": True},
    "prepend_punctuations": {"word_timestamps": True},
    "append_punctuations": {"word_timestamps": True},
    "carry_initial_prompt": {"initial_prompt": "the cat"},
    "max_line_count": {"max_line_width": 20},
}
"""The options that an option needs beside it."""


@pytest.mark.parametrize("options", CLASSES, ids=lambda options: options.__name__)
def test_every_value_is_taken_or_refused(options: type[Options]) -> None:
    """A value that is taken lies in its range and is of a plain type."""
    for name, option in options.declared.items():
        refused = 0
        for value in (*NUMBERS, *ODD):
            made: list[Any] = []
            make = partial(options, **{name: value})
            sentence = refusal(lambda make=make, made=made: made.append(make()), kind=UserError)
            if sentence is not None:
                assert sentence.startswith(f"{name}: expected "), sentence
                refused += 1
                continue
            kept = getattr(made[0], name)
            items = kept if isinstance(kept, tuple) else (kept,)
            assert all(type(item) in (int, float, str, bool, type(None)) for item in items), (name, value)
            if isinstance(option.kind, Bounded):
                numbers = [item for item in items if isinstance(item, int | float)]
                assert all(option.kind.low <= number <= option.kind.high for number in numbers), (name, value)
        assert refused > len(ODD) // 3, f"{name} takes nearly everything"


def test_python(model: Model, budget: Budget) -> None:
    """A value that is taken gives a transcription."""
    waveform = noise(2.5, seed=4)
    for number, rng in budget.cases(400, 12):
        options = rng.choice((DecodingOptions, TranscribeOptions, PartOptions))
        name = rng.choice([name for name in options.declared if name != "prompt"])
        value = rng.choice((*NUMBERS, *ODD))
        given = {**QUICK, **NEEDED.get(name, {}), name: value}
        if name in ("beam_size", "best_of") and isinstance(value, int) and value > 3:
            continue  # taken up to 100, which takes long
        made: list[Any] = []
        transcribe = partial(model.transcribe, waveform, **given)
        sentence = refusal(lambda made=made, call=transcribe: made.append(call()), kind=UserError)
        assert sentence is not None or name.startswith("vad") or made[0].windows, (number, name, value)


def command_line(rng: random.Random) -> list[str]:
    """Returns an option of `transcribe` with a value, and the options that it needs."""
    typed = [p.name for p in main.commands["transcribe"].params if isinstance(p.type, OptionType)]
    name = str(rng.choice(typed))
    beside = [part for other, value in NEEDED.get(name, {}).items() for part in written(other, value)]
    given = [f"{flag_of(name)}={rng.choice(WRITTEN)}"]
    subtitles = ["--word-timestamps"] if name in SubtitleOptions.declared else []
    return [*beside, *given, *subtitles, "--output-format", rng.choice(("txt", "srt", "json"))]


def written(name: str, value: Any) -> list[str]:
    return [flag_of(name)] if value is True else [flag_of(name), str(value)]


def test_command_line(artifact: Path, tmp_path: Path, budget: Budget) -> None:
    talk = write_wav(tmp_path / "talk.wav", sweep(2.0))
    most = ("--max-new-tokens", "3", "--temperature-increment-on-fallback", "none", "--language", "en")
    for number, rng in budget.cases(120, 10):
        arguments = command_line(rng)
        done = run("transcribe", talk, "--model", artifact, *most, *arguments)
        outcome = Outcome(done.code, done.stdout.encode(), done.stderr.encode(errors="surrogateescape"))
        assert not fault(outcome), (number, arguments, fault(outcome), done)
        assert outcome.code in (0, 2), (number, arguments)
        if outcome.code or arguments[-1] == "json":  # a threshold may leave no text for the others
            assert bool(outcome.stdout) == (outcome.code == 0), (number, arguments)


@pytest.mark.parametrize("text", NUMERALS)
@pytest.mark.parametrize(
    "command",
    [
        ("build", "--spec", "nowhere.yaml", "--batch"),
        ("bench", "nowhere", "--tokens"),
        ("bench", "nowhere", "--rounds"),
        ("bench", "nowhere", "--threads"),
        ("verify", "nowhere", "--tokens"),
        ("transcribe", "nowhere", "--model", "nowhere", "--threads"),
    ],
    ids=lambda command: f"{command[0]} {command[-1]}",
)
def test_numbers_of_other_commands(command: tuple[str, ...], text: str) -> None:
    """The commands fail before any work: the files that they name are not there."""
    done = run(*command[:-1], f"{command[-1]}={text}")
    assert not fault(Outcome(done.code, b"", done.stderr.encode()))
    assert done.code == 2
