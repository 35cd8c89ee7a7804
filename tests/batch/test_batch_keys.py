"""Keys: what they depend on, and what not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from max_whisper.batch.keys import content_hash, key_of, run_hash
from max_whisper.errors import UserError
from support.artifacts import copy, reseal


def test_content_is_hashed_wherever_it_is(tmp_path: Path) -> None:
    content = os.urandom((2 << 20) + 7)
    (tmp_path / "a.wav").write_bytes(content)
    shutil.copy(tmp_path / "a.wav", tmp_path / "b.flac")
    assert content_hash(tmp_path / "a.wav") == content_hash(str(tmp_path / "b.flac")) == content_hash(content)
    assert content_hash(content[:-1]) != content_hash(content)


@pytest.mark.parametrize(("name", "reason"), [("folder", "it is a folder"), ("nothing", "No such file")])
def test_what_is_no_file_has_no_hash(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=reason):
        content_hash(tmp_path / name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"language": "auto"}),
        ({}, {"temperature": [0, 0.2, 0.4, 0.6, 0.8, 1], "explain": True, "token_logprobs": True, "draft": "perhaps"}),
        ({"language": "de"}, {"language": "Deutsch"}),
        ({"language": "de", "beam_size": 5}, {"beam_size": 5, "language": "de"}),
        ({"temperature": 0}, {"temperature": (0.0,)}),
    ],
)
def test_the_same_options_have_the_same_hash(artifact: Path, one: dict, other: dict) -> None:
    assert run_hash(artifact, one) == run_hash(artifact, other)


def test_what_changes_a_text_changes_the_hash(artifact: Path, silero: Path, tmp_path: Path) -> None:
    copied = copy(artifact, tmp_path / "copy")
    assert run_hash(copied, {}) == run_hash(artifact, {})
    options = [{}, {"language": "de"}, {"beam_size": 5}, {"word_timestamps": True}, {"best_of": 5}, {"seed": 1}]
    options += [{"vad": "silero"}, {"vad": "silero", "vad_model": silero}, {"temperature": 0.0}]
    hashes = {run_hash(artifact, chosen) for chosen in options}
    reseal(copied, builder="0.0.9")
    hashes.add(run_hash(copied, {}))
    assert len(hashes) == len(options) + 1


def test_wrong_options_are_refused(artifact: Path) -> None:
    with pytest.raises(UserError, match=r"unknown option 'beam_sise'; did you mean 'beam_size'\?"):
        run_hash(artifact, {"beam_sise": 5})
    with pytest.raises(UserError, match="language"):
        run_hash(artifact, {"language": "Klingonish"})


def test_a_key_depends_on_both_hashes() -> None:
    assert len({key_of("a", "b"), key_of("b", "a"), key_of("a", "c")}) == 3
    assert len(key_of("a", "b")) == 64 and key_of("a", "b") == key_of("a", "b")
