"""Makes the environments of the engines and converts checkpoints for them, once; `--work` keeps both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from max_whisper.errors import MaxWhisperError

from benchmarks.peers.conversion import WRITERS
from benchmarks.peers.engines import ENGINES, worker_file
from benchmarks.peers.records import ROOT, Job, digest, measured_code

LAST_LINE = 300  # the most characters that are shown of a message of pip or of a converter
TIMEOUT = 3600  # seconds, for pip and for a converter


class SetupError(Exception):
    """An engine could not be installed, or a model not converted for it; the message is one line."""


def say(message: str) -> None:
    """Prints a line of progress."""
    click.echo(message, err=True)


def command(job: Job, work: Path, threads: int) -> tuple[list[str | Path], dict[str, str]]:
    """Returns the command line of an engine's process and its environment variables, after making what it needs.

    Raises SetupError.
    """
    python = interpreter(job.engine, work)
    models = work / "models" / f"{job.checkpoint.name}-{digest(job.checkpoint)[:8]}" / job.engine
    convert(job.engine, work, job.checkpoint, models)
    words = [python, worker_file(job.engine), "work", job.checkpoint, models, job.variant.name]
    return [*words, str(threads), job.task.mode], variables(python)


def interpreter(name: str, work: Path) -> Path:
    """Returns the Python of an engine, installing the engine if needed: max-whisper is in the one that runs this."""
    engine = ENGINES[name]
    if not engine.pip:
        return Path(sys.executable)
    return environment(work / "environments" / name, engine.pip)


def variables(python: Path) -> dict[str, str]:
    """Returns the environment variables of an engine's process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    if python == Path(sys.executable):
        return environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    packages = python.parents[1] / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # where a pywhispercpp that was compiled here has its libraries
    return environment | {"LD_LIBRARY_PATH": str(packages)}


def environment(folder: Path, choices: Sequence[Sequence[str]], after: Sequence[Sequence[str]] = ()) -> Path:
    """Makes an environment with the first of `choices` that pip can install, and runs `after`, unless it is there.

    Returns its interpreter. Raises SetupError.
    """
    python, done, log = folder / "bin" / "python", folder / "installed.txt", folder.with_suffix(".log")
    wanted = "\n".join(" ".join(words) for words in choices)
    if done.exists() and done.read_text() == wanted:
        return python
    say(f"{folder.name}: installing {', '.join(choices[0])}")
    for i, choice in enumerate(choices):
        venv.create(folder, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            _run([*pip, *choice], log, os.environ)
            break
        except SetupError:
            if i + 1 == len(choices):
                raise
    for program, *words in after:
        _run([folder / "bin" / program, *words], log, os.environ)
    done.write_text(wanted)
    return python


def convert(name: str, work: Path, checkpoint: Path, models: Path) -> None:
    """Converts a checkpoint for an engine into the folder `models`, unless it is done. Raises SetupError."""
    engine, done = ENGINES[name], models / "converted.txt"
    wanted = f"{engine.converter or engine.pip or measured_code()}\n"
    if done.exists() and done.read_text() == wanted:
        return
    say(f"{engine.label}: converting {checkpoint.name}")
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir(parents=True)
    if name in WRITERS:
        try:
            WRITERS[name](checkpoint, models)
        except MaxWhisperError as error:
            raise SetupError(str(error)) from None
    else:
        python = interpreter(name, work)
        if engine.converter:
            python = environment(work / "environments" / f"{name}-converter", [engine.converter], engine.after)
        _run([python, worker_file(name), "convert", checkpoint, models], models.with_suffix(".log"), variables(python))
    done.write_text(wanted)


def _run(command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
    """Runs a command whose output goes to `log`. Raises SetupError with the last line if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("w") as out:
            status = subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment, timeout=TIMEOUT
            ).returncode
    except subprocess.TimeoutExpired:
        raise SetupError(f"not done in {TIMEOUT} s (see {log})") from None
    if status:
        lines = [line for line in log.read_text().splitlines() if line.strip() and not line.startswith("WARNING")]
        raise SetupError(f"{lines[-1][:LAST_LINE] if lines else f'status {status}'} (more in {log})")
