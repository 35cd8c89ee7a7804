"""`max-whisper build`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand
from max_whisper.cli.options import options_from
from max_whisper.cli.progress import reporting
from max_whisper.compile.options import BuildOptions
from max_whisper.messages import printable

EXAMPLES = """
max-whisper build --spec tiny.yaml
max-whisper build --spec tiny.yaml --weights ./my-fine-tune --out artifacts/mine
max-whisper build --spec base.yaml --weights Systran/faster-whisper-base
max-whisper build --spec large-v3-turbo --target cuda:sm_90a
"""


@click.command(cls=HeadedCommand, examples=EXAMPLES)
@click.option(
    "--spec", required=True, help="Description of the model: a YAML file, or a name such as tiny, base.en or large-v3."
)
@click.option(
    "--weights",
    metavar="REPO_OR_PATH",
    help="Repository on the Hugging Face Hub, one file of a repository (OWNER/NAME/FILE), or a folder or file here, in "
    "the format of transformers (safetensors), faster-whisper (CTranslate2) or whisper.cpp (ggml).  "
    "[default: the repository that the spec names]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder to write the compiled model to.  [default: artifacts/NAME, with NAME from the spec and the options]",
)
@options_from(BuildOptions)
def build(spec: str, out: Path | None, **options: Any) -> None:
    """Compile a model to a folder.

    A compiled model is loaded in milliseconds. It runs on the kind of machine that it was compiled for.

    Weights are downloaded from the Hugging Face Hub once, and are in its cache from then on. Without a connection, copy
    the model's repository to a folder, and give that as --weights. Compiling takes minutes the first time, and seconds
    when the same model was compiled before.
    """
    with current().interrupts.held():
        from max_whisper.compile.build import build as build_artifact

    streams = current().streams
    streams.stdout.check()
    started = time.monotonic()
    with reporting(f"building {Path(spec).name}") as progress:
        folder = build_artifact(spec, out=out, progress=progress, **options)
    streams.write(f"{printable(folder)} is ready ({_folder_size(folder)}, {time.monotonic() - started:.0f} s)\n")


def _folder_size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.0f} MB"
