"""Fuzzes commands × streams × locales: no output is lost without a message, and no message is without reason."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from max_whisper import Model
from max_whisper.cli.streams import harmless
from max_whisper.runtime.output.writers import render
from support.harness import LONGEST_MESSAGE, Budget
from support.sounds import sweep, write_wav
from support.terminals import INPUTS, OUTPUTS, WRITABLE, Seen, look

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and memfd_create")

ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1:strict"},
    {"PYTHONIOENCODING": "utf-16"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONUNBUFFERED": "1"},
    {"FORCE_COLOR": "1"},
    {"NO_COLOR": "1", "TERM": "dumb"},
    {"PYTHONWARNINGS": "default"},
]
MOST = ("--max-new-tokens", "6", "--temperature-increment-on-fallback", "none", "--language", "en")


@dataclass(frozen=True)
class Command:
    """A command, and what a right outcome is."""

    arguments: tuple[str, ...]
    text: str | None = None  # all of what stdout must be, or
    part: bytes = b""  # what must be in it
    stdout: bool = True  # whether that is where the result goes
    stderr: bool = False  # whether something on stderr was asked for, too
    stdin: bool = False
    code: int = 0
    late: bool = False  # whether stdout is not looked at before the mistake is found
    file: tuple[str, str] | None = None  # a file that is written


@pytest.fixture(scope="module")
def commands(artifact: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    folder = tmp_path_factory.mktemp("streams")
    talk, out = str(write_wav(folder / "talk.wav", sweep(2.5))), str(folder / "out")
    result = model.transcribe(talk, max_new_tokens=6, temperature=0, language="en")
    texts = {format: render(result, format) for format in ("txt", "json", "srt")}
    rest = ("--model", str(artifact), *MOST)
    told = Command(("transcribe", talk, *rest, "--explain"), texts["txt"], stderr=True)
    into = Command(
        ("transcribe", talk, *rest, "--output-dir", out), stdout=False, file=(f"{out}/talk.txt", texts["txt"])
    )
    return {
        "text": Command(("transcribe", talk, *rest), texts["txt"]),
        "several": Command(("transcribe", talk, talk, *rest), texts["txt"] * 2),
        "json": Command(("transcribe", talk, *rest, "--output-format", "json"), texts["json"]),
        "explained": told,
        "file": into,
        "from stdin": Command(("transcribe", "-", *rest, "--output-format", "srt"), texts["srt"], stdin=True),
        "missing": Command(("transcribe", "none\x1b.wav", *rest), code=2),
        "inspect": Command(("inspect", "tiny"), part=b"encoder.conv1"),
        "inspect nothing": Command(("inspect", "tinny"), code=2),
        "verify nothing": Command(("verify", f"{out}/none"), code=2),
        "bench nothing": Command(("bench", f"{out}/none"), code=2),
        "build nothing": Command(("build", "--spec", "tinny"), code=2),
        "schema": Command(("schema",), part=b"\n}\n"),
        "help": Command(("--help",), part=b"transcribe"),
        "help of one": Command(("bench", "-h"), part=b"--rounds"),
        "version": Command(("--version",), part=b"max-whisper, version"),
        "nothing": Command((), part=b"transcribe"),
        "unknown": Command(("transcrbe",), code=2, late=True),
        "wrong option": Command(("build", "--spec", "tiny", "--dtype", "int3"), code=2, late=True),
    }


def wrong(command: Command, seen: Seen, stdin: str, stdout: str, stderr: str) -> str:
    """Says what is wrong with what a command left behind; "" if it is right."""
    code = command.code
    if command.stdin and stdin != "file":
        code = 2
    silent = False
    if command.stdout and stdout not in WRITABLE and not command.late and not (stdout == "full" and code):
        code, silent = 1, stdout == "gone"
    elif code == 0 and command.stderr and stderr not in WRITABLE:
        code = 1
    if seen.code != code:
        return f"exit code {seen.code}, not {code}"
    arrived = stdout in WRITABLE and not (code and not command.stderr)
    expected = harmless(command.text) if command.text and stdout == "terminal" else command.text
    if arrived and (command.part not in seen.stdout or expected not in (None, seen.stdout.decode())):
        return "something else on stdout than was asked for"
    if stdout in WRITABLE and code == 2 and seen.stdout:
        return "a mistake on stdout"
    if command.file is not None and Path(command.file[0]).read_text(encoding="utf-8") != command.file[1]:
        return "something else in the file than was asked for"
    if stderr not in WRITABLE:
        return "something on a stream that takes nothing" if seen.stderr else ""
    if stderr != "terminal" and b"\x1b" in seen.stderr:
        return "a progress bar in a file"
    if any(not line.isprintable() or len(line) > LONGEST_MESSAGE for line in seen.said):
        return "a line that is not readable"
    errors = [line for line in seen.said if line.startswith("error: ")]
    if len(errors) != bool(code and not silent) or (errors and seen.said[-1] != errors[0]):
        return f"{len(errors)} errors in {len(seen.said)} lines"
    return "more than was asked for" if len(seen.said) > len(errors) and not command.stderr and not command.file else ""


def test_streams(budget: Budget, commands: dict[str, Command]) -> None:
    for number, rng in budget.cases(count=35, seconds=20):
        name = rng.choice(sorted(commands))
        kinds = rng.choice(INPUTS), rng.choice(OUTPUTS), rng.choice(OUTPUTS)
        environment = rng.choice(ENVIRONMENTS)
        command = commands[name]
        if command.file is not None:
            Path(command.file[0]).unlink(missing_ok=True)
        sound = Path(commands["text"].arguments[1])
        stdin, stdout, stderr = kinds
        seen = look(*command.arguments, stdin=stdin, stdout=stdout, stderr=stderr, sound=sound, environment=environment)
        fault = wrong(command, seen, stdin, stdout, stderr)
        assert not fault, f"case {number}, {name} with {kinds} and {environment}: {fault}: {seen}"
