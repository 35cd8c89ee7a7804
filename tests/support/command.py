"""Runs the command line in this process, or where that matters in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
from max_whisper.cli.main import main

INVENTED = re.compile(r"^warning: [^\n]* probably invented, for example [^\n]*\n", re.MULTILINE)
"""The warning of a text that was probably invented, as all texts of models with random weights are."""


@dataclass(frozen=True)
class Outcome:
    """What a command said and returned; `invented` has its warnings of invented text, and `stderr` all the rest."""

    code: int
    stdout: str
    stderr: str
    invented: tuple[str, ...] = ()

    @classmethod
    def of(cls, code: int, stdout: str, stderr: str) -> Outcome:
        return cls(code, stdout, INVENTED.sub("", stderr), tuple(INVENTED.findall(stderr)))


def run(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
    """Runs `max-whisper ARGUMENTS` in this process."""
    result = click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome.of(result.exit_code, result.stdout, result.stderr)


def spawn(*arguments: str | Path, **options: Any) -> Outcome:
    """Runs `max-whisper ARGUMENTS` in a process of its own, with options for subprocess.run."""
    command = [sys.executable, "-m", "max_whisper", *map(str, arguments)]
    done = subprocess.run(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})
    return Outcome.of(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())


def error(outcome: Outcome, code: int = 2) -> str:
    """Returns the sentence of an outcome; fails unless it is an error and nothing else."""
    assert outcome.code == code, outcome
    assert outcome.stdout == ""
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")
