"""The command that builds an artifact again, which ends refusals."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import msgspec
import pytest
from max_whisper.artifact.manifest import Source
from max_whisper.artifact.read import read_manifest
from max_whisper.artifact.rebuild import Recipe, read_recipe, rebuild_command
from max_whisper.artifact.target import parse_target, target_name
from max_whisper.cli.main import main
from max_whisper.plan import Target
from max_whisper.spec import load_spec

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = Source("openai/whisper-tiny", COMMIT)
FROM_HUB = f"--weights openai/whisper-tiny --revision {COMMIT}"
GPU = Target("cuda", "sm_90a", [])
PORTABLE = Target("cpu", "x86-64-v3", [])


def recipe(artifact: Path, source: Source, **plan: object) -> Recipe:
    """Returns the recipe of an artifact, with some other values."""
    read = read_recipe((artifact / "manifest.json").read_bytes())
    assert read is not None
    return msgspec.structs.replace(read, source=source, plan=msgspec.structs.replace(read.plan, **plan))


@pytest.mark.parametrize(
    ("source", "plan", "here", "options"),
    [
        (Source(None, None), {}, False, "--weights WEIGHTS --dtype float32"),
        (HUB, {}, False, f"{FROM_HUB} --dtype float32"),
        (HUB, {"dtype": "int8", "batch": 8}, False, f"{FROM_HUB} --dtype int8 --batch 8"),
        (HUB, {"kernels": "max"}, False, f"{FROM_HUB} --dtype float32 --kernels max"),
        (HUB, {"target": PORTABLE}, False, f"{FROM_HUB} --dtype float32 --target cpu:x86-64-v3"),
        (HUB, {"target": PORTABLE}, True, f"{FROM_HUB} --dtype float32"),
        (HUB, {"target": GPU, "kernels": "max"}, False, f"{FROM_HUB} --dtype float32 --target cuda:sm_90a"),
        (HUB, {"target": GPU, "kernels": "max"}, True, f"{FROM_HUB} --dtype float32"),
    ],
)
def test_the_command_names_what_is_not_the_default(
    artifact: Path, source: Source, plan: dict[str, object], here: bool, options: str
) -> None:
    command = rebuild_command(artifact, recipe(artifact, source, **plan), here=here)
    assert command == f"max-whisper build --spec {artifact}/spec.json {options} --out {artifact} --force"
    _, name, *arguments = shlex.split(command)
    assert isinstance(main, click.Group)
    with main.commands[name].make_context(name, arguments):  # the command line takes it
        pass


def test_the_spec_in_an_artifact_is_the_one_it_was_built_from(artifact: Path) -> None:
    assert load_spec(artifact / "spec.json").hash == read_manifest(artifact).plan.spec.hash


def test_a_manifest_is_a_recipe(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    assert rebuild_command(artifact, manifest) == rebuild_command(artifact, recipe(artifact, manifest.source))


def test_a_folder_whose_name_needs_quotes(tmp_path: Path) -> None:
    folder = tmp_path / "my model; rm -r"
    folder.mkdir()
    assert rebuild_command(folder, None) == f"max-whisper build --spec SPEC --out '{folder}' --force"


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"\xff", b"[" * 100_000, b'{"builder": "1 2"}'])
def test_no_recipe(text: bytes) -> None:
    assert read_recipe(text) is None


@pytest.mark.parametrize("name", ["cpu", "cuda:sm_90a", "hip:gfx942"])
def test_the_name_of_a_target(name: str) -> None:
    assert target_name(parse_target(name)) == name
