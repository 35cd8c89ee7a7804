"""`max-whisper transcribe`: outputs, several recordings, and each kind of bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from max_whisper import ArtifactError, MaxWhisperError, Model, UserError
from max_whisper.runtime.decoding.window_decoder import WindowDecoder
from max_whisper.runtime.output.writers import known_formats, render
from support.artifacts import copy, flip
from support.command import error, run, spawn
from support.sounds import encode, silence, sweep, write_tracks, write_wav

MOST = ("--max-new-tokens", "12", "--temperature-increment-on-fallback", "none")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of three windows."""
    return write_wav(tmp_path_factory.mktemp("audio") / "talk.wav", sweep(5.0))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


# --- output


@pytest.mark.parametrize("format", known_formats())
def test_formats(artifact: Path, model: Model, talk: Path, format: str, tmp_path: Path) -> None:
    expected = render(model.transcribe(talk, language="de", max_new_tokens=12, temperature=0), format)
    options = ("--model", artifact, "--language", "Deutsch", "--output-format", format, *MOST)
    outcome = run("transcribe", talk, *options)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, expected, "")
    outcome = run("transcribe", talk, *options, "--output-dir", "new/folder")
    assert (outcome.code, outcome.stdout) == (0, "")
    assert outcome.stderr == f"new/folder/talk.{format}\n"
    assert (tmp_path / "new" / "folder" / f"talk.{format}").read_bytes() == expected.encode()
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [f"talk.{format}"]


def test_in_a_process_of_its_own(artifact: Path, model: Model, talk: Path) -> None:
    result = model.transcribe(talk, max_new_tokens=12, temperature=0)
    outcome = spawn("transcribe", talk, "--model", artifact, *MOST)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, render(result, "txt"), "")


def test_the_installed_command(artifact: Path, talk: Path) -> None:
    command = shutil.which("max-whisper", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the package is not installed")
    done = subprocess.run([command, "transcribe", talk, "--model", artifact, *MOST], capture_output=True, check=True)
    assert done.stdout.decode() == run("transcribe", talk, "--model", artifact, *MOST).stdout


def test_options_reach_the_model(artifact: Path, model: Model, talk: Path) -> None:
    for language, task, count in (("de", "translate", 3), ("en", "transcribe", 5)):
        options = ("--language", language, "--task", task, "--max-new-tokens", str(count), "--output-format", "json")
        options += ("--temperature-increment-on-fallback", "none")
        outcome = run("transcribe", talk, "--model", artifact, *options)
        result = model.transcribe(talk, language=language, task=task, max_new_tokens=count, temperature=0)
        assert json.loads(outcome.stdout) == json.loads(render(result, "json"))


def test_explain_and_verbose(artifact: Path, talk: Path) -> None:
    outcome = run("transcribe", talk, "--model", artifact, "--explain", "--verbose", "--without-timestamps", *MOST)
    explained = [line for line in outcome.stderr.splitlines() if "temperature 0: " in line]
    assert len(explained) == 3  # windows
    assert explained[0].startswith("00:00.000 to 00:02.000; temperature 0: average log-probability")
    assert "[00:00.000 --> 00:02.000]" in outcome.stderr


def test_explain_names_the_rules(artifact: Path, talk: Path) -> None:
    lines = run("transcribe", talk, "--model", artifact, "--explain", *MOST).stderr.splitlines()
    assert lines[0].startswith("00:00.000 to 00:02.000; temperature 0: ")
    assert "; tokens other than the likeliest: " in lines[0]
    assert [
        line
        for line in lines
        if re.match(r"    1 x timestamps: the first token is a timestamp: token 0 <\d\.\d\d>, not '.+'", line)
    ]


def test_interrupted(artifact: Path, tmp_path: Path) -> None:
    """Ctrl-C leaves what was finished."""
    long = write_wav(tmp_path / "long.wav", sweep(600.0))
    options = ("--model", artifact, "--language", "en", "--without-timestamps", "--explain")
    command = [sys.executable, "-m", "max_whisper", "transcribe", long, *options]

    def heed_interrupts() -> None:
        """A shell's background jobs, which the tests may run in, ignore them."""
        signal.signal(signal.SIGINT, signal.default_int_handler)

    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed_interrupts)
    assert process.stderr is not None
    assert "temperature 0" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout.strip()
    assert stderr.splitlines()[-1] == "error: stopped by Ctrl-C" and "Traceback" not in stderr


def test_standard_input(artifact: Path, talk: Path, tmp_path: Path) -> None:
    options = ("--model", artifact, *MOST)
    expected = run("transcribe", talk, *options).stdout
    with subprocess.Popen(["cat", talk], stdout=subprocess.PIPE) as pipe:  # cannot seek
        assert spawn("transcribe", "-", *options, stdin=pipe.stdout).stdout == expected
    with talk.open("rb") as file:
        outcome = spawn("transcribe", "-", *options, "--output-dir", "out", stdin=file)
    assert outcome.code == 0 and (tmp_path / "out" / "stdin.txt").read_text() == expected
    assert "standard input is empty" in error(run("transcribe", "-", *options))


def test_several_recordings(artifact: Path, talk: Path, tmp_path: Path) -> None:
    other = encode(tmp_path / "other [1].flac", sweep(2.0, 44100), codec="flac")
    options = ("--model", artifact, *MOST)
    texts = [run("transcribe", path, *options).stdout for path in (talk, other)]
    assert run("transcribe", talk, other, *options).stdout == "".join(texts)
    assert run("transcribe", talk, other, *options, "--output-dir", "out").stderr.splitlines() == [
        "out/talk.txt",
        "out/other [1].txt",
    ]
    assert [(tmp_path / "out" / f"{name}.txt").read_text() for name in ("talk", "other [1]")] == texts


def test_one_bad_recording_among_others(artifact: Path, talk: Path, tmp_path: Path) -> None:
    good = write_wav(tmp_path / "good.wav", sweep(2.0))
    options = ("--model", artifact, *MOST)
    outcome = run("transcribe", talk, "missing.wav", good, *options, "--output-dir", "out")
    assert outcome.code == 2
    assert outcome.stderr.splitlines()[0] == "out/talk.txt"
    assert outcome.stderr.splitlines()[1].startswith("error: there is no file missing.wav")
    assert outcome.stderr.splitlines()[2] == "out/good.txt"
    assert outcome.stderr.splitlines()[3].startswith("error: 1 of 3 recordings were not transcribed")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.txt", "talk.txt"]
    outcome = run("transcribe", "one.wav", "two.wav", *options)
    assert outcome.code == 2 and outcome.stdout == "" and len(outcome.stderr.splitlines()) == 3


@pytest.mark.parametrize("broken", [ArtifactError("weights.safetensors was changed"), ValueError("a bug")])
@pytest.mark.parametrize("others", [0, 1])
def test_a_failure_in_the_middle_keeps_what_was_recognized(
    artifact: Path, talk: Path, broken: Exception, others: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--model", artifact, *MOST, "--language", "en", "--no-condition-on-previous-text")
    whole = run("transcribe", talk, *options).stdout
    decode, calls = WindowDecoder.decode, []

    def breaking(self: WindowDecoder, *arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise broken
        return decode(self, *arguments, **options)

    monkeypatch.setattr(WindowDecoder, "decode", breaking)
    outcome = run("transcribe", talk, *[talk] * others, *options)
    assert outcome.code == 1 and str(broken) in outcome.stderr
    first = outcome.stdout
    if others and isinstance(broken, MaxWhisperError):  # what is no bug ends its own recording alone
        assert first.endswith(whole)
        first = first.removesuffix(whole)
    assert 0 < len(first) < len(whole) and whole.startswith(first)


def test_audio_tracks(artifact: Path, model: Model, tmp_path: Path) -> None:
    """The default one with a warning, any by its number, and which there are if it is another."""
    film = write_tracks(tmp_path / "film.mkv", [("eng", "Main", 0.5), ("deu", "Other", 0.001)])
    options = ("--model", artifact, *MOST, "--language", "en", "--output-format", "json")
    taken = run("transcribe", film, *options)
    assert "2 audio tracks" in taken.stderr and "--audio-track" in taken.stderr
    first, second = (run("transcribe", film, *options, "--audio-track", str(track)) for track in (0, 1))
    assert (first.stdout, first.stderr) == (taken.stdout, "")
    assert second.stdout not in ("", first.stdout)
    text = model.transcribe(film, language="en", max_new_tokens=12, temperature=0, audio_track=1).text
    assert json.loads(second.stdout)["text"] == text
    assert "has no audio track 2, expected one of 0 (eng" in error(
        run("transcribe", film, *options, "--audio-track", "2")
    )
    with pytest.raises(UserError, match="audio_track: is for files"):
        model.transcribe(sweep(1.0), audio_track=0)


def test_two_recordings_for_one_file(artifact: Path, talk: Path, tmp_path: Path) -> None:
    shutil.copy(talk, tmp_path / "talk.mp3")
    options = ("--model", artifact, "--output-dir", "out")
    said = error(run("transcribe", talk, "talk.mp3", *options))
    assert "two of the recordings would be written to out/talk.txt" in said
    assert not (tmp_path / "out").exists()


def test_silence_and_short_sounds(artifact: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "silence.wav", silence(1.0))
    assert run("transcribe", "silence.wav", "--model", artifact, *MOST).code == 0
    write_wav(tmp_path / "short.wav", sweep(0.005))
    outcome = run("transcribe", "short.wav", "--model", artifact, *MOST)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")


def test_a_reader_that_has_gone(artifact: Path, talk: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    outcome = spawn("transcribe", talk, "--model", artifact, *MOST, stdout=writing)
    os.close(writing)
    assert (outcome.code, outcome.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_an_output_that_is_full(artifact: Path, talk: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        outcome = spawn("transcribe", talk, "--model", artifact, *MOST, stdout=full)
    assert "there is no space left" in error(outcome, 1)


# --- threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_threads(artifact: Path, talk: Path) -> None:
    options = ("--model", artifact, *MOST)
    expected = run("transcribe", talk, *options).stdout
    assert spawn("transcribe", talk, *options, "--threads", "1").stdout == expected
    said = error(spawn("transcribe", talk, *options, "--threads", "4096"))
    assert f"this process may use {len(os.sched_getaffinity(0))} cores" in said
    assert "--threads" in error(run("transcribe", talk, *options, "--threads", "0"))


# --- bad options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--language", "xx"), "unknown language 'xx'"),
        (("--language", "grman"), "did you mean 'german'?"),
        (("--language", "pt-BR"), "does not know the language 'pt' (Portuguese)"),
        (("--language", "fr"), "does not know the language 'fr' (French)"),
        (("--language", ""), "unknown language ''"),
        (("--task", "translat"), "did you mean 'translate'?"),
        (("--task", "sing"), "--task: expected transcribe or translate, got 'sing'"),
        (("--max-new-tokens", "0"), "--max-new-tokens: expected 1 to 100000, or none, got 0"),
        (("--max-new-tokens", "many"), "--max-new-tokens: expected an integer, 1 to 100000, or none, got 'many'"),
        (
            ("--logprob-threshold", "low"),
            "--logprob-threshold: expected a number, -1000 to 1000, or model, or none, got 'low'",
        ),
        (("--temperature-increment-on-fallback", "-1"), "expected 0.01 to 1, or none, got -1"),
        (("--clip-timestamps", "3,2"), "--clip-timestamps: expected seconds in order, got 3, 2"),
        (("--patience", "2"), "--patience: is for a beam search, give --beam-size too"),
        (("--max-initial-timestamp", "29"), "--max-initial-timestamp: expected 0 to "),
        (("--suppress-tokens", "999999"), "--suppress-tokens: expected ids below "),
        (
            ("--vad-filter", "--clip-timestamps", "1,2"),
            "--vad-filter, --vad: find the clips themselves; leave them out, or --clip-timestamps",
        ),
        (("--vad-speech-pad-ms", "1"), "--vad-speech-pad-ms: is for --vad-filter or --vad, give one of them too"),
        (("--highlight-words",), "are cut and highlighted by the times of words: give --word-timestamps too"),
        (("--word-timestamps", "--max-line-count", "2"), "--max-line-count: needs --max-line-width, as lines"),
        (("--language", "Deutch"), "did you mean 'Deutsch'?"),
        (("--output-format", "doc"), "expected one of json, srt, tsv, txt, vtt, all, got 'doc'"),
        (("--colour", "red"), "No such option '--colour'"),
    ],
)
def test_bad_options(artifact: Path, talk: Path, options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """One sentence, however many recordings there are, and nothing is made."""
    arguments = ("transcribe", talk, "other.wav", "--model", artifact, "--output-dir", "out", *options)
    assert said in error(run(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_language_of_an_english_model(english_artifact: Path, talk: Path) -> None:
    options = ("--model", english_artifact, *MOST)
    expected = run("transcribe", talk, *options).stdout
    for language in ("en", "English", "en-GB", "auto"):
        assert run("transcribe", talk, *options, "--language", language).stdout == expected
    said = error(run("transcribe", talk, *options, "--language", "de"))
    assert "does not know the language 'de' (German): use a model that does, or leave the language out" in said
    assert "cannot translate" in error(run("transcribe", talk, *options, "--task", "translate"))
    outcome = run("transcribe", talk, *options, "--output-format", "json")
    assert json.loads(outcome.stdout)["language"] == "en"


def test_no_recording(artifact: Path) -> None:
    assert "AUDIO" in error(run("transcribe", "--model", artifact))
    assert "--model" in error(run("transcribe", "talk.wav"))


@pytest.mark.parametrize("place", ["file/out", "file", "/proc/out"])
def test_output_that_cannot_be_written(artifact: Path, talk: Path, place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    said = error(run("transcribe", talk, "--model", artifact, "--output-dir", place, *MOST))
    assert f"--output-dir {place}" in said and "give a folder that can be written to" in said
    assert (tmp_path / "file").read_bytes() == b"x"


# --- bad models


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("artifacts/nowhere", "there is no folder artifacts/nowhere: make it with max-whisper build"),
        ("tinny", "did you mean 'tiny.yaml'?"),
        ("missing.yaml", "expected a spec file or the name of a shipped spec"),
        (".", "is no artifact (it has no manifest.json)"),
    ],
)
def test_no_such_model(talk: Path, model: str, said: str, tmp_path: Path) -> None:
    assert said in error(run("transcribe", talk, "--model", model, "--output-dir", "out"))
    assert list(tmp_path.iterdir()) == []


def test_damaged_model(artifact: Path, talk: Path, tmp_path: Path) -> None:
    folder = copy(artifact, tmp_path / "damaged")
    flip(folder / "decoder.mef", 1000, 3)
    assert "damaged after the build, build the artifact again" in error(run("transcribe", talk, "--model", folder), 1)


# --- bad recordings


def bad_recordings() -> dict[str, tuple[str, bytes | None]]:
    """What each says, and the content of the file if it is written as it is."""
    return {
        "missing.wav": ("there is no file missing.wav", None),
        "empty.wav": ("empty.wav is empty (0 bytes)", b""),
        "text.wav": ("text.wav is not an audio or video file", b"These are words, and no sound at all.\n" * 99),
        "https://example.org/a.mp3": ("addresses are not opened", None),
        "folder.wav": ("folder.wav is a folder", None),
        "zero.wav": ("zero length", None),
        "film.mp4": ("film.mp4 has no sound", None),
        "nan.wav": ("not finite numbers (NaN or infinity)", None),
        "huge.wav": ("as large as", None),
    }


@pytest.mark.parametrize("name", bad_recordings())
def test_bad_recordings(artifact: Path, name: str, tmp_path: Path) -> None:
    said, content = bad_recordings()[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name == "folder.wav":
        (tmp_path / name).mkdir()
    elif name == "zero.wav":
        write_wav(tmp_path / name, silence(0))
    elif name == "film.mp4":
        encode(tmp_path / name, None, video="mpeg4")
    elif name in ("nan.wav", "huge.wav"):
        samples = sweep(1.0)
        samples[5000] = np.nan if name == "nan.wav" else 30000
        encode(tmp_path / name, samples, rate=16000, codec="pcm_f32le")
    before = sorted(tmp_path.iterdir())
    options = ("--model", artifact, "--output-format", "srt")
    assert said in error(run("transcribe", name, *options))
    assert sorted(tmp_path.iterdir()) == before
    assert said in error(run("transcribe", name, *options, "--output-dir", "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bad_recording_in_a_process_of_its_own(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound\n" * 200)
    assert "not an audio or video file" in error(spawn("transcribe", "text.wav", "--model", artifact))
