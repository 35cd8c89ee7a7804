"""What is measured: recordings, and the mode in which they are transcribed. The choice is fixed, and needs no peer."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import SAMPLE_RATE, made_recording

MODES = {
    "window": "without timestamps",
    "plain": "without the text before",
    "previous": "with the text before",
    "words": "with the times of words",
    "beams": "without the text before, five beams",
}
"""How a recording is transcribed, and what tables say of it. All but `window` have the times of segments."""
STEADY, COLD = "steady", "cold"
SETTINGS = {STEADY: "one engine loaded, warm", COLD: "new process, from its start to the text"}
TOKENS = 100  # of a window
LONG = 60.0  # seconds: a recording is long from here on
CLIPS = 60
SEED = 16
KINDS = ("clean", "noisy", "long")
"""The kinds of recordings in a manifest that are taken: those with speech in a usual file."""


@dataclass(frozen=True)
class Recording:
    """A line of the manifest: `file` is its name there, `text` what is said, as published."""

    file: str
    language: str
    seconds: float
    text: str


@dataclass(frozen=True)
class Task:
    """Some recordings, transcribed one after another in a mode, in a setting."""

    name: str
    mode: str
    setting: str
    recordings: tuple[Recording, ...]

    def facts(self) -> dict[str, Any]:
        """Returns the task as JSON has it."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return f"{self.setting} {self.name}, {self.mode}"


NAMES = {
    "window": f"one window of 30 s, {TOKENS} tokens",
    "english": "long English recordings",
    "french": "a long French recording",
    "clips": "short clips",
    "clip": "one short clip",
}
WINDOW = Recording("made", "en", 30.0, "")
"""Sound that is made and has no words."""


def all_tasks(speech: Path | None, checkpoint: Path) -> Iterator[Task]:
    """Yields what can be measured with a checkpoint: a window without a folder of speech, or else what is said there.

    The times of words need a checkpoint that names the heads that align them, as OpenAI's do.
    """
    if speech is None:
        yield from (Task("window", "window", setting, (WINDOW,)) for setting in SETTINGS)
        return
    facts = json.loads((checkpoint / "generation_config.json").read_text())
    multilingual = facts["is_multilingual"]
    modes = tuple(mode for mode in MODES if mode != "window" and (mode != "words" or facts.get("alignment_heads")))
    recordings = read_manifest(speech / "manifest.tsv")
    chosen = {
        "english": long(recordings, "en"),
        "french": long(recordings, "fr")[:1] if multilingual else [],
        "clips": clips(recordings, multilingual),
    }
    for name, some in chosen.items():
        if some:
            yield from (Task(name, mode, STEADY, tuple(some)) for mode in modes)
    if one := [r for r in recordings if r.language == "en" and 5 <= r.seconds <= 15]:
        yield Task("clip", "plain", COLD, (one[0],))


def long(recordings: Sequence[Recording], language: str) -> list[Recording]:
    """Returns the long recordings in a language, the longest first."""
    some = [recording for recording in recordings if recording.language == language and recording.seconds >= LONG]
    return sorted(some, key=lambda recording: -recording.seconds)


def clips(recordings: Sequence[Recording], multilingual: bool) -> list[Recording]:
    """Returns CLIPS recordings of 1 to 30 s: English ones, or else one of each language in turn."""
    by_language: dict[str, list[Recording]] = {}
    for recording in recordings:
        if 1 <= recording.seconds <= 30 and (multilingual or recording.language == "en"):
            by_language.setdefault(recording.language, []).append(recording)
    chance = random.Random(SEED)
    for language in sorted(by_language):
        chance.shuffle(by_language[language])
    chosen: list[Recording] = []
    while len(chosen) < CLIPS and any(by_language.values()):
        chosen += [by_language[language].pop() for language in sorted(by_language) if by_language[language]]
    return chosen[:CLIPS]


def read_manifest(file: Path) -> list[Recording]:
    """Returns the recordings of KINDS with text of a manifest.tsv, in its order."""
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    try:
        return [
            Recording(row["file"], row["language"], float(row["seconds"]), row["text"])
            for row in rows
            if row["kind"] in KINDS and row["text"]
        ]
    except (KeyError, TypeError, ValueError):
        raise click.ClickException(
            f"{file}: expected the columns file, language, seconds, kind and text, separated by tabs"
        ) from None


def waveform_file(recording: Recording, speech: Path | None, work: Path) -> Path:
    """Returns the .npy file, float32 [samples] at 16 kHz, that all engines get; it is written the first time.

    Reading the recording's own format is in no engine's time.
    """
    file = work / "audio" / f"{recording.file}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"new-{file.name}")
        np.save(new, _waveform(recording, speech))
        new.rename(file)
    return file


def _waveform(recording: Recording, speech: Path | None) -> NDArray[np.float32]:
    if speech is None:
        return made_recording(recording.seconds)
    import max_whisper

    waveform = max_whisper.load_audio(speech / recording.file)
    seconds = len(waveform) / SAMPLE_RATE
    if abs(seconds - recording.seconds) > 1:
        raise click.ClickException(f"{recording.file}: has {seconds:.1f} s, the manifest says {recording.seconds:.1f}")
    return waveform
