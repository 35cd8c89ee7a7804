"""Installs the live transcribers, each in an environment of its own, and makes their weights of checkpoints.

    python -m benchmarks.streaming.setup CHECKPOINT... --work DIR

CHECKPOINT is a folder in Hub layout. For each peer and checkpoint it prints a command that needs nothing but `--audio
FILE.wav`. What is in DIR is used again. A peer that cannot be installed is reported in a sentence, the others go on,
and the exit status is 1.

Two peers are no packages, and git gets them from where they are published. Where that cannot be reached, git can be
told of a clone: GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=url.CLONE.insteadOf GIT_CONFIG_VALUE_0=URL.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.common import help_text
from benchmarks.peers.conversion import spec_of
from benchmarks.peers.engines import ENGINES, TORCH
from benchmarks.peers.records import ROOT, digest
from benchmarks.peers.setup import SetupError, convert, environment, say

WORKERS = Path(__file__).parent / "workers"
AUDIO = "torchaudio==2.11.0"
CTRANSLATE2 = "ctranslate2==4.8.5"
SILERO = "silero-vad==6.2.3"
LIBROSA = ("librosa==0.11.0", "soundfile==0.14.0")
PATHS = "benchmark.pth"
"""The file that names folders in which an environment's Python finds modules too, as for an editable installation."""


@dataclass(frozen=True)
class Peer:
    """How a peer is installed.

    Attributes:
        pip: The arguments of `pip install`.
        url: Where git gets its code, if it is no package.
        commit: The commit of that code.
    """

    pip: tuple[str, ...]
    url: str = ""
    commit: str = ""


PEERS = {  # by the names of their files
    "whisperlivekit": Peer((TORCH, AUDIO, CTRANSLATE2, "whisperlivekit==0.2.26", "faster-whisper==1.2.1")),
    "whisper_live": Peer((TORCH, AUDIO, CTRANSLATE2, "whisper-live==0.10.0")),
    "realtimestt": Peer((TORCH, AUDIO, CTRANSLATE2, "realtimestt[recommended]==1.1.2", SILERO)),
    "whisper_streaming": Peer(
        (TORCH, AUDIO, CTRANSLATE2, SILERO, *LIBROSA, "faster-whisper==1.2.1"),
        "https://github.com/ufal/whisper_streaming",
        "1f25a1a48bd9807159989e6596178c69e797ac75",
    ),
    "simulstreaming": Peer(
        (TORCH, AUDIO, SILERO, *LIBROSA, "tqdm==4.70.1", "tiktoken==0.14.0", "triton==3.9.0"),
        "https://github.com/ufal/SimulStreaming",
        "077ea37d5ab4ff98bc567e4507f140dc4e5d5ad6",
    ),
}


def program(name: str) -> Path:
    """Returns the file that a peer's Python runs."""
    return WORKERS / f"{name}_peer.py"


def interpreter(name: str, work: Path) -> Path:
    """Returns the Python of a peer, installing it if needed. Raises SetupError."""
    peer, folders = PEERS[name], [ROOT]
    python = environment(work / "environments" / name, [peer.pip])
    if peer.url:
        folders.append(source(peer, work / "sources" / name))
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    (site / PATHS).write_text("".join(f"{folder}\n" for folder in folders))
    return python


def source(peer: Peer, folder: Path) -> Path:
    """Returns the folder of a peer's code at its commit. Raises SetupError."""
    try:
        if not folder.exists():
            _git("clone", "--quiet", peer.url, str(folder))
        _git("-C", str(folder), "-c", "advice.detachedHead=false", "checkout", "--quiet", peer.commit)
    except subprocess.CalledProcessError as error:
        message = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        raise SetupError(f"git could not get {peer.url}: {message[-1]}") from None
    return folder.resolve()


def weights(checkpoint: Path, work: Path) -> Path:
    """Returns the folder with a checkpoint in the forms that the peers read, making them if needed. Raises SetupError.

    They are `faster_whisper/model`, a folder for CTranslate2, and `openai_whisper/SIZE.pt`, a file as OpenAI's. Peers
    know the size by its name.
    """
    folder = work / "models" / f"{checkpoint.name}-{digest(checkpoint)[:8]}"
    for engine in ("faster_whisper", "openai_whisper"):
        convert(engine, work, checkpoint, folder / engine)
    tensors = folder / "openai_whisper"
    file = tensors / f"{spec_of(checkpoint)}.pt"
    if not file.exists():
        converter = ENGINES["faster_whisper"].converter  # its torch writes the file
        python = environment(work / "environments" / "faster_whisper-converter", [converter])
        done = subprocess.run([python, WORKERS / "torch_file.py", tensors, file], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SetupError(f"{file.name} was not written: {done.stderr.strip().splitlines()[-1]}")
    return folder.resolve()


def _git(*words: str) -> None:
    """Runs git, which must not ask for a password. Raises CalledProcessError."""
    subprocess.run(
        ["git", *words], check=True, capture_output=True, text=True, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    )


@click.command(help=help_text(__doc__ or ""))
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--work", required=True, type=click.Path(path_type=Path), help="The folder of what is made.")
@click.option("--only", multiple=True, type=click.Choice([*PEERS]), help="A peer; may be repeated.")
def main(checkpoints: tuple[Path, ...], work: Path, only: tuple[str, ...]) -> None:
    """Makes everything and prints the commands."""
    failed = False
    work = work.resolve()
    models: list[Path] = []
    for checkpoint in checkpoints:
        try:
            models.append(weights(checkpoint, work))
        except (SetupError, ValueError) as error:
            say(f"The weights of {checkpoint.name} could not be made: {error}")
            failed = True
    for name in only or PEERS:
        try:
            python = interpreter(name, work)
        except SetupError as error:
            say(f"{name} could not be installed: {error}")
            failed = True
            continue
        for model in models:
            click.echo(shlex.join([str(python), str(program(name).relative_to(ROOT)), "--model", str(model)]))
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
