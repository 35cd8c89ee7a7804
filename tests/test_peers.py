"""Tests the comparison with other engines: a made-up engine over the real protocol, its cache, tables and picture."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from max_whisper.mel_filters import mel_filters
from support.sounds import write_wav

from benchmarks.peers import engines
from benchmarks.peers.__main__ import main
from benchmarks.peers.conversion import spec_of
from benchmarks.peers.engines import ENGINES, Engine, Variant
from benchmarks.peers.figures import Spread, groups, ratio
from benchmarks.peers.ggml import DIMENSIONS, q8_0, write_ggml, write_tensor
from benchmarks.peers.plot import svg
from benchmarks.peers.tables import cells, markdown, time_text
from benchmarks.peers.tasks import all_tasks, clips, read_manifest

FAKE = """
import os, sys
from benchmarks.peers.worker import Heard, Peer, peer_main

class Fake(Peer):
    CALL = "fake.transcribe(audio{})"

    def __init__(self, variant, mode):
        if variant == "broken":
            sys.exit("no such model")
        self.variant, self.mode = variant, mode

    def versions(self):
        return {"fake": "1.0"}

    def arguments(self, mode, language):
        return {"language": language, "mode": mode}

    def window_arguments(self, n_tokens):
        return {"n_tokens": n_tokens}

    def transcribe(self, waveform, arguments):
        print("libraries print what they like")
        self.n_tokens = arguments.get("n_tokens")
        words = 3 if arguments.get("mode") == "words" and self.variant == "timed" else None
        return Heard("the cat sat" if len(waveform) > 16000 else "", words)

    def tokens(self):
        return self.n_tokens if self.variant == "timed" else 7

    def encoder(self, waveform):
        return 0.25

peer_main(lambda checkpoint, models, variant, threads, mode: Fake(variant, mode))
"""
MANIFEST = [
    ("short.wav", "en", "6.0", "clean", "The cat sat."),
    ("other.wav", "de", "2.0", "clean", "Die Katze."),
    ("silence.wav", "zxx", "2.0", "nonspeech", ""),
]
RunPeers = Callable[..., Result]


@pytest.fixture
def _cores() -> Iterator[None]:
    """Gives back the cores: the program keeps its process on as many as it has threads."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture
def run_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _cores: None) -> RunPeers:
    """Returns a function that runs the program with engines that are made up, and one checkpoint."""
    (tmp_path / "fake_peer.py").write_text(FAKE)
    monkeypatch.setattr(engines, "WORKERS", tmp_path)
    for name in [*ENGINES]:
        monkeypatch.delitem(ENGINES, name)
    variants = Variant("timed", "float32"), Variant("plain", "int8"), Variant("broken", "int4", lacks=("words",))
    monkeypatch.setitem(ENGINES, "fake", Engine("Fake", variants))
    checkpoint, speech = tmp_path / "tiny", tmp_path / "speech"
    checkpoint.mkdir()
    speech.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    (checkpoint / "config.json").write_text("{}")
    facts = {"is_multilingual": True, "alignment_heads": [[0, 0]]}
    (checkpoint / "generation_config.json").write_text(json.dumps(facts))
    with (speech / "manifest.tsv").open("w", newline="") as out:
        lines = csv.writer(out, delimiter="\t")
        lines.writerow(("file", "language", "seconds", "kind", "text"))
        lines.writerows(MANIFEST)
    for file, _, seconds, _, _ in MANIFEST:
        write_wav(speech / file, np.zeros(round(float(seconds) * 16_000), np.float32))

    def run(*words: str) -> Result:
        arguments = ["run", str(checkpoint), "--work", str(tmp_path / "work"), "--threads", "1", "--rest", "0", *words]
        return CliRunner().invoke(main, arguments)

    return run


def records(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Returns what was measured, by the place of its file."""
    folder = tmp_path / "work" / "results" / "tiny"
    return {str(file.relative_to(folder)): json.loads(file.read_text()) for file in folder.glob("*/*.json")}


def test_a_window_is_measured_and_an_engine_that_fails_is_a_line(run_peers: RunPeers, tmp_path: Path):
    result = run_peers("--setting", "steady", "--turns", "2", "--runs", "3")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    done = [line for line in lines if re.search(r"^Fake timed, .*: turn [12] of 2: [\d.]+, [\d.]+, [\d.]+ s", line)]
    assert len(done) == 2
    assert [line for line in lines if "is missing" in line] == [
        "Fake plain, tiny, steady window, window is missing: gave 7 tokens instead of 100",
        f"Fake broken, tiny, steady window, window is missing: ended with status 1: no such model "
        f"(more in {tmp_path}/work/logs/fake-broken.log)",
    ]
    ((place, record),) = records(tmp_path).items()
    assert place == "steady-window-window/fake-timed.json"
    assert [len(turn["runs"]) for turn in record["turns"]] == [3, 3]
    assert record["turns"][0]["runs"][0]["encoder"] == 0.25
    assert (record["versions"], record["call"]) == ({"fake": "1.0"}, "fake.transcribe(audio, n_tokens=100)")


def test_what_is_there_is_not_measured_again(run_peers: RunPeers, tmp_path: Path):
    words = ["--only", "fake:timed", "--setting", "steady", "--runs", "1"]
    assert run_peers(*words, "--turns", "1").exit_code == 0
    (first,) = records(tmp_path).values()
    assert "turn 1" not in run_peers(*words, "--turns", "2").output
    (second,) = records(tmp_path).values()
    assert (len(second["turns"]), second["turns"][0]) == (2, first["turns"][0])
    assert "there" in run_peers(*words, "--turns", "2").output

    assert run_peers(*words, "--turns", "1", "--redo").exit_code == 0
    (again,) = records(tmp_path).values()
    assert len(again["turns"]) == 1 and again["turns"][0] != first["turns"][0]

    (tmp_path / "tiny" / "model.safetensors").write_bytes(b"other weights")
    from benchmarks.peers.records import digest

    digest.cache_clear()
    assert "turn 1 of 1" in run_peers(*words, "--turns", "1").output


def test_speech_is_measured_with_the_times_of_words_and_from_the_start(run_peers: RunPeers, tmp_path: Path):
    speech = ["--speech", str(tmp_path / "speech"), "--turns", "1", "--runs", "1", "--starts", "2"]
    result = run_peers(*speech, "--only", "fake:timed", "--only", "fake:plain")
    assert result.exit_code == 1
    assert "Fake plain, tiny, steady clips, words is missing: gave no times of words for " in result.output
    found = records(tmp_path)
    assert {place for place in found if place.endswith("timed.json")} == {
        "steady-clips-plain/fake-timed.json",
        "steady-clips-previous/fake-timed.json",
        "steady-clips-words/fake-timed.json",
        "steady-clips-beams/fake-timed.json",
        "cold-clip-plain/fake-timed.json",
    }
    cold = found["cold-clip-plain/fake-timed.json"]
    assert [turn["texts"] for turn in cold["turns"]] == [["the cat sat"], ["the cat sat"]]
    assert all(turn["runs"][0]["seconds"] > turn["load"] for turn in cold["turns"])


def test_the_report_of_what_was_measured(run_peers: RunPeers, tmp_path: Path):
    run_peers("--only", "fake:timed", "--speech", str(tmp_path / "speech"), "--turns", "1", "--starts", "1")
    out = {kind: tmp_path / f"report.{kind}" for kind in ("json", "markdown", "svg")}
    options = [word for kind, file in out.items() for word in (f"--{kind}", str(file))]
    result = CliRunner().invoke(main, ["report", "--work", str(tmp_path / "work"), "--mode", "plain", *options])
    assert result.exit_code == 0, result.output
    assert "Fake, float32" in result.output and "60.0%" in result.output  # 3 errors, 5 words
    written = json.loads(out["json"].read_text())
    assert [group["task"] for group in written["groups"]] == ["clips", "clip"]
    assert written["groups"][0]["rows"][0]["words"]["length"] == 5
    assert "`fake.transcribe(audio, language='en', mode='plain')`" in out["markdown"].read_text()
    assert ET.fromstring(out["svg"].read_text()).tag.endswith("svg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "slow"], "'slow' is none of fake, fake:timed, fake:plain, fake:broken"),
        (["--only", "fake:timed", "--task", "french"], "nothing is chosen"),
        (["--speech", "."], "expected a folder with a manifest.tsv"),
    ],
)
def test_a_wrong_option_is_a_sentence(run_peers: RunPeers, words: list[str], message: str):
    result = run_peers(*words)
    assert result.exit_code == 2 and message in result.output


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path):
    result = CliRunner().invoke(main, ["run", str(tmp_path), "--work", str(tmp_path)])
    assert result.exit_code == 2 and "config.json" in result.output


def test_a_report_of_nothing_is_refused(tmp_path: Path):
    result = CliRunner().invoke(main, ["report", "--work", str(tmp_path)])
    assert result.exit_code == 1 and "there are no results" in result.output


# --- the recordings


def manifest(tmp_path: Path, lines: list[tuple[str, str, float, str, str]]) -> Path:
    """Writes a manifest and a multilingual checkpoint's facts without alignment heads; returns their folder."""
    text = "\n".join("\t".join(map(str, line)) for line in [("file", "language", "seconds", "kind", "text"), *lines])
    (tmp_path / "manifest.tsv").write_text(text + "\n")
    (tmp_path / "generation_config.json").write_text('{"is_multilingual": true}')
    return tmp_path


def test_long_recordings_and_clips_are_found(tmp_path: Path):
    folder = manifest(
        tmp_path,
        [
            ("a.wav", "en", 61.0, "noisy", 'said "so'),
            ("b.wav", "en", 200.0, "long", "b"),
            ("c.wav", "fr", 70.0, "clean", "c"),
            ("d.wav", "fr", 90.0, "clean", "d"),
            ("e.wav", "en", 31.0, "clean", "too long for a clip"),
            ("f.wav", "en", 9.0, "format", "another container"),
            *((f"{language}{i}.wav", language, 9.0, "clean", "x") for language in ("de", "en") for i in range(40)),
        ],
    )
    found = {(task.name, task.mode): [r.file for r in task.recordings] for task in all_tasks(folder, folder)}
    assert found[("english", "plain")] == ["b.wav", "a.wav"]
    assert found[("french", "previous")] == ["d.wav"]
    assert found[("clip", "plain")] == ["en0.wav"]
    assert not any(mode == "words" for _, mode in found)
    chosen = clips(read_manifest(folder / "manifest.tsv"), multilingual=True)
    assert sorted(recording.language for recording in chosen) == ["de"] * 30 + ["en"] * 30
    assert chosen == clips(read_manifest(folder / "manifest.tsv"), multilingual=True)
    english = clips(read_manifest(folder / "manifest.tsv"), multilingual=False)
    assert {recording.language for recording in english} == {"en"} and len(english) == 40


# --- figures


def record(engine: str, variant: str, turns: list[list[float]], texts: list[str]) -> dict[str, Any]:
    """Returns a record with the seconds of the runs of each turn."""
    recordings = [
        {"file": "a", "language": "en", "seconds": 10.0, "text": "a cat sat down"},
        {"file": "b", "language": "ja", "seconds": 10.0, "text": "あいう"},
    ]
    task = {"name": "clips", "mode": "plain", "setting": "steady", "recordings": recordings}
    facts = {"load": 0.5, "memory": 300.0, "disturbed": 0.01, "texts": texts}
    return {
        "engine": engine,
        "variant": variant,
        "about": variant,
        "checkpoint": "base",
        "identity": {"task": task},
        "versions": {"lib": "1|2"},
        "call": "call(audio)",
        "commit": "abc",
        "turns": [facts | {"runs": [{"seconds": seconds} for seconds in turn]} for turn in turns],
    }


OURS = record("max_whisper", "int8", [[1.0, 1.2], [2.0, 2.2]], ["A cat sat down.", "あいう"])
THEIRS = record("faster_whisper", "int8", [[2.2, 2.2], [4.2, 4.2], [9.0, 9.0]], ["a cat", "あいえお"])


def test_a_ratio_is_of_the_same_turn():
    assert ratio(THEIRS, OURS) == Spread(pytest.approx(2.0), pytest.approx(2.0), pytest.approx(2.0))


def test_a_table_has_the_fastest_first_and_the_words():
    (group,) = groups([THEIRS, OURS])
    heading, ours, theirs = cells(group)
    assert ours[0] == "max-whisper, int8" and theirs[0] == "faster-whisper, int8"
    table = {row[0]: dict(zip(heading, row, strict=True)) for row in (ours, theirs)}
    assert table["max-whisper, int8"]["time"] == "1.60 s (1.00 s to 2.20 s)"
    assert table["max-whisper, int8"]["× real time"] == "12.5"
    assert table["max-whisper, int8"]["words wrong"] == "0.0%"
    assert table["faster-whisper, int8"]["of max-whisper int8"] == "2.00"
    assert table["faster-whisper, int8"]["words wrong"] == "50.0%"
    assert table["faster-whisper, int8"]["characters wrong"] == "66.7%"
    assert not {"encoder", "a token", "loading"} & {*heading}


def test_texts_that_differ_between_turns_are_marked():
    other = copy.deepcopy(OURS)
    other["turns"][1]["texts"] = ["a cat", ""]
    (group,) = groups([other])
    assert not group.rows[0].steady_text
    assert "texts differ between turns" in [*cells(group)][1][0]


def test_markdown_and_picture():
    found = groups([OURS, THEIRS])
    text = markdown(found, ["2 threads of A"])
    assert "| faster-whisper, int8 | 4.20 s (2.20 s to 9.00 s) |" in text
    assert "lib 1\\|2" in text and "commit abc" in text and "of 4 to 6 runs" in text
    picture = ET.fromstring(svg(found, "A & B <CPU>"))
    assert len([element for element in picture.iter() if element.tag.endswith("line")]) == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.00151, "1.51 ms"), (0.374, "374 ms"), (9.516, "9.52 s"), (83.14, "83.1 s")]
)
def test_times_have_three_digits(seconds: float, text: str):
    assert time_text(seconds) == text


def test_a_checkpoint_that_no_spec_describes_is_refused(tmp_path: Path):
    names = ("num_mel_bins", "max_source_positions", "d_model", "encoder_attention_heads", "encoder_layers")
    more = ("vocab_size", "max_target_positions", "decoder_attention_heads", "decoder_layers")
    (tmp_path / "config.json").write_text(json.dumps(dict.fromkeys(names + more, 7)))
    with pytest.raises(ValueError, match="no shipped spec"):
        spec_of(tmp_path)


# --- files of whisper.cpp


def test_q8_0_blocks():
    array = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    array[1, :32] = 0
    data = np.frombuffer(q8_0(array), np.dtype([("scale", "<f2"), ("multiples", "i1", 32)]))
    assert data.nbytes == 34 * 6
    restored = (data["scale"].astype(np.float32)[:, None] * data["multiples"]).reshape(3, 64)
    assert np.abs(restored - array).max() <= np.abs(array).max() / 127


@pytest.mark.parametrize(
    ("name", "shape", "kind", "dims", "type_", "size"),
    [
        ("encoder.conv1.weight", (4, 2, 3), "q8_0", (3, 2, 4), 1, 48),
        ("encoder.conv1.bias", (4,), "float16", (1, 4), 0, 16),
        ("encoder.positional_embedding", (5, 32), "float16", (32, 5), 0, 640),
        ("decoder.ln.weight", (32,), "q8_0", (32,), 0, 128),
        ("decoder.token_embedding.weight", (7, 32), "float16", (32, 7), 1, 448),
        ("decoder.token_embedding.weight", (7, 32), "q8_0", (32, 7), 8, 238),
    ],
)
def test_tensors_of_a_ggml_file(name, shape, kind, dims, type_, size):
    out = io.BytesIO()
    write_tensor(out, name, np.ones(shape, np.float32), kind)
    data = out.getvalue()
    head = struct.calcsize(f"<{3 + len(dims)}i")
    assert struct.unpack(f"<{3 + len(dims)}i", data[:head]) == (len(dims), len(name), type_, *dims)
    assert data[head : head + len(name)].decode() == name
    assert len(data) == head + len(name) + size


def test_the_head_of_a_ggml_file(tmp_path: Path):
    dims = {name: i for i, name in enumerate(DIMENSIONS)}
    write_ggml(tmp_path / "model.bin", dims, mel_filters(80), [b"a", b"bc"], {}, "q8_0")
    data = (tmp_path / "model.bin").read_bytes()
    assert struct.unpack("<I11i", data[:48]) == (0x67676D6C, *range(10), 2007)
    assert struct.unpack("<2i", data[48:56]) == (80, 201)
    assert data[56 + 80 * 201 * 4 :] == struct.pack("<iI1sI2s", 2, 1, b"a", 2, b"bc")
