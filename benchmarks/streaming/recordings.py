"""The recordings of the benchmark: their sound with a pause behind it, and when each word of them is said."""

from __future__ import annotations

import csv
import wave
from dataclasses import dataclass
from pathlib import Path

import max_whisper
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import SAMPLE_RATE
from benchmarks.streaming.words import Said, plain

PAUSE_SECONDS = 1.5
"""The silence behind each recording, as behind somebody who has stopped to speak."""


@dataclass(frozen=True)
class Recording:
    """A recording.

    Attributes:
        name: The name of its file.
        text: What is said.
        sound: The samples, float32 at 16 kHz, with a pause behind them.
        offline: The text that the model finds when it has the whole recording.
        said: The words of that text, and when they are said.
    """

    name: str
    text: str
    sound: NDArray[np.float32]
    offline: str
    said: list[Said]


def read_recordings(folder: Path, model: max_whisper.Model, names: tuple[str, ...], every: int) -> list[Recording]:
    """Returns the English recordings of a folder that have a text.

    names: parts of the names of files that are wanted; none for all. every: 2 for each second of them.
    """
    with (folder / "manifest.tsv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["language"] == "en" and row["text"]]
    wanted = [row for row in rows if not names or any(name in row["file"] for name in names)]
    return [_read(folder / row["file"], row["text"], model) for row in wanted[::every]]


def _read(file: Path, text: str, model: max_whisper.Model) -> Recording:
    sound = np.concatenate([max_whisper.load_audio(file), np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)])
    result = model.transcribe(sound, language="en", word_timestamps=True)
    words = [word for segment in result.segments for word in segment.words or ()]
    said = [Said(part, word.start, word.end) for word in words for part in plain(word.word)]
    return Recording(file.name, text, sound, result.text, said)


def write_wav(sound: NDArray[np.float32], file: Path) -> None:
    """Writes samples as a WAV file of 16 bits."""
    with wave.open(str(file), "wb") as out:
        out.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        out.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
