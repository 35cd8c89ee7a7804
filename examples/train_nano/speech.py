"""Phrases spoken by espeak-ng, in many voices.

A speaker is an accent, a variant of the voice, a speed and a pitch. No variant is in both halves: what is measured with
the test half was spoken by voices that training never heard.
"""

from __future__ import annotations

import io
import subprocess
import wave
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import gcd

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
MAX_WORDS = 5  # of a phrase
QUIET = 0.02  # of the loudest sample: where speech begins and ends

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Phrase:
    """words: indices of words.txt. samples: float32 [n], 16 kHz, from the first to the last sound."""

    words: list[int]
    samples: Samples


@dataclass(frozen=True)
class Speaker:
    voice: str  # as in `espeak-ng -v`
    speed: int  # words a minute
    pitch: int  # 0 to 99

    def say(self, text: str) -> Samples:
        """Float32 [n], 16 kHz, without the silence around it."""
        command = ["espeak-ng", "-v", self.voice, "-s", str(self.speed), "-p", str(self.pitch), "--stdout", text]
        with wave.open(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)) as file:
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(-1), np.int16) / np.float32(32768)
        common = gcd(rate, SAMPLE_RATE)
        samples = resample_poly(samples, SAMPLE_RATE // common, rate // common).astype(np.float32)
        loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max())
        return samples[loud[0] : loud[-1] + 1]


def some_speaker(rng: np.random.Generator, variants: Sequence[str]) -> Speaker:
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(variants)}"
    return Speaker(voice, int(rng.integers(120, 221)), int(rng.integers(20, 81)))


def some_words(rng: np.random.Generator, n_vocabulary: int) -> list[int]:
    """One to five words, in any order."""
    length = rng.choice(np.arange(1, MAX_WORDS + 1), p=[0.25, 0.25, 0.2, 0.15, 0.15])
    return rng.integers(0, n_vocabulary, length).tolist()


def speak(
    words: Sequence[str], speakers: int, phrases: int, variants: Sequence[str], seed: int, threads: int
) -> Iterator[list[Phrase]]:
    """For each of some speakers, that many phrases of random words."""

    def one(child: np.random.SeedSequence) -> list[Phrase]:
        rng = np.random.default_rng(child)
        speaker = some_speaker(rng, variants)
        chosen = [some_words(rng, len(words)) for _ in range(phrases)]
        return [Phrase(ids, speaker.say(" ".join(words[i] for i in ids))) for ids in chosen]

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(one, np.random.SeedSequence(seed).spawn(speakers))
