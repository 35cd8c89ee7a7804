"""Measures an artifact of the nano model on voices and word sequences that training never heard.

    python evaluate.py ARTIFACT [--reference CHECKPOINT] [--utterances 300]

It prints the word error rate of whole utterances of one to twelve words, and how often silence and noise give no text.
It counts the phrases that have the right timestamps around them, and those that are a segment which begins and ends
with them. The latter are fewer: as in openai/whisper, a segment that is alone begins with its window, whatever its
timestamp says. With --reference, transformers transcribes the same utterances with the same weights, too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import max_whisper
import numpy as np
from metrics import word_error_rate
from rich.console import Console
from rich.progress import track
from rich.table import Table
from speech import TEST_VARIANTS, speak
from vocabulary import WORDS
from windows import Window, compose, disturb, no_speech

SECONDS = 10.0
NEAR = 0.2  # seconds by which a time that counts as right may differ


def utterances(n: int, seed: int) -> list[Window]:
    """Returns one utterance of each of n speakers."""
    rng = np.random.default_rng(seed)
    words = WORDS.read_text().split()
    windows = []
    for phrases in track(speak(words, n, 8, TEST_VARIANTS, seed, 2), "espeak-ng speaks", n):
        window = compose(rng, phrases, SECONDS, max_words=12, cut=0)
        window.samples = disturb(rng, window.samples)
        windows.append(window)
    return windows


def matched(window: Window, spans: list[tuple[float, float]]) -> list[bool]:
    """Returns for each phrase whether a span begins and ends with it, within NEAR."""
    return [
        any(abs(first - start) <= NEAR and abs(last - end) <= NEAR for first, last in spans)
        for start, end in window.times
    ]


def stamped(result: max_whisper.TranscriptionResult, timestamp_begin: int) -> list[tuple[float, float]]:
    """Returns the timestamps around each segment, as the model wrote them, in seconds."""
    spans = []
    for segment in result.segments:
        stamps = [segment.seek / 100 + (t - timestamp_begin) * 0.02 for t in segment.tokens if t >= timestamp_begin]
        spans += zip(stamps[::2], stamps[1::2], strict=False)
    return spans


def by_transformers(checkpoint: Path, windows: list[Window], mels: np.ndarray) -> list[list[str]]:
    """Returns the words of each window, decoded greedily with timestamps."""
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperTokenizer

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    tokenizer = WhisperTokenizer.from_pretrained(checkpoint)
    found = []
    for mel in track(mels, "transformers"):
        ids = model.generate(
            torch.from_numpy(mel[None]), language="en", task="transcribe", return_timestamps=True, do_sample=False
        )
        found.append(tokenizer.decode(ids[0], skip_special_tokens=True).split())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--reference", type=Path, help="folder of the weights, for transformers")
    parser.add_argument("--utterances", type=int, default=300)
    parser.add_argument("--silences", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1000, help="of the test; training has seed 0, its plot 1")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    model = max_whisper.load(args.artifact)
    words = WORDS.read_text().split()
    windows = utterances(args.utterances, args.seed)
    expected = [[words[i] for phrase in window.words for i in phrase] for window in windows]
    results = [model.transcribe(window.samples, language="en") for window in track(windows, "max-whisper")]
    found = [result.text.split() for result in results]
    begin = model.manifest.tokens.timestamp_begin
    pairs = [*zip(windows, results, strict=True)]
    right = [near for window, result in pairs for near in matched(window, stamped(result, begin))]
    placed = [near for window, result in pairs for near in matched(window, [(s.start, s.end) for s in result.segments])]
    rng = np.random.default_rng(args.seed)
    silences = [no_speech(rng, SECONDS).samples for _ in range(args.silences)]
    empty = [not model.transcribe(silence, language="en").text.strip() for silence in track(silences, "silence")]
    figures = {
        "words": sum(map(len, expected)),
        "word error rate": word_error_rate(expected, found),
        f"phrases whose timestamps are within {NEAR} s": float(np.mean(right)),
        f"phrases whose segment is within {NEAR} s": float(np.mean(placed)),
        "silences without text": float(np.mean(empty)),
    }
    if args.reference:
        mels = np.stack([model.log_mel(window.samples) for window in windows])
        theirs = by_transformers(args.reference, windows, mels)
        figures["word error rate of transformers"] = word_error_rate(expected, theirs)
        figures["utterances with the same words"] = float(np.mean([a == b for a, b in zip(found, theirs, strict=True)]))
    table = Table("", str(args.artifact), title=f"{args.utterances} utterances, {args.silences} silences")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.2%}")
    Console().print(table)
    wrong = [(a, b) for a, b in zip(expected, found, strict=True) if a != b]
    for said, heard in wrong[:10]:
        Console().print(f"said  {' '.join(said)}\nheard {' '.join(heard)}", style="dim")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
