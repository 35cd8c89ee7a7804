"""`max-whisper live` with a microphone, which a small module in place of sounddevice plays."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import max_whisper
import numpy as np
import pytest
from conftest import ROOT
from max_whisper.cli.interrupts import Interrupts
from max_whisper.cli.live.captions import Captions
from max_whisper.cli.live.session import Session
from max_whisper.cli.live.sources import Source
from max_whisper.cli.outputs import Texts
from max_whisper.cli.streams import OutputError
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.streaming.backlog import SoundQueue
from support.command import error, run
from support.live import FAKE_SOUND, LiveRun, fake_microphone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pseudo-terminals")

AUDIO = ROOT / "examples" / "audio"


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Returns a file of int16 samples, after which the microphone brings silence."""
    path = tmp_path / "commands.raw"
    path.write_bytes((max_whisper.load_audio(AUDIO / "commands.flac") * 32768).astype("<i2").tobytes())
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Returns a function that puts the module in the place of sounddevice in this process."""

    def plug(wrong: str = "") -> None:
        monkeypatch.setenv("FAKE_SOUND_WRONG", wrong)
        monkeypatch.syspath_prepend(str(FAKE_SOUND))
        monkeypatch.delitem(sys.modules, "sounddevice", raising=False)

    yield plug
    sys.modules.pop("sounddevice", None)


def test_ctrl_c_is_the_end(nano_artifact: Path, silero: Path, sound: Path) -> None:
    """The phrase that is being said gets its final text, and the files have it."""
    options = ("--model", nano_artifact, "--output-dir", "notes", "--output-format", "all")
    with LiveRun(*options, environment=fake_microphone(sound)) as live:
        live.wait_for("listening to ")
        live.wait_for("open door\n")
        live.interrupt()
        assert live.end().code == 0
    said = live.stdout.splitlines()
    assert said[:2] == ["hello", "open door"] and "thanks" not in said
    first, *files = live.stderr.splitlines()
    assert first == "listening to Fake \\x1b[31mmicrophone; Ctrl-C ends it"
    assert len(files) == 5 and all(Path(file).name.startswith("live-2") for file in files)
    (txt,) = Path("notes").glob("*.txt")
    (js,) = Path("notes").glob("*.json")
    assert txt.read_text() == live.stdout
    assert [segment["text"].strip() for segment in json.loads(js.read_text())["segments"]] == said


def test_ctrl_c_in_the_middle_of_a_phrase(nano_artifact: Path, silero: Path, sound: Path) -> None:
    options = ("--model", nano_artifact, "--output-dir", "notes", "--output-format", "srt", "--endpoints", "none")
    with LiveRun(*options, stdout="terminal", stderr="one", environment=fake_microphone(sound)) as live:
        live.wait_for("door")
        live.interrupt()
        assert live.end().code == 0
    (srt,) = Path("notes").iterdir()
    text = srt.read_text().splitlines()[2]
    listening, said, file = live.screen().rows
    assert text == said and said.startswith("hello open") and "thanks" not in said
    assert listening.startswith("listening to ") and file == f"notes/{srt.name}"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_are_told(
    nano_artifact: Path, silero: Path, sound: Path, number: signal.Signals, code: int
) -> None:
    options = ("--model", nano_artifact, "--output-dir", "notes")
    with LiveRun(*options, environment=fake_microphone(sound)) as live:
        live.wait_for("hello\n")
        live.interrupt(number)
        assert live.end().code == code
    (file,) = Path("notes").iterdir()
    assert file.read_text() == live.stdout != ""


@pytest.mark.parametrize("device", ["mixer", "2"])
def test_a_device_with_two_channels_and_its_own_rate(
    nano_artifact: Path, silero: Path, tmp_path: Path, device: str
) -> None:
    """What PortAudio itself says is not shown."""
    fast = tmp_path / "fast.raw"
    samples = max_whisper.load_audio(AUDIO / "commands.flac")
    fast.write_bytes((np.repeat(samples, 3) * 32767).astype("<i2").tobytes())
    environment = fake_microphone(fast, rate="48000", speed="9", ends="1")
    with LiveRun("--model", nano_artifact, "--device", device, environment=environment) as live:
        assert live.end().code == 1
    assert live.stdout.splitlines() == (AUDIO / "commands.txt").read_text().splitlines()
    assert live.stderr.splitlines() == [
        "listening to Fake mixer; Ctrl-C ends it",
        "error: Fake mixer brings no more sound: was it disconnected?",
    ]


def test_the_devices(plugged: Callable[..., None]) -> None:
    plugged()
    outcome = run("live", "--list-devices")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert "Fake \\x1b[31mmicrophone (the default)" in outcome.stdout and "Fake mixer" in outcome.stdout
    assert "Speakers" not in outcome.stdout


NONE = "there is no microphone, or PortAudio cannot use it: connect one, or give a file, or - for sound from stdin"


@pytest.mark.parametrize(
    ("wrong", "options", "code", "said"),
    [
        ("none", (), 1, NONE),
        ("none", ("--device", "mixer"), 1, NONE),
        ("none", ("--list-devices",), 1, NONE),
        (
            "missing",
            (),
            2,
            "the microphone needs the library PortAudio: on Debian or Ubuntu, apt install libportaudio2 ",
        ),
        ("", ("--device", "0"), 2, "--device '0': no device that records is called so; "),
        ("", ("--device", "9"), 2, "--device '9': no device that records is called so; "),
        ("", ("--device", "guitar"), 2, "--device 'guitar': no device that records is called so; "),
        ("", ("--device", "fake"), 2, "--device 'fake': several devices that record are called so; "),
    ],
)
def test_what_is_wrong_with_a_microphone(
    plugged: Callable[..., None], wrong: str, options: tuple[str, ...], code: int, said: str
) -> None:
    """It is said before a model is loaded."""
    plugged(wrong)
    assert error(run("live", "--model", "nothing", *options), code).startswith(said)


def test_sounddevice_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    for options in ((), ("--list-devices",)):
        said = error(run("live", "--model", "nothing", *options))
        assert said.startswith("the microphone needs the package sounddevice: pip install 'max-whisper[live]', and on ")


def test_another_program_uses_it(nano_artifact: Path, silero: Path, sound: Path) -> None:
    with LiveRun("--model", nano_artifact, environment=fake_microphone(sound, wrong="busy")) as live:
        assert live.end().code == 1
    (said,) = live.stderr.splitlines()
    assert "cannot be used (Error opening InputStream: Device unavailable): close the program that uses it" in said


def test_files_that_cannot_be_written_after_an_interrupt(nano_artifact: Path, silero: Path) -> None:
    """Both are said, and the text is not lost."""
    Path("out").mkdir()
    Path("out/commands.srt").symlink_to("/dev/full")
    options = ("--model", nano_artifact, "--output-dir", "out", "--output-format", "srt")
    Path("out/commands.partial.srt").mkdir()
    with LiveRun(AUDIO / "commands.flac", *options) as live:
        live.wait_for("hello\n")
        live.interrupt()
        assert live.end().code == 130
    *_, unwritten, end = live.stderr.splitlines()
    assert "out/commands.partial.srt is a folder" in unwritten and end == "error: stopped by Ctrl-C"
    assert live.stdout.count("hello") == 2  # the line, and the file


# --- a computer that is too slow, and what fails meanwhile


class Shout(Source):
    """Brings all of its sound at once, and does not wait."""

    def __init__(self, samples: Any) -> None:
        super().__init__("the shout", 16000)
        self._samples = samples

    def start(self, queue: SoundQueue, hear: Callable[[Any], None]) -> None:
        for first in range(0, len(self._samples), 1600):
            queue.put(self._samples[first : first + 1600])
        queue.end()

    def stop(self) -> None:
        """Has nothing to do."""


class Screenless:
    """Streams without a terminal, which keep what was written."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.texts: list[str] = []
        self.stdout = SimpleNamespace(isatty=lambda: False, fileno=lambda: 1)
        self.stderr = SimpleNamespace(isatty=lambda: False)

    def write(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, message: object) -> None:
        self.said.append(f"warning: {message}")

    say = show = warn


def test_sound_that_was_left_out_is_told(nano: max_whisper.Model, silero: Path) -> None:
    """The times of what follows stay right."""
    speech = max_whisper.load_audio(AUDIO / "commands.flac")
    samples = np.concatenate([speech, np.zeros(16000 * 25, np.float32), np.zeros(1600 * 34, np.float32)])
    streams: Any = Screenless()
    captions = Captions(streams, to_stdout=True, for_files=False)
    stream = nano.stream()
    Session(stream, Shout(samples), captions, streams).run(None, Interrupts())
    lost = len(samples) / 16000 - 30
    assert streams.said == [
        f"warning: {lost:.1f} s of sound were left out at 0:30: the computer is too slow for this model"
    ]
    assert stream.seconds == pytest.approx(len(samples) / 16000, abs=0.001)
    assert "".join(streams.texts) == (AUDIO / "commands.txt").read_text()


class Broken:
    """A stream that fails in the middle of a phrase."""

    seconds, language = 1.0, "en"

    def __init__(self, stream: max_whisper.Stream) -> None:
        self._stream = stream
        self._fed = 0

    def feed(self, samples: Any) -> Any:
        self._fed += 1
        events = self._stream.feed(samples)
        if any(event.kind == "confirmed" and "door" in event.text for event in events):
            self.finish = self.feed = self._fail
        return events

    def told(self) -> list[max_whisper.StreamEvent]:
        return self._stream.told()

    def finish(self) -> Any:
        return self._stream.finish()

    def _fail(self, *_: Any) -> Any:
        raise RuntimeError("the model broke")


class Steps(Shout):
    """Brings its sound as fast as it is heard, in steps of half a second."""

    def start(self, queue: SoundQueue, hear: Callable[[Any], None]) -> None:
        self._pieces = iter(np.split(self._samples, range(8000, len(self._samples), 8000)))
        take = queue.take

        def next_piece(timeout: float | None = None) -> Any:
            piece = next(self._pieces, None)
            queue.end() if piece is None else queue.put(piece)
            return take(timeout)

        queue.take = next_piece  # type: ignore[method-assign]


def test_words_of_a_phrase_that_cannot_be_finished(nano: max_whisper.Model, silero: Path) -> None:
    streams: Any = Screenless()
    captions = Captions(streams, to_stdout=True, for_files=False)
    broken: Any = Broken(nano.stream(endpoints="none", step=0.5))
    speech = max_whisper.load_audio(AUDIO / "commands.flac")
    with pytest.raises(RuntimeError, match="the model broke"):
        Session(broken, Steps(speech), captions, streams).run(None, Interrupts())
    assert len(streams.texts) == 1 and streams.texts[0].startswith("hello open door")


@pytest.mark.parametrize("format", ["srt", "json"])
def test_files_have_the_words_of_a_phrase_that_cannot_be_finished(
    nano: max_whisper.Model, silero: Path, format: str
) -> None:
    """So has standard output, where the file goes there at the end."""
    streams: Any = Screenless()
    captions = Captions(streams, to_stdout=False, for_files=True)
    broken: Any = Broken(nano.stream(endpoints="none", step=0.5))
    speech = max_whisper.load_audio(AUDIO / "commands.flac")
    texts = Texts([{format: None}], SubtitleOptions(), streams)
    with pytest.raises(RuntimeError, match="the model broke"):
        Session(broken, Steps(speech), captions, streams).run(texts, Interrupts())
    (content,) = streams.texts
    (segment,) = captions.segments
    assert "hello open door" in content
    assert segment.tokens == [] and "".join(word.word for word in segment.words or []) == segment.text
    assert 0 <= segment.start < segment.end < len(speech) / 16000


def test_segments_are_kept_for_files_alone(nano: max_whisper.Model, silero: Path) -> None:
    """A session may last for days."""
    speech = max_whisper.load_audio(AUDIO / "commands.flac")
    streams: Any = Screenless()
    alone, for_files = (Captions(streams, to_stdout=True, for_files=kept) for kept in (False, True))
    for captions in (alone, for_files):
        Session(nano.stream(), Shout(speech), captions, streams).run(None, Interrupts())
        assert "".join(streams.texts) == (AUDIO / "commands.txt").read_text()
        streams.texts.clear()
        assert captions._unseen == []
    assert alone.segments == [] and len(for_files.segments) > 3


def test_nothing_is_written_twice_after_a_failure(nano: max_whisper.Model, silero: Path) -> None:
    streams: Any = Screenless()
    tried: list[str] = []

    def refuse(text: str) -> None:
        tried.append(text)
        raise OutputError("no space")

    streams.write = refuse
    streams.stderr = SimpleNamespace(isatty=lambda: True)
    shown: list[str] = []
    streams.show = shown.append
    captions = Captions(streams, to_stdout=True, for_files=False)
    captions._terminal = None
    speech = max_whisper.load_audio(AUDIO / "commands.flac")
    with pytest.raises(OutputError):
        Session(nano.stream(), Shout(speech), captions, streams).run(None, Interrupts())
    assert tried == ["hello\n"] and shown == (AUDIO / "commands.txt").read_text().splitlines()
