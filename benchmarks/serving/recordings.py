"""Chooses recordings, and makes the text of each that a server must give."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.peers.tasks import clips as chosen_clips
from benchmarks.peers.tasks import read_manifest
from benchmarks.serving.clients import Clip


def read_clips(artifact: Path, speech: Path, most: int) -> list[Clip]:
    """Returns recordings of 1 to 30 s of the languages that an artifact knows: a fixed choice, one language in turn."""
    multilingual = bool(json.loads((artifact / "manifest.json").read_text())["tokens"]["languages"])
    chosen = chosen_clips(read_manifest(speech / "manifest.tsv"), multilingual)[:most]
    return [Clip(r.file, (speech / r.file).read_bytes(), r.seconds, r.language) for r in chosen]


def right_texts(artifact: Path, speech: Path, clips: Sequence[Clip]) -> dict[str, str]:
    """Returns what Model.transcribe makes of each recording, without spaces around it, by the file's name.

    They are made in a process that is gone before a server starts.
    """
    files, languages = [speech / clip.name for clip in clips], [clip.language for clip in clips]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_transcribed, artifact, files, languages).result()


def _transcribed(artifact: Path, files: Sequence[Path], languages: Sequence[str]) -> dict[str, str]:
    import max_whisper

    model = max_whisper.load(artifact)
    pairs = zip(files, languages, strict=True)
    return {file.name: model.transcribe(file, language=language).text.strip() for file, language in pairs}
