"""What people see of `max-whisper live` in a terminal."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from max_whisper.cli.live.meter import Meter
from max_whisper.cli.live.screen import HIDE_CURSOR, SHOW_CURSOR, Screen, clock
from max_whisper.cli.streams import Stream, Streams
from support.live import PATIENCE, LiveRun
from support.screens import Emulator
from support.shell import Shell
from support.terminals import look, terminal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pseudo-terminals")

AUDIO = ROOT / "examples" / "audio"
WIDTH = 30


class Terminal:
    """A pseudo-terminal in which something is drawn.

    Attributes:
        screen: Draws in it; nobody draws the meter until it is entered.
        streams: Standard output, which it is, and standard error, which it is as well.
        meter: The loudness.
        behind: How far behind the text is.
        said: What the emulator has shown.
    """

    def __init__(self, columns: int = WIDTH) -> None:
        self._ours, theirs = terminal(columns)
        self._file = file = os.fdopen(theirs, "w")
        self.emulator = Emulator(columns)
        self.said = ""
        self.meter = Meter(16000)
        self.behind = 0.0
        stream = Stream("standard output", file)
        self.streams = Streams(stream, Stream("standard error", file, lenient=True))
        self.screen = Screen(stream, self.meter, lambda: 67.0, lambda: self.behind)
        self._theirs = theirs

    def resize(self, columns: int, rows: int = 30) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def raw(self) -> str:
        """What was written since the last look."""
        os.set_blocking(self._ours, False)
        content = b""
        try:
            while chunk := os.read(self._ours, 1 << 16):
                content += chunk
        except BlockingIOError:
            return content.decode()
        return content.decode()

    @property
    def rows(self) -> list[str]:
        raw = self.raw
        self.said += raw
        self.emulator.write(raw)
        return self.emulator.rows

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Waits for something that is drawn or done meanwhile, as long as it takes."""
        end = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < end, self.rows
            time.sleep(0.01)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Terminal]]:
    """Makes terminals."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    yield Terminal


def test_words_that_may_change_are_dim(shown: Callable[..., Terminal]) -> None:
    terminal = shown()
    terminal.screen.show(" hello there", " my frend", "speaking")
    assert terminal.rows[0] == "hello there my frend" and "my frend" in terminal.emulator.dim
    assert "hello" not in terminal.emulator.dim and terminal.rows[1].startswith("● speaking")
    terminal.screen.leave("Hello there, my friend.")
    assert terminal.rows == ["Hello there, my friend.", terminal.rows[1]]
    assert "Hello" not in terminal.emulator.dim
    terminal.screen.show(" go", "", "speaking")
    assert terminal.rows[:2] == ["Hello there, my friend.", "go"]


def test_long_phrases_take_several_rows(shown: Callable[..., Terminal]) -> None:
    terminal = shown()
    words = " ".join(f"word{i}" for i in range(12))
    terminal.screen.show(words, " and more", "speaking")
    rows = terminal.rows
    assert " ".join(rows[:-1]) == words + " and more" and all(len(row) <= WIDTH for row in rows) and len(rows) == 4
    terminal.screen.show("", "", "listening")
    assert len(terminal.rows) == 1


def test_only_the_end_of_a_phrase_that_is_taller_than_the_terminal(shown: Callable[..., Terminal]) -> None:
    terminal = shown()
    terminal.resize(WIDTH, 5)
    words = [f"number{i:03d}" for i in range(60)]
    terminal.screen.show(" ".join(words), "", "speaking")
    rows = terminal.rows
    assert len(rows) == 5 and rows[3].endswith(words[-1])
    terminal.screen.leave(" ".join(words))
    assert " ".join(terminal.rows[:-1]) == " ".join(words)


def test_wide_characters(shown: Callable[..., Terminal]) -> None:
    terminal = shown(21)
    text = "新しい地域の断片として見過ごすわけには行かなかった。"
    terminal.screen.show(text[:20], text[20:], "speaking")
    first, second, third, _ = terminal.rows
    assert (first, second, first + second + third) == (text[:10], text[10:20], text)
    terminal.screen.leave(text)
    assert "".join(terminal.rows[:-1]) == text


def test_a_terminal_that_becomes_narrower(shown: Callable[..., Terminal]) -> None:
    """It breaks the rows that are there, and all of these are drawn again."""
    terminal = shown()
    terminal.screen.show("a" * 28, "", "speaking")
    assert len(terminal.rows) == 2
    terminal.resize(14)
    terminal.screen.show("bb", "", "speaking")
    assert "\r\x1b[3A" in terminal.raw  # two rows for the word, and two for the meter


@pytest.mark.parametrize("columns", [1, 2, 5, 12, 16, 25, 30, 200])
def test_the_meter_fits(shown: Callable[..., Terminal], columns: int) -> None:
    terminal = shown(columns)
    terminal.behind = 12.3
    terminal.meter.hear(np.full(1600, 0.1, np.float32))
    terminal.screen.show("", "", "listening")
    (row,) = terminal.rows
    assert len(row) <= max(1, columns - 3)
    assert ("12 s behind" in row) == (columns > 27)
    if columns == 200:
        assert row == "○ listening  " + "━" * 13 + "─" * 7 + "  1:07  12 s behind"


def test_the_meter_says_that_no_sound_comes(shown: Callable[..., Terminal]) -> None:
    terminal = shown(80)
    terminal.meter.heard -= 5
    terminal.screen.show("", "", "listening")
    assert "no sound comes in" in terminal.rows[0]


def test_the_meter_is_red_where_sound_is_too_loud(shown: Callable[..., Terminal]) -> None:
    terminal = shown(80)
    terminal.meter.hear(np.full(100, 32767, np.int16))
    terminal.screen.show("", "", "speaking")
    raw = terminal.raw
    assert terminal.meter.level > 0.99 and "\x1b[31m" in raw


def test_no_color(shown: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = shown(80)
    terminal.screen.show("hello", " you", "speaking")
    raw = terminal.raw
    assert "\x1b[2m" in raw and "\x1b[3" not in raw


def test_nothing_that_is_said_obeys(shown: Callable[..., Terminal]) -> None:
    terminal = shown(80)
    terminal.screen.show("a\x1b[31mb", "\x1b]0;title\x07", "speaking")
    terminal.screen.leave("a\x1b[31mb\nc")
    assert "\x1b[31m" not in terminal.raw.replace("\x1b[31m━", "")


def test_a_message_appears_above(shown: Callable[..., Terminal]) -> None:
    terminal = shown()
    terminal.screen.show("hello", "", "speaking")
    with terminal.streams.above(terminal.screen.hidden):
        terminal.streams.warn("it is late\r")
    assert terminal.rows[:2] == ["warning: it is late\\r", "hello"]


def test_the_meter_moves_while_the_model_computes(shown: Callable[..., Terminal]) -> None:
    terminal = shown()
    with terminal.screen:
        terminal.screen.show("hello", "", "speaking")
        before = terminal.rows
        terminal.meter.hear(np.full(100, 0.5, np.float32))
        terminal.wait_until(lambda: terminal.rows != before)
        assert not terminal.emulator.cursor_shown
    assert terminal.rows == [] and terminal.emulator.cursor_shown


def test_ctrl_z_waits_for_the_end_of_a_drawing(shown: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a code of a terminal would become text of the shell's."""
    stopped: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", stopped.append)
    terminal = shown()
    before = signal.getsignal(signal.SIGTSTP)
    with terminal.screen:
        terminal.screen.show("hello", "", "speaking")
        with terminal.screen.hidden():
            os.kill(os.getpid(), signal.SIGTSTP)
            threading.Event().wait(0.3)
            assert stopped == [] and terminal.rows == [] and not terminal.emulator.cursor_shown
        terminal.wait_until(lambda: terminal.rows[:1] == ["hello"] and SHOW_CURSOR in terminal.said)
        assert stopped == [signal.SIGTSTP]
        terminal.wait_until(lambda: bool(terminal.rows) and not terminal.emulator.cursor_shown)
    assert signal.getsignal(signal.SIGTSTP) == before


def test_times() -> None:
    assert [clock(seconds) for seconds in (0, 7.9, 61, 3607)] == ["0:00", "0:07", "1:01", "1:00:07"]


# --- the command


def replay(model: Path, *options: Any, **settings: Any) -> LiveRun:
    """Replays a recording whose phrases are all understood, faster than it was said."""
    return LiveRun(AUDIO / "commands.flac", "--model", model, "--speed", "9", *options, **settings)


TEXT = (AUDIO / "commands.txt").read_text().split("\n")[:-1]


@pytest.mark.parametrize("columns", [100, 8])
def test_final_texts_stay(nano_artifact: Path, silero: Path, columns: int) -> None:
    with replay(nano_artifact, stdout="terminal", stderr="one", columns=columns) as live:
        assert live.end().code == 0
    screen = live.screen()
    assert " ".join(screen.rows).split() == " ".join(TEXT).split() and screen.cursor_shown
    if columns == 100:
        assert screen.rows == TEXT
        assert "listening" in screen.dim and "speaking" in screen.dim


def test_a_terminal_sees_what_a_file_gets(nano_artifact: Path, silero: Path) -> None:
    arguments = f"{sys.executable} -m max_whisper live {AUDIO / 'commands.flac'} --model {nano_artifact} --speed 9"
    seen = look(
        stdout="file",
        stderr="terminal",
        program=f"import os; os.execvp('sh', ['sh', '-c', {arguments!r}])",
    )
    assert seen.code == 0 and seen.stdout.decode().splitlines() == TEXT
    screen = Emulator(100)
    screen.write(seen.stderr.decode())
    assert screen.rows == TEXT


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "unknown"}])
def test_a_terminal_that_obeys_nothing(nano_artifact: Path, silero: Path, environment: dict[str, str]) -> None:
    with replay(nano_artifact, stdout="terminal", stderr="one", environment=environment) as live:
        assert live.end().code == 0
    assert live.stdout.split("\n")[:-1] == TEXT


def test_a_reader_has_the_terminal_to_itself(nano_artifact: Path, silero: Path) -> None:
    """`max-whisper live | tee` writes to the terminal that standard error is."""
    with replay(nano_artifact, stdout="pipe", stderr="terminal") as live:
        assert live.end().code == 0
    assert (live.stdout.split("\n")[:-1], live.stderr) == (TEXT, "")


@pytest.mark.parametrize("output", ["terminal", "file"])
def test_ctrl_z_gives_the_terminal_back(nano_artifact: Path, silero: Path, tmp_path: Path, output: str) -> None:
    """The shell finds its cursor, and what it writes stays."""
    command = ("live", AUDIO / "commands.flac", "--model", nano_artifact, "--speed", "2")
    with Shell(*command, output=tmp_path / "out.txt" if output == "file" else None) as shell:
        shell.wait_for("open door")
        shell.type("\x1a")
        shell.wait_for("[stopped]")
        screen = shell.screen()
        assert screen.cursor_shown and screen.rows[-1] == "[stopped]" and "listening" not in screen.rows[-2]
        said = shell.written
        shell.resume()
        shell.wait_for("[ended 0]")
    assert HIDE_CURSOR in shell.written[len(said) :]
    screen = shell.screen()
    assert screen.cursor_shown
    (stopped,) = (row for row in screen.rows if row == "[stopped]")
    assert [row for row in screen.rows if row not in (stopped, "[ended 0]")] == TEXT
    assert 0 < screen.rows.index(stopped) < len(TEXT)


def test_an_interrupt_in_a_terminal(nano_artifact: Path, silero: Path, tmp_path: Path) -> None:
    options = ("--output-format", "srt", "--output-dir", tmp_path / "out")
    with LiveRun(
        AUDIO / "commands.flac", "--model", nano_artifact, *options, stdout="terminal", stderr="terminal", columns=60
    ) as live:
        live.wait_for("go")
        live.interrupt()
        assert live.end().code == 130
    screen = live.screen()
    assert screen.cursor_shown and screen.rows[:3] == TEXT[:3]
    assert [line for line in (tmp_path / "out" / "commands.srt").read_text().splitlines() if line in screen.rows]
    assert live.stderr.endswith("error: stopped by Ctrl-C\n")
