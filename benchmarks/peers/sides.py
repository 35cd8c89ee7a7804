"""The sides of the comparison: max-whisper's artifacts and the other libraries, ready to be started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.peers.conversion import dimensions
from benchmarks.peers.libraries import (
    LIBRARIES,
    ROOT,
    SetupError,
    convert,
    environment,
    worker_environment,
    worker_file,
)
from benchmarks.peers.plot import OURS
from benchmarks.peers.worker import Worker


@dataclass(frozen=True)
class Side:
    """One row of the tables: a library in one of its variants, or an artifact."""

    label: str
    command: list[str | Path]
    environment: dict[str, str]
    batch: int | None = None  # the number of windows that an artifact was built for; None for a library

    def start(self, logs: Path) -> Worker:
        return Worker(self.command, self.environment, logs / f"{self.label.replace('/', '-')}.log")


class Failures(dict[str, str]):
    """What went wrong, by peer; printed at once, and kept."""

    def add(self, label: str, error: Exception) -> None:
        self[label] = str(error)
        say(f"{label}: {error}")


def say(message: str) -> None:
    click.echo(message, err=True)


def our_sides(artifacts: Sequence[tuple[str, Path]]) -> list[Side]:
    """Returns a side for each artifact."""
    return [
        Side(
            f"{OURS} {name}",
            [sys.executable, worker_file("max_whisper"), "work", "-", folder, name, "0"],
            {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            json.loads((folder / "manifest.json").read_text())["plan"]["batch"],
        )
        for name, folder in artifacts
    ]


def built(
    spec: str, checkpoint: Path, models: Path, batches: Sequence[int], failures: Failures
) -> list[tuple[str, Path]]:
    """Builds an artifact of each dtype for each batch size, which takes seconds where MAX has compiled it before."""
    import max_whisper
    from max_whisper.errors import MaxWhisperError
    from max_whisper.tensors.dtypes import BUILD_DTYPES

    artifacts = []
    for dtype in BUILD_DTYPES:
        for batch in batches:
            folder = models / OURS / f"{dtype}-{batch}"
            say(f"{OURS} {dtype}: building for batches of {batch}")
            try:
                max_whisper.build(spec, weights=checkpoint, out=folder, dtype=dtype, batch=batch, force=True)
                artifacts.append((dtype, folder))
            except MaxWhisperError as e:
                failures.add(f"{OURS} {dtype} for batches of {batch}", e)
    return artifacts


def their_sides(
    names: Sequence[str], checkpoint: Path, work: Path, models: Path, threads: int, failures: Failures
) -> Iterator[Side]:
    """Yields the libraries in all their variants, after installing them and converting their models."""
    for name in names:
        library = LIBRARIES[name]
        try:
            say(f"{library.label}: environment")
            python = environment(work / "environments" / name, library.pip, library.after)
            converter = python
            if library.converter:
                converter = environment(work / "environments" / f"{name}-converter", [library.converter])
            say(f"{library.label}: models")
            convert(name, converter, checkpoint, models / name)
        except SetupError as e:
            failures.add(library.label, e)
            continue
        for variant in library.variants:
            command = [python, worker_file(name), "work", checkpoint, models / name, variant, str(threads)]
            yield Side(f"{library.label} {variant}", command, worker_environment(python))


def taking_part(sides: Sequence[Side], batch: int) -> list[Side]:
    """Returns for each label the side for that batch, or else the side that takes windows one after another."""
    labels = {side.label: side for side in sides if side.batch in (None, 1)}
    return [*(labels | {side.label: side for side in sides if side.batch == batch}).values()]


def spec_of(checkpoint: Path) -> str:
    """Returns the name of the shipped spec with the dimensions of a checkpoint."""
    from max_whisper.spec import load_spec, shipped_specs

    for file in ("config.json", "generation_config.json", "model.safetensors"):
        if not (checkpoint / file).is_file():
            raise click.BadParameter(f"{checkpoint}: expected a checkpoint in Hub layout, which has a {file}")
    theirs = dimensions(checkpoint)
    names = {
        "n_mels": "n_mels",
        "n_audio_ctx": "n_audio_ctx",
        "n_vocab": "n_vocab",
        "n_text_ctx": "n_text_ctx",
        "d_model": "n_audio_state",
        "encoder_layers": "n_audio_layer",
        "decoder_layers": "n_text_layer",
    }
    for name in shipped_specs():
        dims = load_spec(name).dims
        if all(dims.get(ours) == theirs[openai] for ours, openai in names.items()):
            return name
    raise click.BadParameter(f"{checkpoint}: no shipped spec has its dimensions")
