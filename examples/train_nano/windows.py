"""Makes windows of phrases as recordings have them: with pauses, noise, reverberation, cut ends, and no speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import fftconvolve, lfilter
from speech import SAMPLE_RATE, Phrase, Samples

LEAST_PAUSE, SOME_PAUSE = 0.25, 0.5  # seconds: the least between phrases, and the mean of what is added to it
MAX_WORDS = 20  # in a window


@dataclass
class Window:
    """Samples and what is said in them, with times in seconds from their start.

    `cut` is where a last phrase begins whose end is not in the window.
    """

    samples: Samples
    words: list[list[int]] = field(default_factory=list)  # of each phrase
    times: list[tuple[float, float]] = field(default_factory=list)
    cut: float | None = None


def compose(
    rng: np.random.Generator, phrases: Sequence[Phrase], seconds: float, max_words: int = MAX_WORDS, cut: float = 0.3
) -> Window:
    """Returns a window with random phrases from a random start on, until its seconds or words are used up.

    `cut` is how often a phrase that does not fit is in the window all the same, with its beginning.
    """
    n = round(seconds * SAMPLE_RATE)
    window = Window(np.zeros(n, np.float32))
    phrases = [phrase for phrase in phrases if len(phrase.samples) < n] or phrases
    wanted = rng.integers(1, max_words + 1)
    order = rng.permutation(len(phrases))
    first = phrases[order[0]]
    start = int(rng.uniform(0, max(1, n - len(first.samples))))
    if rng.random() < 0.5:
        start = min(start, int(rng.uniform(0, 0.5) * SAMPLE_RATE))
    said = 0
    for i in order:
        phrase = phrases[i]
        said += len(phrase.words)
        if said > wanted and window.words:
            break
        end = start + len(phrase.samples)
        if end > n:
            if rng.random() < cut and n - start > 0.1 * SAMPLE_RATE:
                window.samples[start:] = phrase.samples[: n - start]
                window.cut = start / SAMPLE_RATE
            break
        window.samples[start:end] = phrase.samples
        window.words.append(phrase.words)
        window.times.append((start / SAMPLE_RATE, end / SAMPLE_RATE))
        start = end + int((LEAST_PAUSE + rng.exponential(SOME_PAUSE)) * SAMPLE_RATE)
    return window


def warped(phrase: Phrase, factor: float) -> Phrase:
    """Returns a phrase as another throat would say it: pitch and formants times `factor`, and as much faster."""
    n = len(phrase.samples)
    samples = np.interp(np.arange(0, n - 1, factor), np.arange(n), phrase.samples).astype(np.float32)
    return Phrase(phrase.words, samples)


def noise(rng: np.random.Generator, n: int) -> Samples:
    """Returns white, pink or brown noise, or a hum: float32 [n], of power 1."""
    kind = rng.integers(4)
    if kind == 3:
        t = np.arange(n) / SAMPLE_RATE
        base = rng.uniform(45, 400)
        sound = sum(rng.uniform(0, 1) * np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6.3)) for k in range(1, 6))
    else:
        sound = rng.standard_normal(n)
        if kind == 1:  # Paul Kellet's filter: -3 dB an octave
            b, a = [0.049922, -0.095993, 0.050613, -0.004409], [1, -2.494956, 2.017266, -0.522189]
            sound = lfilter(b, a, sound)
        elif kind == 2:
            sound = lfilter([1], [1, -0.98], sound)
    swell = 1 + rng.uniform(0, 0.5) * np.sin(2 * np.pi * rng.uniform(0.1, 2) * np.arange(n) / SAMPLE_RATE)
    sound = np.asarray(sound) * swell
    return (sound / (np.sqrt(np.mean(sound**2)) + 1e-9)).astype(np.float32)


def disturb(rng: np.random.Generator, samples: Samples) -> Samples:
    """Returns a recording of these samples: in a room, with noise, at a random loudness."""
    if rng.random() < 0.3:
        seconds = rng.uniform(0.05, 0.3)
        tail = rng.standard_normal(int(seconds * SAMPLE_RATE)) * np.exp(
            -6 * np.linspace(0, 1, int(seconds * SAMPLE_RATE))
        )
        room = np.concatenate([[1.0], rng.uniform(0.02, 0.15) * tail])
        samples = fftconvolve(samples, room)[: len(samples)].astype(np.float32)
    if rng.random() < 0.3:  # a microphone that is not flat
        samples = lfilter([1, rng.uniform(-0.9, 0.5)], [1], samples).astype(np.float32)
    speech = np.sqrt(np.mean(samples[np.abs(samples) > 1e-3] ** 2)) if np.any(np.abs(samples) > 1e-3) else 0.05
    if rng.random() < 0.7:
        samples = samples + noise(rng, len(samples)) * speech * 10 ** (-rng.uniform(8, 45) / 20)
    loudest = np.abs(samples).max() + 1e-9
    return (samples * (10 ** (-rng.uniform(0, 26) / 20) / loudest)).astype(np.float32)


def no_speech(rng: np.random.Generator, seconds: float) -> Window:
    """Returns a window of silence, noise, tones or clicks."""
    n = round(seconds * SAMPLE_RATE)
    kind = rng.integers(5)
    samples = np.zeros(n, np.float32)
    if kind in (1, 2, 3):
        samples += noise(rng, n) * 10 ** (-rng.uniform(15, 70) / 20)
    if kind == 3:
        for _ in range(rng.integers(1, 12)):
            start, length = rng.integers(0, n - 400), rng.integers(20, 300)
            samples[start : start + length] += rng.uniform(0.05, 0.5) * rng.standard_normal(length)
    if kind == 4:
        for _ in range(rng.integers(1, 6)):
            start, length = rng.integers(0, n - 1600), rng.integers(800, SAMPLE_RATE)
            part = samples[start : start + length]
            t = np.arange(len(part)) / SAMPLE_RATE
            part += (rng.uniform(0.02, 0.4) * np.sin(2 * np.pi * rng.uniform(150, 3000) * t)).astype(np.float32)
    return Window(np.clip(samples, -1, 1))
