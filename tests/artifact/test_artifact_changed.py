"""Changes of a loaded artifact: a folder may be replaced at any time, a file must not be changed in place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import max_whisper
import msgspec
import numpy as np
import pytest
from max_whisper.artifact.folder import new_folder
from max_whisper.artifact.load import check_artifact
from max_whisper.artifact.manifest import MANIFEST_FILE
from max_whisper.artifact.read import read_manifest
from max_whisper.errors import ArtifactError, MaxWhisperError, UserError
from max_whisper.runtime.transcription.requests import Align
from max_whisper.weights.vocabulary import Vocabulary, read_vocabulary
from support.artifacts import copy

MEL = np.random.default_rng(0).standard_normal((1, 80, 200)).astype(np.float32)
SOUND = np.zeros(32000, np.float32)


@pytest.fixture
def folder(artifact: Path, tmp_path: Path) -> Path:
    """Returns a copy that shares no files."""
    return Path(shutil.copytree(artifact, tmp_path / "place" / "small"))


def spoil(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 64)


@pytest.mark.parametrize("name", ["weights.safetensors", "encoder.mef", "decoder.mef"])
def test_a_file_that_was_changed_in_place(folder: Path, name: str) -> None:
    model = max_whisper.load(folder)
    features = model.encode(MEL)
    spoil(folder / name)
    for call in (
        lambda: model.encode(MEL),
        lambda: model.decode(features, language="en"),
        lambda: model.logits(features, [[1]]),
        lambda: model.scheduler.ask([Align(features.windows[0], [1], "en", "transcribe", 200)]),
        lambda: model.transcriber(SOUND, language="en"),
        lambda: model.transcribe(SOUND, language="en"),
    ):
        with pytest.raises(ArtifactError, match=rf"{name} was changed after it was loaded.*load it again"):
            call()
    with pytest.raises(ArtifactError, match=f"{name}: expected content with BLAKE3"):
        max_whisper.load(folder)


def test_a_file_that_was_cut_off(folder: Path) -> None:
    """This runs in a child, because reading behind the end of a mapped file ends the process (SIGBUS)."""
    program = """
import sys, os
import numpy as np
import max_whisper
model = max_whisper.load(sys.argv[1])
os.truncate(sys.argv[1] + "/weights.safetensors", 4096)
try:
    model.encode(np.zeros((1, 80, 200), np.float32))
except max_whisper.errors.ArtifactError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "weights.safetensors was changed after it was loaded" in done.stdout


def test_a_folder_that_is_replaced_does_not_matter(folder: Path, english_artifact: Path) -> None:
    """The folder is replaced as by `build --force`, and the old one is deleted, touched, or gets other modes."""
    model = max_whisper.load(folder)
    expected = np.asarray(model.encode(MEL)).tobytes()
    (folder / "weights.safetensors").chmod(0o444)
    os.link(folder / "weights.safetensors", folder.parent / "link")
    with new_folder(folder, replace=True) as new:
        shutil.copytree(english_artifact, new, dirs_exist_ok=True)
    assert not max_whisper.load(folder).multilingual and model.multilingual
    assert np.asarray(model.encode(MEL)).tobytes() == expected
    assert model.transcribe(SOUND, language="en", max_new_tokens=3).windows
    shutil.rmtree(folder.parent)
    assert np.asarray(model.encode(MEL)).tobytes() == expected


def test_a_folder_that_is_replaced_while_it_is_loaded(
    folder: Path, english_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would otherwise have the weights of one artifact and the vocabulary of another."""

    def check(place: Path) -> object:
        manifest = check_artifact(place)
        with new_folder(place, replace=True) as new:
            shutil.copytree(english_artifact, new, dirs_exist_ok=True)
        return manifest

    monkeypatch.setattr("max_whisper.artifact.load.check_artifact", check)
    with pytest.raises(ArtifactError, match="was replaced while it was being loaded; load it again"):
        max_whisper.load(folder)


def test_files_are_let_go_with_the_model(artifact: Path) -> None:
    """A service that loads again and again must not run out of descriptors."""

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    max_whisper.load(artifact)
    before = descriptors()
    for _ in range(5):
        max_whisper.load(artifact)
    assert descriptors() <= before


def test_a_build_that_load_would_refuse(
    artifact: Path, spec: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old folder stays; the values are put in after the checks of checkpoints, which refuse them."""
    place = copy(artifact, tmp_path / "small")
    before = read_manifest(place)
    for change in ({"max_initial_timestamp": 10**18}, {"logprob_threshold": -1e300}):

        def read(*given: Any, change: dict[str, Any] = change) -> Vocabulary:
            vocabulary = read_vocabulary(*given)
            return replace(vocabulary, tokens=msgspec.structs.replace(vocabulary.tokens, **change))

        monkeypatch.setattr("max_whisper.weights.source.read_vocabulary", read)
        with pytest.raises(MaxWhisperError) as raised:
            max_whisper.build(spec, weights=checkpoint, dtype="float32", out=place, force=True)
        said = str(raised.value)
        assert "could not be loaded, so nothing was changed" in said and ".new-" not in said and "small" in said
        assert read_manifest(place) == before
    assert [one.name for one in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize("kind", [str, Path])
def test_the_home_folder(artifact: Path, tmp_path: Path, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    copy(artifact, tmp_path / "small")
    assert max_whisper.load(kind("~/small")).multilingual
    assert check_artifact(Path("~/small")).plan.spec.name == "small"
    with pytest.raises(UserError, match=f"there is no folder {tmp_path}/nowhere"):
        max_whisper.load(kind("~/nowhere"))


def test_a_build_in_the_home_folder(
    spec: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert max_whisper.build(spec, weights=checkpoint, dtype="float32", out="~/a/small") == tmp_path / "a" / "small"
    assert (tmp_path / "a" / "small" / MANIFEST_FILE).is_file() and not (tmp_path / "~").exists()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "~no-such-user/x"])
def test_names_that_no_folder_has(name: str) -> None:
    with pytest.raises(UserError, match=r"there is no folder|expected a folder that can be read"):
        max_whisper.load(name)


@pytest.mark.parametrize("wrong", [None, 3, b"x", ["x"]])
def test_what_is_no_path(wrong: object) -> None:
    with pytest.raises(UserError, match="expected a path as text"):
        max_whisper.load(wrong)  # type: ignore[arg-type]
