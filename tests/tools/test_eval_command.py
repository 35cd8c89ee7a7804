"""`max-whisper eval` with the model that ships, on the recordings of examples/."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from max_whisper.artifact.read import read_manifest
from max_whisper.tools.eval import evaluate as evaluate_module
from support.command import error, run
from support.sounds import silence, write_wav

AUDIO = ROOT / "examples" / "audio"
NAMES = ("commands", "countdown", "spelling")


def manifest_in(folder: Path, *more: str) -> Path:
    """Returns a manifest of the recordings of examples/ and of other lines; countdown's text has a word too many."""
    texts = {name: " ".join((AUDIO / f"{name}.txt").read_text().split()) for name in NAMES}
    texts["countdown"] += " thanks"
    lines = [f"{AUDIO / name}.flac\ten\tread\t{text}" for name, text in texts.items()]
    file = folder / "speech.tsv"
    file.write_text("\n".join(["file\tlanguage\tkind\ttext", *lines, *more, ""]))
    return file


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Returns a manifest with recordings of all sorts."""
    write_wav(tmp_path / "silence.wav", silence())
    write_wav(tmp_path / "unknown.wav", silence())
    return manifest_in(tmp_path, "silence.wav\tzxx\t\t", "unknown.wav\ten\t\t(static)")


def test_eval(nano_artifact: Path, manifest: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("json", "html")}
    outcome = run("eval", manifest, "--model", nano_artifact, "--json", files["json"], "--html", files["html"])
    assert outcome.code == 0, outcome
    assert "transcribed 4 recordings with nano" in outcome.stderr
    assert "Left out: 1 recording with speech" in " ".join(outcome.stdout.split())
    figures = json.loads(files["json"].read_text())
    (group,) = figures["groups"]
    assert (group["language"], group["kind"], group["unit"]) == ("en", "read", "word")
    counts = group["models"]["nano"]
    assert (counts["recordings"], counts["substitutions"], counts["deletions"], counts["insertions"]) == (3, 0, 1, 0)
    assert figures["silence"] == {"nano": {"recordings": 1, "with_words": 0, "words": 0}}
    assert figures["left_out"] == ["unknown.wav"]
    (model,) = figures["models"]
    dtype = read_manifest(nano_artifact).plan.dtype
    assert (model["model"], model["spec"], model["dtype"]) == (str(nano_artifact), "whisper-nano", dtype)
    spoken = {Path(one["file"]).stem: one for one in model["recordings"]}
    assert spoken["commands"]["recognized"].split() == spoken["commands"]["said"].split()
    assert model["audio_seconds"] == pytest.approx(sum(one["seconds"] for one in model["recordings"]))
    assert all(one["wall_seconds"] > 0 for one in model["recordings"])
    assert figures["settings"]["temperature"] == [0.0]
    page = files["html"].read_text()
    assert page.startswith("<!doctype html>") and "<del>thanks</del>" in page


def test_two_models(nano_artifact: Path, english_artifact: Path, manifest: Path, tmp_path: Path) -> None:
    """The second one has random weights, and says nothing right."""
    file = tmp_path / "report.json"
    models = ("--model", nano_artifact, "--model", english_artifact)
    outcome = run("eval", manifest, *models, "--json", file, "--worst", "0")
    assert outcome.code == 0, outcome
    assert "most errors" not in outcome.stdout
    (group,) = json.loads(file.read_text())["groups"]
    assert [*group["models"]] == ["nano", "english"]
    assert group["differences"]["english"]["rate"] > 0.5
    assert group["differences"]["english"]["interval"] is None  # of three recordings


def test_a_recording_that_cannot_be_read(nano_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF but no sound")
    manifest = manifest_in(tmp_path, "broken.wav\ten\tread\thello")
    outcome = run("eval", manifest, "--model", nano_artifact)
    assert outcome.code == 1
    assert "nano could not transcribe 1 recording." in outcome.stdout
    first, done, last = outcome.stderr.splitlines()
    assert first.startswith("error: ") and "broken.wav" in first
    assert "transcribed 3 recordings with nano" in done
    assert last == "error: 1 of 4 recordings could not be transcribed, for the reasons above"


def test_recordings_are_chosen(nano_artifact: Path, manifest: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    outcome = run("eval", manifest, "--model", nano_artifact, "--languages", "zxx", "--json", file)
    assert outcome.code == 0, outcome
    figures = json.loads(file.read_text())
    assert figures["groups"] == [] and figures["silence"]["nano"]["recordings"] == 1


def test_languages_that_a_model_does_not_know(english_artifact: Path, tmp_path: Path) -> None:
    manifest = manifest_in(tmp_path, f"{tmp_path}/other.wav\tfr\tread\tbonjour")
    write_wav(tmp_path / "other.wav", silence())
    outcome = run("eval", manifest, "--model", english_artifact)
    assert outcome.code == 0, outcome
    assert "english skipped 1 recording in languages that it does not know: fr." in outcome.stdout


def test_options_reach_the_model(nano_artifact: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    transcribe = evaluate_module._transcribe
    monkeypatch.setattr(
        evaluate_module, "_transcribe", lambda *args: given.append((args[1].language, args[3])) or transcribe(*args)
    )
    options = ["--beam-size", "2", "--no-condition-on-previous-text", "--vad", "loudness", "--temperature", "0.2"]
    options += ["--temperature-increment-on-fallback", "0.4"]
    assert run("eval", manifest, "--model", nano_artifact, *options).code == 0
    shared = {
        "best_of": 5,
        "beam_size": 2,
        "condition_on_previous_text": False,
        "drop_suspect": False,
        "vad_filter": False,
        "vad": "loudness",
        "vad_threshold": 0.5,
        "vad_neg_threshold": None,
        "vad_min_speech_duration_ms": 0,
        "vad_max_speech_duration_s": None,
        "vad_min_silence_duration_ms": 2000,
        "vad_speech_pad_ms": 400,
        "vad_model": None,
        "vad_loudness": 10.0,
        "temperature": (0.2, 0.6, 1.0),
    }
    assert given[0] == ("en", {**shared, "language": "en"}) and given[-1] == ("zxx", {**shared, "language": None})
    given.clear()
    assert run("eval", manifest, "--model", nano_artifact, "--detect-language").code == 0
    assert {options["language"] for _, options in given} == {None}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--resamples", "1"), "--resamples: expected 100 to 1000000, got 1"),
        (("--languages", "fr"), "--languages: no recording of the manifest has 'fr'; there are en, zxx"),
        (("--temperature", "-1"), "--temperature: expected 0 to 10, got -1"),
        (("--json", "no/x.json"), "--json no/x.json: there is no folder no"),
        (("--html", "no/x.html"), "--html no/x.html: there is no folder no"),
        (("--html", "x", "--json", "x"), "--json and --html would both be written to x"),
        (("--html", "speech.tsv"), "speech.tsv would be overwritten, but it is read by this command"),
        (("--model", "no/model"), "there is no folder no/model: make it with max-whisper build"),
    ],
)
def test_mistakes(
    nano_artifact: Path, manifest: Path, options: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(manifest.parent)
    assert said in error(run("eval", manifest, "--model", nano_artifact, *options))


def test_the_same_model_twice(nano_artifact: Path, manifest: Path) -> None:
    outcome = run("eval", manifest, "--model", nano_artifact, "--model", nano_artifact)
    assert "was given 2 times: give each model once" in error(outcome)


def test_options_that_a_model_does_not_support(nano_artifact: Path, batched, home: Path, manifest: Path) -> None:
    """They are found before any model begins, and are no failure of each recording."""
    outcome = run("eval", manifest, "--model", nano_artifact, "--model", home / "batched", "--beam-size", "2")
    assert "batch" in error(outcome)


def test_nothing_to_score(nano_artifact: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", silence())
    file = tmp_path / "speech.tsv"
    file.write_text("file\tlanguage\ttext\na.wav\ten\t\n")
    said = error(run("eval", file, "--model", nano_artifact))
    assert "no recording that was asked for has a text, or the language zxx" in said


def test_missing_libraries(nano_artifact: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    evaluate_module.normalized.__globals__["_normalizer"].cache_clear()
    said = error(run("eval", manifest, "--model", nano_artifact))
    assert "pip install 'max-whisper[eval]'" in said


def test_ctrl_c(nano_artifact: Path, tmp_path: Path) -> None:
    """No report is printed, no file is written, and one sentence says so."""
    (tmp_path / "broken.wav").write_bytes(b"RIFF but no sound")
    os.mkfifo(tmp_path / "pending.wav")  # reading it waits for sound that never comes
    manifest, report = tmp_path / "speech.tsv", tmp_path / "report.json"
    manifest.write_text("file\tlanguage\ttext\nbroken.wav\tzxx\t\npending.wav\tzxx\t\n")
    command = [sys.executable, "-m", "max_whisper", "eval", manifest, "--model", nano_artifact, "--json", report]

    def heed_interrupts() -> None:
        """A shell's background jobs, which the tests may run in, ignore them."""
        signal.signal(signal.SIGINT, signal.default_int_handler)

    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed_interrupts)
    assert process.stderr is not None
    assert "broken.wav" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines() == ["no report was made: 0 of 1 models were done", "error: stopped by Ctrl-C"]
    assert not report.exists()


def test_a_report_replaces_no_recording(nano_artifact: Path, tmp_path: Path) -> None:
    sound = tmp_path / "spoken.wav"
    write_wav(sound, silence())
    before = sound.read_bytes()
    manifest = manifest_in(tmp_path, "spoken.wav\ten\tother\thello")
    for option in ("--json", "--html"):
        outcome = run("eval", manifest, "--kinds", "read", "--model", nano_artifact, option, sound)
        assert outcome.code == 2
        assert "spoken.wav would be overwritten" in error(outcome)
    assert sound.read_bytes() == before


def test_two_reports_in_one_file_by_two_names(nano_artifact: Path, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    files = ("--json", tmp_path / "report", "--html", tmp_path / "link" / "report")
    outcome = run("eval", manifest, "--model", nano_artifact, *files)
    assert outcome.code == 2
    assert "give them different names" in error(outcome)


def test_names_that_are_no_utf8(nano_artifact: Path, manifest: Path, tmp_path: Path) -> None:
    odd = manifest.rename(tmp_path / os.fsdecode(b"speech\xff.tsv"))
    file = tmp_path / "report.json"
    outcome = run("eval", odd, "--model", nano_artifact, "--json", file)
    assert outcome.code == 0, outcome
    assert json.loads(file.read_text())["manifest"] == str(odd)


def test_a_model_that_knows_no_language_of_the_recordings(english_artifact: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "german.tsv"
    manifest.write_text(f"file\tlanguage\ttext\n{AUDIO / 'commands.flac'}\tde\thallo\n")
    outcome = run("eval", manifest, "--model", english_artifact)
    assert outcome.code == 2
    assert "knows none of the languages of the recordings (de)" in error(outcome)
