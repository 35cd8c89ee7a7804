"""Standard streams of every kind, and interrupts: no recognized text is lost, and every end is one sentence."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from max_whisper import Model
from max_whisper.cli.streams import Stream, harmless
from max_whisper.console import Table, table_console
from max_whisper.errors import MaxWhisperError
from max_whisper.runtime.output.writers import known_formats, render
from support.artifacts import copy
from support.command import INVENTED, error, run
from support.sounds import sweep, write_wav
from support.terminals import WRITABLE, Seen, look

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and memfd_create")

MOST = ("--max-new-tokens", "12", "--temperature-increment-on-fallback", "none")
LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
PRINTING = {  # commands that need no work, and what they print
    "help": (("--help",), b"transcribe  "),
    "version": (("--version",), b"0."),
    "nothing": ((), b"Every command has its own --help"),
    "schema": (("schema",), b'"$schema"'),
    "inspect": (("inspect", "tiny"), b"model.encoder.conv1"),
}


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of three windows."""
    return write_wav(tmp_path_factory.mktemp("audio") / "talk.wav", sweep(5.0))


@pytest.fixture(scope="module")
def text(model: Model, talk: Path) -> bytes:
    """What is said in it."""
    return render(model.transcribe(talk, max_new_tokens=12, temperature=0), "txt").encode()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


def sentence(seen: Seen, code: int) -> str:
    """That of an error."""
    assert seen.code == code, seen
    (line,) = seen.said
    assert line.startswith("error: ") and line.isprintable()
    return line.removeprefix("error: ")


# --- where results go


@pytest.mark.parametrize("stdout", WRITABLE)
@pytest.mark.parametrize("stderr", ["terminal", "pipe"])
def test_a_progress_bar_takes_no_text(artifact: Path, talk: Path, text: bytes, stdout: str, stderr: str) -> None:
    assert not text.isascii()
    seen = look("transcribe", talk, "--model", artifact, *MOST, stdout=stdout, stderr=stderr)
    assert (seen.code, seen.stdout, seen.said) == (0, text, [])
    assert (b"\xe2\x94\x81" in seen.stderr) == (stderr == "terminal")


@pytest.mark.parametrize("format", known_formats())
def test_formats_beside_a_progress_bar(artifact: Path, model: Model, talk: Path, format: str) -> None:
    expected = render(model.transcribe(talk, max_new_tokens=12, temperature=0), format).encode()
    options = ("--model", artifact, "--output-format", format, *MOST)
    assert look("transcribe", talk, *options, stdout="file", stderr="terminal").stdout == expected


def test_colors_that_are_forced(artifact: Path, talk: Path, text: bytes) -> None:
    seen = look("transcribe", talk, "--model", artifact, *MOST, stdout="file", environment={"FORCE_COLOR": "1"})
    assert (seen.code, seen.stdout, seen.said) == (0, text, [])


@pytest.mark.parametrize("locale", LOCALES)
def test_results_are_utf_8_in_every_locale(artifact: Path, talk: Path, text: bytes, locale: str) -> None:
    name = os.fsdecode(b"na\xefve \xe2\x99\xaa.wav")
    shutil.copy(talk, name)
    options = ("--model", artifact, *MOST, "--verbose")
    seen = look("transcribe", name, "missing é.wav", *options, environment=LOCALES[locale])
    assert (seen.code, seen.stdout) == (2, text)
    *segments, missing, failed = seen.said
    assert all(" --> " in segment for segment in segments) and len(segments) == len(text.splitlines())
    assert "there is no file missing" in missing and "1 of 2 recordings" in failed
    table = look("inspect", "tiny", environment=LOCALES[locale])
    assert table.code == 0 and "┃ layer" in table.stdout.decode()


def test_the_result_of_a_build_and_its_messages(spec: Path, checkpoint: Path) -> None:
    options = ("--weights", checkpoint, "--out", "out")
    seen = look("build", "--spec", spec, *options, stdout="file", stderr="terminal", environment=LOCALES["C"])
    assert seen.code == 0 and "is ready (" in seen.stdout.decode()
    assert any("compiled the encoder" in line for line in seen.said)


# --- streams that take nothing


@pytest.mark.parametrize("command", PRINTING)
def test_stdout_that_takes_nothing(command: str) -> None:
    arguments, shown = PRINTING[command]
    assert shown in look(*arguments).stdout
    assert "is closed" in sentence(look(*arguments, stdout="closed"), 1)
    assert "there is no space left" in sentence(look(*arguments, stdout="full"), 1)
    gone = look(*arguments, stdout="gone")
    assert (gone.code, gone.stderr) == (1, b"")


@pytest.mark.parametrize("command", PRINTING)
@pytest.mark.parametrize("kind", ["closed", "full"])
def test_stderr_that_takes_nothing(command: str, kind: str) -> None:
    arguments, shown = PRINTING[command]
    seen = look(*arguments, stderr=kind)
    assert seen.code == 0 and shown in seen.stdout
    assert look(*arguments, stderr=kind, stdout=kind).code == 1


@pytest.mark.parametrize("kind", ["closed", "full", "gone", "read-only"])
def test_text_and_streams_that_take_nothing(artifact: Path, talk: Path, text: bytes, kind: str) -> None:
    options = ("--model", artifact, *MOST)
    seen = look("transcribe", talk, *options, stderr=kind)
    assert (seen.code, seen.stdout) == (0, text)
    assert look("transcribe", talk, *options, "--explain", stderr=kind).code == 1  # which was asked for
    seen = look("transcribe", talk, *options, stdout=kind)
    assert seen.code == 1 and len(seen.said) == (kind != "gone")
    seen = look("transcribe", talk, *options, "--output-dir", "out", stdout=kind, stderr=kind)
    assert seen.code == 0 and Path("out/talk.txt").read_bytes() == text


@pytest.mark.parametrize("command", ["build", "transcribe", "inspect", "verify", "bench", "schema"])
@pytest.mark.parametrize("stdout", ["closed", "read-only"])
def test_that_nobody_hears_is_known_before_the_work(
    command: str, stdout: str, spec: Path, checkpoint: Path, artifact: Path, talk: Path, tmp_path: Path
) -> None:
    arguments = {
        "build": ("--spec", spec, "--weights", checkpoint, "--out", "out"),
        "transcribe": (talk, "--model", artifact),
        "inspect": (artifact,),
        "verify": (artifact,),
        "bench": (artifact, "--json", "figures.json"),
        "schema": (),
    }
    assert "standard output cannot be written" in sentence(look(command, *arguments[command], stdout=stdout), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_person_sees_what_a_full_disk_does_not_take(artifact: Path, talk: Path, text: bytes) -> None:
    seen = look("transcribe", talk, "--model", artifact, *MOST, stdout="full", stderr="terminal")
    assert seen.code == 1
    shown = [line for line in text.decode().splitlines() if line in seen.stderr.decode()]
    assert shown and "there is no space left" in seen.stderr.decode()


def test_several_recordings_end_with_a_full_disk(artifact: Path, talk: Path, text: bytes) -> None:
    seen = look("transcribe", talk, talk, talk, "--model", artifact, "--verbose", *MOST, stdout="full")
    assert seen.code == 1
    *segments, why = seen.said  # of the first window, after which there is no sense in going on
    assert 0 < len(segments) < len(text.splitlines())
    assert why.startswith("error: standard output cannot be written")


@pytest.mark.parametrize(
    ("stdin", "said"), [("closed", "standard input is closed"), ("terminal", "is a terminal"), ("null", "is empty")]
)
def test_stdin_without_a_recording(artifact: Path, stdin: str, said: str) -> None:
    assert said in sentence(look("transcribe", "-", "--model", artifact, stdin=stdin), 2)


@pytest.mark.parametrize("stdin", ["closed", "null", "terminal"])
def test_stdin_that_nobody_asked_for(artifact: Path, talk: Path, text: bytes, stdin: str) -> None:
    seen = look("transcribe", talk, "--model", artifact, *MOST, stdin=stdin, stdout="file")
    assert (seen.code, seen.stdout, seen.said) == (0, text, [])


def test_all_three_closed(artifact: Path, talk: Path, text: bytes) -> None:
    """Whatever is opened then gets their numbers; nothing may be written into it."""
    before = {path.name: path.read_bytes() for path in artifact.iterdir()}
    options = ("--model", artifact, *MOST, "--output-dir", "out", "--verbose")
    seen = look("transcribe", talk, *options, stdin="closed", stdout="closed", stderr="closed")
    assert seen.code == 1  # what --verbose says did not arrive
    assert Path("out/talk.txt").read_bytes() == text
    assert {path.name: path.read_bytes() for path in artifact.iterdir()} == before


def test_a_stream_that_takes_little_at_a_time() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    text = "naïve ♪\n" * 20_000
    with Path("read").open("wb") as read:
        reader = subprocess.Popen(["sh", "-c", "sleep 0.3; cat"], stdin=ours, stdout=read)
    os.close(ours)
    with os.fdopen(theirs, "wb") as file:
        Stream("standard output", SimpleNamespace(buffer=file)).write(text)
    assert reader.wait(timeout=20) == 0 and Path("read").read_text(encoding="utf-8") == text


# --- what a terminal would obey

HOSTILE = "a\x1b[2J\x07\r\x9b31m\x7f\x00 [red]b[/] :smile:\tc ש\u200c\u3000é"


def test_text_is_harmless_on_a_terminal_and_whole_elsewhere() -> None:
    assert harmless(HOSTILE) == "a\\x1b[2J\\x07\\r\\x9b31m\\x7f\\x00 [red]b[/] :smile:\tc ש\u200c\u3000é"
    program = (
        f"from max_whisper.cli.streams import opened\nwith opened() as s: s.write({HOSTILE!r}); s.show({HOSTILE!r})"
    )
    for stdout, expected in (("pipe", HOSTILE), ("terminal", harmless(HOSTILE))):
        seen = look(stdout=stdout, stderr="terminal", program=program)
        assert seen.stdout.decode() == expected
        assert b"\\x1b[2J\\x07\\r\\x9b31m\\x7f\\x00 [red]b[/] :smile:" in seen.stderr


@pytest.mark.parametrize("name", ["[red]", "[/]", "\x1b[2J", ":smile:", "a\nb", os.fsdecode(b"\xff"), "x" * 200])
def test_foreign_names_in_tables(name: str, artifact: Path) -> None:
    copy(artifact, Path(name))
    outcome = run("inspect", name)
    assert outcome.code == 0
    table = Table("a", title=name)
    table.add_row(name)
    table.add_row([name, name])
    console = table_console()
    with console.capture() as captured:
        console.print(table)
    for printed, times in ((outcome.stdout, 1), (captured.get(), 4)):
        assert all(line.isprintable() for line in printed.splitlines())
        assert printed.count(repr(name)[1:-1][:100]) == times


def test_foreign_names_of_files(artifact: Path, talk: Path, text: bytes) -> None:
    names = ["\x1b[31m[red]", "[-]\n", os.fsdecode(b"\xff")]
    for name in names:
        shutil.copy(talk, f"{name}.wav")
    options = ("--model", artifact, *MOST, "--output-dir", "out", "--explain", "--verbose")
    seen = look("transcribe", *(f"{name}.wav" for name in names), "\x1b]0;x", *options, stderr="terminal")
    assert seen.code == 2
    assert all(line.isprintable() for line in seen.said)
    assert [line for line in seen.said if line.startswith("out/")] == [
        "out/\\x1b[31m[red].txt",
        "out/[-]\\n.txt",
        "out/\\udcff.txt",
    ]
    assert all(Path(f"out/{name}.txt").read_bytes() == text for name in names)


# --- warnings and bugs


def test_warnings_are_lines_of_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    def inspect(what: str, *, every: bool) -> None:
        logging.getLogger("max_whisper.somewhere").warning("%s is damaged", "a\x1b[2J\n")
        logging.getLogger("another").error("lost")
        logging.getLogger("another").info("not said")
        warnings.warn("old", UserWarning, stacklevel=1)
        sys.stdout.write("result\n")

    monkeypatch.setattr("max_whisper.tools.inspect.inspect", inspect)
    outcome = run("inspect", "tiny")
    assert (outcome.code, outcome.stdout) == (0, "result\n")
    assert outcome.stderr == "warning: a\\x1b[2J\\n is damaged\nwarning: lost\nwarning: old\n"


@pytest.mark.parametrize("failure", [ZeroDivisionError("x\x1b"), KeyError("a\nb"), RecursionError()])
def test_a_bug_is_one_sentence(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def inspect(what: str, *, every: bool) -> None:
        raise failure

    monkeypatch.setattr("max_whisper.tools.inspect.inspect", inspect)
    monkeypatch.delenv("MAX_WHISPER_TRACEBACK", raising=False)
    said = error(run("inspect", "tiny"), 1)
    assert said.isprintable() and "this is a bug of max-whisper; please report it" in said
    monkeypatch.setenv("MAX_WHISPER_TRACEBACK", "1")
    lines = run("inspect", "tiny").stderr.splitlines()
    assert lines[0].startswith("Traceback") and lines[-1] == f"error: {said}"


@pytest.mark.parametrize("failure", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_what_the_system_refuses_is_no_bug(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def inspect(what: str, *, every: bool) -> None:
        raise failure

    monkeypatch.setattr("max_whisper.tools.inspect.inspect", inspect)
    said = error(run("inspect", "tiny"), 1)
    assert type(failure).__name__ in said and "bug" not in said


@pytest.mark.parametrize("arguments", [("--colour",), ("transcrbe",), ("bench",), ("schema", "\x1b[2J"), ("-x\n",)])
def test_wrong_usage_is_one_sentence(arguments: tuple[str, ...]) -> None:
    for stderr in ("pipe", "terminal"):
        assert sentence(look(*arguments, stderr=stderr), 2).endswith(" --help")


# --- files


def test_a_home_folder(
    artifact: Path, talk: Path, text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    outcome = run("transcribe", talk, "--model", artifact, *MOST, "--output-dir=~/out")
    assert (outcome.code, outcome.stderr) == (0, f"{tmp_path}/home/out/talk.txt\n")
    assert (tmp_path / "home" / "out" / "talk.txt").read_bytes() == text
    assert error(run("bench", artifact, "--json", "~/none/x.json")).startswith(f"--json {tmp_path}/home/none/x.json: ")
    run("transcribe", talk, "--model", artifact, *MOST, "--output-dir=~no-such-user/out")
    assert (tmp_path / "~no-such-user" / "out" / "talk.txt").read_bytes() == text


@pytest.mark.parametrize("place", [".", "link", "../{folder}"])
def test_what_is_read_is_not_overwritten(artifact: Path, talk: Path, place: str, tmp_path: Path) -> None:
    """Whatever the recording is called, and the files of the model."""
    content = talk.read_bytes()
    (tmp_path / "talk.json").write_bytes(content)
    (tmp_path / "link").symlink_to(".")
    options = ("--output-format", "json", "--output-dir", place.format(folder=tmp_path.name))
    for arguments in (("talk.json",), (talk, "talk.json", "x.wav")):
        said = error(run("transcribe", *arguments, "--model", artifact, *options))
        assert "would be" in said
    shutil.copytree(artifact, "model")
    shutil.copy(talk, "manifest.wav")
    before = Path("model/manifest.json").read_bytes()
    said = error(run("transcribe", "manifest.wav", "--model", "model", *options[:2], "--output-dir", "model"))
    assert "model/manifest.json would be overwritten" in said
    assert "would be overwritten" in error(run("bench", "model", "--json", "model/spec.json"))
    assert Path("model/manifest.json").read_bytes() == before and Path("talk.json").read_bytes() == content


def test_names_that_cannot_be_files(artifact: Path, talk: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "talk.txt").mkdir(parents=True)
    options = ("--model", artifact, "--output-dir", "out", *MOST)
    assert "out/talk.txt is a folder" in error(run("transcribe", "missing.wav", talk, *options))
    name = f"{'x' * 251}.wav"
    shutil.copy(talk, name)
    assert "(File name too long)" in error(run("transcribe", name, *options, "--output-format", "json"))


def test_a_folder_that_vanishes_is_made_again(
    artifact: Path, talk: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_whisper.cli.commands.transcribe.check_files", lambda files: shutil.rmtree("out"))
    assert run("transcribe", talk, "--model", artifact, "--output-dir", "out", *MOST).code == 0
    assert Path("out/talk.txt").read_bytes() == text


def test_text_that_its_file_does_not_take_is_not_lost(
    artifact: Path, talk: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands for a disk that fills up meanwhile."""
    shutil.copy(talk, "second.wav")
    options = ("--model", artifact, *MOST, "--output-dir", "out", "--output-format", "all")

    def fill(result: object, format: str, *others: object) -> None:
        if format != "txt":
            raise MaxWhisperError(f"no space for {format}")

    monkeypatch.setattr("max_whisper.cli.outputs.write", fill)
    outcome = run("transcribe", talk, "second.wav", *options)
    assert outcome.code == 1
    lines = outcome.stderr.splitlines()
    assert lines[0] == "out/talk.txt"
    assert (
        lines[1] == "error: no space for json (json, srt, tsv, vtt were not written); its text went to standard output"
    )
    assert lines[-1].startswith("error: 2 of 2 recordings")
    assert len(re.findall('{"text": "', outcome.stdout)) == 2  # json has what the others have


def test_plain_text_comes_window_by_window(artifact: Path, long: Path) -> None:
    """So that whoever is ended with the reader of its pipe, as `tee` is by Ctrl-C, has lost nothing."""
    process = started("transcribe", long, "--model", artifact, "--language", "en", *MOST)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.strip() and process.poll() is None
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    warning, last = INVENTED.sub("", stderr).splitlines()
    assert "is incomplete" in warning and "of 600 s were heard" in warning and last == "error: stopped by Ctrl-C"
    assert rest == "" or rest.endswith("\n")


def test_an_interrupt_that_ends_the_reader_too(artifact: Path, long: Path) -> None:
    process = started("transcribe", long, "--model", artifact, "--language", "en", *MOST)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    stderr = process.stderr.read()
    assert process.wait(timeout=60) in (1, 130)  # 1: it wanted to write just before
    assert process.returncode == 1 or stderr.splitlines()[-1] == "error: stopped by Ctrl-C"


def test_an_incomplete_text_does_not_replace_an_older_one(artifact: Path, long: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "long.txt").write_text("the whole text")
    options = ("--model", artifact, "--language", "en", *MOST, "--verbose", "--output-dir", "out")
    process = started("transcribe", long, *options)
    assert process.stderr is not None and process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and "out/long.partial.txt" in stderr.splitlines()
    assert (tmp_path / "out" / "long.txt").read_text() == "the whole text"
    assert (tmp_path / "out" / "long.partial.txt").read_text()


def test_a_pipe_as_output_name(artifact: Path, talk: Path, tmp_path: Path) -> None:
    """Writing to it would wait for a reader."""
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "talk.txt")
    assert "is a pipe" in error(run("transcribe", talk, "--model", artifact, "--output-dir", "out"))
    (tmp_path / "out" / "talk.txt").unlink()
    (tmp_path / "out" / "talk.txt").symlink_to("nowhere")
    assert "is a link that leads to nothing" in error(
        run("transcribe", talk, "--model", artifact, "--output-dir", "out")
    )


def test_a_full_disk_is_known_before_the_work(artifact: Path, talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("max_whisper.cli.outputs.tempfile.TemporaryFile", lambda **options: Full())
    assert "there is no space left" in error(run("transcribe", talk, "--model", artifact, "--output-dir", "out"), 1)


# --- interrupts


def started(*arguments: str | Path, **streams: int) -> subprocess.Popen[str]:
    """`max-whisper`, which heeds Ctrl-C: background jobs of a shell, which the tests may run in, ignore it."""

    def heed() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    command = [sys.executable, "-m", "max_whisper", *map(str, arguments)]
    return subprocess.Popen(
        command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}, text=True, preexec_fn=heed
    )


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("audio") / "long.wav", sweep(600.0))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_was_recognized_is_written(artifact: Path, talk: Path, long: Path, name: str, tmp_path: Path) -> None:
    number = signal.Signals[name]
    options = ("--model", artifact, "--language", "en", *MOST, "--verbose", "--output-dir", "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "never.txt").write_text("of an earlier run")
    shutil.copy(talk, "never.wav")
    process = started("transcribe", talk, long, "never.wav", *options)
    assert process.stderr is not None
    while "long.wav: [" not in process.stderr.readline():
        pass
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` does, and whoever closes a terminal
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    last = INVENTED.sub("", stderr).splitlines()[-2:]
    assert last == [
        "out/long.txt",
        f"error: stopped by {'Ctrl-C' if name == 'SIGINT' else name}",
    ]
    assert (tmp_path / "out" / "talk.txt").read_text() and (tmp_path / "out" / "long.txt").read_text()
    assert (tmp_path / "out" / "never.txt").read_text() == "of an earlier run"


def test_ignored_signals_stay_ignored(artifact: Path, talk: Path, text: bytes) -> None:
    """As nohup has it."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    command = [sys.executable, "-m", "max_whisper", "transcribe", talk, "--model", artifact, *MOST, "--verbose"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=ignore)
    assert process.stderr is not None
    assert b" --> " in process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    assert (process.communicate(timeout=60)[0], process.returncode) == (text, 0)


def _stuck(artifact: Path, talk: Path, text: bytes) -> tuple[subprocess.Popen[str], int]:
    """A command that cannot write its text, as the pipe is full, and our end of that."""
    ours, theirs = os.pipe()
    os.write(theirs, b" " * fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096))
    options = ("--model", artifact, "--output-format", "json", *MOST, "--verbose")
    process = started("transcribe", talk, *options, stdout=theirs)
    os.close(theirs)
    assert process.stderr is not None
    for _ in text.splitlines():
        assert " --> " in process.stderr.readline()
    time.sleep(1)
    return process, ours


def test_a_text_is_not_cut_by_an_interrupt(artifact: Path, model: Model, talk: Path, text: bytes) -> None:
    process, ours = _stuck(artifact, talk, text)
    process.send_signal(signal.SIGINT)
    with os.fdopen(ours, encoding="utf-8") as pipe:
        written = pipe.read()
    result = model.transcribe(talk, temperature=0, max_new_tokens=12)
    assert json.loads(written) == json.loads(render(result, "json"))
    stderr = process.communicate(timeout=60)[1]
    assert INVENTED.sub("", stderr) == "error: stopped by Ctrl-C\n" and process.returncode == 130


def test_a_second_interrupt_ends_at_once(artifact: Path, talk: Path, text: bytes) -> None:
    process, ours = _stuck(artifact, talk, text)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130
    os.close(ours)
    assert process.communicate()[1] == ""


def test_an_interrupted_build_leaves_nothing(spec: Path, checkpoint: Path, tmp_path: Path) -> None:
    process = started("build", "--spec", spec, "--weights", checkpoint, "--out", "out/small")
    assert process.stderr is not None
    assert "checked" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and stderr.splitlines()[-1] == "error: stopped by SIGTERM"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
