"""The sound that is transcribed: a folder of recordings, and hours that are made of them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import click
import max_whisper
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import SAMPLE_RATE

PAUSE = np.zeros(SAMPLE_RATE // 2, np.float32)
"""The silence between two recordings of an hour."""
NO_SPEECH = "zxx"
"""The language of recordings in which nobody speaks."""


@dataclass(frozen=True)
class Said:
    """A recording, and what is said in it.

    Attributes:
        file: The name of its file.
        seconds: How long it is.
        language: The code of its language.
        text: What is said; empty where nobody speaks, or nobody knows.
    """

    file: str
    seconds: float
    language: str
    text: str


def known_languages(artifact: Path) -> list[str]:
    """Returns the codes of the languages that an artifact knows."""
    languages: list[str] = json.loads((artifact / "manifest.json").read_text())["tokens"]["languages"]
    return languages or ["en"]


def read_manifest(speech: Path, languages: Sequence[str]) -> list[Said]:
    """Returns the recordings of a folder with a manifest.tsv that are in some languages, and those without speech."""
    file = speech / "manifest.tsv"
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    try:
        said = [Said(row["file"], float(row["seconds"]), row["language"], row["text"]) for row in rows]
    except (KeyError, TypeError, ValueError):
        raise click.ClickException(
            f"{file}: expected the columns file, language, seconds and text, separated by tabs"
        ) from None
    return [one for one in said if one.language in (*languages, NO_SPEECH)]


def folder_of(said: Sequence[Said], speech: Path, folder: Path) -> Path:
    """Copies recordings into an empty folder, and returns it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for one in said:
        shutil.copyfile(speech / one.file, folder / one.file)
    return folder


def make_hour(said: Sequence[Said], speech: Path, file: Path, seconds: float, first: int = 0) -> Said:
    """Writes English recordings with a text behind each other as a FLAC file of so many seconds or a little more.

    They are repeated as often as needed, beginning with the one at the index `first`. Returns what is said in it.
    """
    english = [one for one in said if one.language == "en" and one.text]
    if not english:
        raise click.ClickException(f"{speech}: there is no English recording with a text, of which an hour is made")
    turns = [english[(first + i) % len(english)] for i in range(len(english))]
    sounds = [max_whisper.load_audio(speech / one.file) for one in turns]
    file.parent.mkdir(parents=True, exist_ok=True)
    texts: list[str] = []
    written = 0
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        while written < seconds * SAMPLE_RATE:
            text, sound = turns[len(texts) % len(turns)].text, sounds[len(texts) % len(turns)]
            for frame in _frames(np.concatenate([sound, PAUSE])):
                container.mux(stream.encode(frame))
            written += len(sound) + len(PAUSE)
            texts.append(text)
        container.mux(stream.encode(None))
    return Said(file.name, written / SAMPLE_RATE, "en", " ".join(texts))


def _frames(sound: NDArray[np.float32]) -> Iterator[av.AudioFrame]:
    samples = np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    yield frame
