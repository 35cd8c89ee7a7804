"""The other commands: help, build, inspect, schema."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from max_whisper.artifact.load import check_artifact
from max_whisper.cli.main import main
from max_whisper.spec import json_schema
from support.artifacts import copy, flip
from support.command import error, run, spawn
from support.models.small import write_spec
from support.sounds import sweep, write_wav

COMMANDS = ("build", "transcribe", "inspect", "verify", "bench", "eval", "schema")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


# --- help


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(option: str) -> None:
    outcome = run(option)
    assert outcome.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in outcome.stdout


@pytest.mark.parametrize(
    ("command", "taught"),
    [
        ("build", "max-whisper build --spec tiny.yaml --weights ./my-fine-tune --out artifacts/mine"),
        ("transcribe", "| max-whisper transcribe - --model artifacts/tiny"),
        ("inspect", "SPEC_OR_ARTIFACT"),
        ("bench", "Only artifacts for a CPU can be measured"),
        ("eval", "pip install 'max-whisper[eval]'"),
        ("verify", "pip install 'max-whisper[verify]'"),
        ("schema", "yaml-language-server"),
    ],
)
def test_help_of_commands(command: str, taught: str) -> None:
    outcome = run(command, "--help")
    assert outcome.code == 0 and taught in " ".join(outcome.stdout.split())


HEADINGS = [
    "Options",
    "Output",
    "Language",
    "Search for the most probable text",
    "Text that the model reads before a window",
    "Rules for tokens",
    "Timestamps",
    "Temperature and retries",
    "Times of words",
    "Invented text",
    "Parts of a recording",
    "Parts with speech (voice activity detection)",
    "Subtitles (srt and vtt; these options need --word-timestamps)",
]


def test_the_options_of_transcribe_stand_below_headings() -> None:
    """Each heading once, and below it what belongs together, from whichever option class it comes."""
    text = run("transcribe", "--help").stdout
    sections = dict(re.findall(r"^(\w[^\n]*):\n((?:  .*\n|\n(?=  ))+)", text, flags=re.MULTILINE))
    assert [heading for heading in sections if heading != "Examples"] == HEADINGS
    assert re.findall(r"^  (--[a-z-]+)", sections["Language"], flags=re.MULTILINE) == [
        "--task",
        "--language",
        "--language-detection-segments",
        "--language-detection-threshold",
    ]
    assert "--beam-size times this number" in " ".join(sections["Search for the most probable text"].split())
    assert "_" not in re.sub(r"[A-Z]+_[A-Z_]+|sample_len", "", text)  # a name as Python has it


@pytest.mark.parametrize("command", main.commands.values(), ids=lambda command: command.name)
def test_every_option_says_what_it_does_and_its_default(command: click.Command) -> None:
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        said = " ".join((option.help or "").split())
        assert re.match(r"[A-Z].*\.( \[default: .+\])?$", said), option.name
        needs_none = option.is_flag or option.required or option.name == "file"
        assert needs_none or "[default: " in said, option.name


def test_version() -> None:
    outcome = spawn("--version")
    assert outcome.code == 0 and "0.1.0" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("transcrbe",), "No such command 'transcrbe'"),
        (("build",), "Missing option '--spec'"),
        (("inspect",), "Missing argument 'SPEC_OR_ARTIFACT'"),
        (("schema", "tiny"), "unexpected extra argument"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    message = error(run(*arguments))
    assert said in message and message.endswith("--help")


# --- build


def test_build(spec: Path, checkpoint: Path, tmp_path: Path) -> None:
    outcome = spawn("build", "--spec", spec, "--weights", checkpoint)
    assert outcome.code == 0
    assert outcome.stdout.startswith("artifacts/small is ready (")
    lines = outcome.stderr.splitlines()
    assert len(lines) == 4 and "checked 89 tensors" in lines[0] and "compiled the" in lines[3]
    check_artifact(tmp_path / "artifacts" / "small")
    assert "give --force to replace it" in error(run("build", "--spec", spec, "--weights", checkpoint))
    outcome = run("build", "--spec", spec, "--weights", checkpoint, "--force")
    assert outcome.code == 0
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["small"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target", "cuda:sm90"), "unknown target 'cuda:sm90': expected cpu, cpu:x86-64-v3"),
        (("--batch", "0"), "--batch: expected 1 to 256, got 0"),
        (("--batch", "many"), "--batch: expected an integer, 1 to 256, got 'many'"),
        (("--dtype", "int3"), "--dtype: expected float32, bfloat16 or int8, or none, got 'int3'"),
        (("--weights", "./nowhere"), "there is no file or folder nowhere"),
        (("--spec", "tinny.yaml"), "did you mean 'tiny.yaml'?"),
        (("--out", "file"), "file is a file: expected a folder"),
        (("--out", "file/deeper"), "cannot be written"),
        (("--out", "full", "--force"), "has files but is no artifact"),
    ],
)
def test_wrong_builds(spec: Path, checkpoint: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "cat.jpg").write_bytes(b"miaow")
    assert said in error(run("build", "--spec", spec, "--weights", checkpoint, *options))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["file", "full", "full/cat.jpg"]


def test_build_of_a_wrong_spec(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("extends: tiny.yaml\ndims: {d_modle: 64}\n")
    said = error(run("build", "--spec", "wrong.yaml", "--weights", checkpoint))
    assert said.startswith("wrong.yaml:2: ") and "did you mean 'd_model'?" in said


def test_build_on_a_full_disk(spec: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    outcome = run("build", "--spec", spec, "--weights", checkpoint, "--out", "out/small")
    assert outcome.code == 1
    assert outcome.stderr.splitlines()[-1].startswith("error: out/small: the disk has 1 MB free")
    assert list(tmp_path.iterdir()) == []


def test_transcribe_builds_a_spec_once(checkpoint: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "talk.wav", sweep(1.0))
    shutil.copytree(checkpoint, tmp_path / "weights")
    path = write_spec(tmp_path)
    path.write_text(path.read_text() + "source: {folder: weights}\n")
    arguments = ("transcribe", "talk.wav", "--model", "small.yaml", "--max-new-tokens", "3")
    first = run(*arguments)
    assert first.code == 0 and first.stdout and "compiled the encoder" in first.stderr
    second = run(*arguments)
    assert (second.stdout, second.stderr) == (first.stdout, "")
    check_artifact(tmp_path / "artifacts" / "small")


# --- inspect


def test_inspect_a_spec(spec: Path) -> None:
    outcome = run("inspect", spec)
    assert outcome.code == 0
    for shown in ("encoder", "decoder", "model.encoder.conv1", "100 × 64"):
        assert shown in outcome.stdout
    assert len(run("inspect", spec, "--all").stdout) > len(outcome.stdout)


def test_inspect_an_artifact(artifact: Path) -> None:
    outcome = spawn("inspect", artifact)
    assert outcome.code == 0 and outcome.stderr == ""
    for shown in ("small", "float32", "max-whisper's", "a local folder or file", "model.encoder.conv1", "cross_kv"):
        assert shown in outcome.stdout


def test_inspect_an_artifact_with_max_kernels(max_artifact: Path) -> None:
    outcome = run("inspect", max_artifact)
    assert outcome.code == 0 and "MAX's own" in outcome.stdout and "max-whisper's" not in outcome.stdout


def test_inspect_what_is_neither(artifact: Path, tmp_path: Path) -> None:
    assert "did you mean 'tiny.yaml'?" in error(run("inspect", "tinny"))
    assert "is no artifact" in error(run("inspect", tmp_path))
    folder = copy(artifact, tmp_path / "damaged")
    flip(folder / "spec.json", 20, 1)
    assert "damaged" in error(run("inspect", folder), 1)


# --- schema


def test_schema() -> None:
    outcome = spawn("schema")
    assert outcome.code == 0 and outcome.stderr == ""
    assert json.loads(outcome.stdout) == json.loads(json.dumps(json_schema()))
