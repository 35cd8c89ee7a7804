"""Installs faster-whisper and FastAPI, and converts a checkpoint, as `benchmarks.peers` does, into the same folder."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.peers.engines import ENGINES
from benchmarks.peers.records import digest
from benchmarks.peers.setup import SetupError, convert, environment, variables

ENGINE = "faster_whisper"
WEB = ("fastapi==0.163.2", "uvicorn==0.54.0", "python-multipart==0.0.34")
PACKAGES = (*ENGINES[ENGINE].pip[0], *WEB)


def peer_command(checkpoint: Path, work: Path, port: int) -> tuple[list[str | Path], dict[str, str]]:
    """Returns the command line of the peer's server and its variables, after making what it needs.

    Raises click.ClickException where that fails.
    """
    models = work / "models" / f"{checkpoint.name}-{digest(checkpoint)[:8]}" / ENGINE
    try:
        python = environment(work / "environments" / f"{ENGINE}-server", [PACKAGES])
        convert(ENGINE, work, checkpoint, models)
    except SetupError as error:
        raise click.ClickException(str(error)) from None
    words: list[str | Path] = [
        python,
        "-m",
        "uvicorn",
        "benchmarks.serving.peer_app:app",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    return words, variables(python) | {"MODEL": str(models / "model")}
