"""Lets espeak-ng speak phrases, in many voices.

A speaker is an accent, a variant of the voice, a speed and a pitch. No variant is in both halves: what is measured with
the test half was spoken by voices that training never heard. Most speakers of the
training have an invented variant of their own: espeak-ng has some sixty, and a model that is trained on so few fails
with the first strange voice.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

SAMPLE_RATE = 16000
ACCENTS = "en-us en-gb en-gb-x-rp en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-us-nyc en-029".split()
TEST_VARIANTS = "f4 m5 klatt4 Alicia Michael belinda edward2 steph3 victor rob linda Hugo adam gustave".split()
TRAIN_VARIANTS = (  # espeak-ng's own, but for robots and whispering
    "f1 f2 f3 f5 m1 m2 m3 m4 m6 m7 m8 klatt klatt2 klatt3 klatt5 klatt6 Alex Andrea Andy Annie AnxiousAndy Denis "
    "Diogo Gene Gene2 Henrique Jacky Lee Marco Mario Mike Nguyen RicishayMax RicishayMax2 RicishayMax3 Tweaky anika "
    "announcer antonio aunty benjamin boris caleb croak david ed edward grandma grandpa iven iven2 iven3 iven4 john "
    "kaukovalta max michel miguel norbert pablo paul pedro quincy robert sandro shelby steph steph2 travis zac serious"
).split()
INVENTED = 0.7  # the fraction of the training speakers that have an invented variant of their own
MAX_WORDS = 5  # in a phrase
QUIET = 0.02  # speech begins and ends where samples reach this part of the loudest one

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Phrase:
    """Words, as indices of words.txt, and their sound: float32 [n], 16 kHz, from the first to the last sound."""

    words: list[int]
    samples: Samples


@dataclass(frozen=True)
class Speaker:
    voice: str  # as in `espeak-ng -v`
    speed: int  # words a minute
    pitch: int  # 0 to 99
    data: Path | None = None  # the folder of espeak-ng's data, where it is not espeak-ng's own

    def say(self, text: str) -> Samples:
        """Returns the sound of a text without the silence around it: float32 [n], 16 kHz."""
        data = [] if self.data is None else ["--path", str(self.data)]
        options = [*data, "-v", self.voice, "-s", str(self.speed), "-p", str(self.pitch)]
        command = ["espeak-ng", *options, "--stdout", text]
        with wave.open(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)) as file:
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(-1), np.int16) / np.float32(32768)
        common = gcd(rate, SAMPLE_RATE)
        samples = resample_poly(samples, SAMPLE_RATE // common, rate // common).astype(np.float32)
        loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max())
        return samples[loud[0] : loud[-1] + 1]


def some_speaker(rng: np.random.Generator, variants: Sequence[str], data: Path | None = None) -> Speaker:
    """Returns a random speaker; with `data`, a folder that `own_data` made, one with an invented voice."""
    variant = rng.choice(variants)
    if data is not None:
        voices = data / "espeak-ng-data" / "voices" / "!v"
        variant = f"x{rng.integers(2**32):x}"  # no digit first, and short: espeak-ng aborts at long names
        (voices / variant).write_text(some_variant(rng))
    voice = f"{rng.choice(ACCENTS)}+{variant}"
    return Speaker(voice, int(rng.integers(120, 221)), int(rng.integers(20, 81)), data)


def some_variant(rng: np.random.Generator) -> str:
    """Returns a random voice in espeak-ng's format (its docs/voices.md): formants, pitch, breath, roughness."""
    throat, pitch = rng.uniform(0.82, 1.25), rng.uniform(70, 260)
    lines = ["language variant", f"pitch {pitch:.0f} {pitch * rng.uniform(1.1, 1.6):.0f}"]
    for formant in range(9):
        frequency = 100 * throat * rng.normal(1, 0.08)
        lines.append(f"formant {formant} {frequency:.0f} {rng.uniform(50, 160):.0f} {rng.uniform(60, 180):.0f}")
    lines.append(f"voicing {rng.uniform(30, 150):.0f}")
    lines.append(f"consonants {rng.uniform(30, 140):.0f} {rng.uniform(20, 140):.0f}")
    lines += [f"flutter {rng.integers(0, 7)}", f"roughness {rng.integers(0, 4)}", f"intonation {rng.integers(1, 5)}"]
    if rng.random() < 0.3:
        lines.append(f"echo {rng.integers(10, 150)} {rng.integers(5, 50)}")
    if rng.random() < 0.3:
        lines.append("breath " + " ".join(str(strength) for strength in rng.integers(0, 10, 8)))
        lines.append("breathw " + " ".join(str(width) for width in rng.integers(100, 400, 6)))
    if rng.random() < 0.3:
        lines.append("stressAmp " + " ".join(str(amplitude) for amplitude in rng.integers(14, 25, 8)))
    if rng.random() < 0.15:
        lines.append(f"klatt {rng.integers(1, 6)}")
    return "\n".join(lines) + "\n"


def own_data(folder: Path) -> Path:
    """Makes `folder` a copy of espeak-ng's data, by links, to whose `voices/!v` variants can be added."""
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, check=True, text=True).stdout
    original = Path(version.rsplit("Data at: ", 1)[1].strip())
    own = folder / "espeak-ng-data"
    (own / "voices" / "!v").mkdir(parents=True)
    for entry in original.iterdir():
        if entry.name != "voices":
            (own / entry.name).symlink_to(entry)
    return folder


def some_words(rng: np.random.Generator, n_vocabulary: int) -> list[int]:
    """Returns one to five random words."""
    length = rng.choice(np.arange(1, MAX_WORDS + 1), p=[0.25, 0.25, 0.2, 0.15, 0.15])
    return rng.integers(0, n_vocabulary, length).tolist()


def speak(
    words: Sequence[str],
    speakers: int,
    phrases: int,
    variants: Sequence[str],
    seed: int,
    threads: int,
    invented: float = 0.0,
) -> Iterator[list[Phrase]]:
    """Yields for each of `speakers` speakers a list of `phrases` phrases of random words.

    `invented` is the fraction of speakers that have a variant of their own, rather than one of `variants`.
    """

    def one(child: np.random.SeedSequence) -> list[Phrase]:
        rng = np.random.default_rng(child)
        with tempfile.TemporaryDirectory() as folder:  # one for each: espeak-ng fails with more than 350 voices
            speaker = some_speaker(rng, variants, own_data(Path(folder)) if rng.random() < invented else None)
            chosen = [some_words(rng, len(words)) for _ in range(phrases)]
            return [Phrase(ids, speaker.say(" ".join(words[i] for i in ids))) for ids in chosen]

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(one, np.random.SeedSequence(seed).spawn(speakers))
