"""Finds the heads of the cross-attention that follow the words: those for `ALIGNMENT_HEADS` in vocabulary.py.

    python heads.py [--checkpoint ../../specs/nano]

Words are said one by one by training's voices, so that it is known when each begins. Heads are added, the best first,
as long as the times of words that are found with them get better.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from max_whisper.runtime.audio.mel import log_mel
from max_whisper.runtime.transcription.alignment import attention_to_sound, token_starts
from rich.console import Console
from rich.progress import track
from rich.table import Table
from speech import SAMPLE_RATE, TRAIN_VARIANTS, some_speaker
from transformers import WhisperForConditionalGeneration
from vocabulary import SPECS, WORDS, Vocabulary

POSITIONS_PER_SECOND = 50


def utterance(rng: np.random.Generator, words: list[str]) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Returns 10 s of sound, the words in it, and the second at which each begins."""
    speaker = some_speaker(rng, TRAIN_VARIANTS)
    samples, said, starts = np.zeros(10 * SAMPLE_RATE, np.float32), [], []
    time = rng.uniform(0.1, 1.5)
    for word in rng.integers(0, len(words), rng.integers(3, 9)).tolist():
        sound = speaker.say(words[word])
        first = round(time * SAMPLE_RATE)
        if first + len(sound) > len(samples):
            break
        samples[first : first + len(sound)] = sound
        said.append(word)
        starts.append(time)
        time += len(sound) / SAMPLE_RATE + rng.uniform(0.03, 0.3)
    return samples, said, np.array(starts)


def error(cases: list[tuple[np.ndarray, np.ndarray]], heads: list[int], before: int) -> float:
    """Returns the mean seconds between where words begin and where these heads place them."""
    distances = [
        np.abs(token_starts(attention_to_sound(scores[heads], before))[:-1] / POSITIONS_PER_SECOND - starts)
        for scores, starts in cases
    ]
    return float(np.concatenate(distances).mean())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SPECS / "nano")
    parser.add_argument("--utterances", type=int, default=60)
    args = parser.parse_args()
    words = WORDS.read_text().split()
    model = WhisperForConditionalGeneration.from_pretrained(
        args.checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    config = model.config
    vocabulary = Vocabulary(words, config.max_source_positions)
    prompt = [vocabulary[name] for name in ("startoftranscript", "en", "transcribe", "notimestamps")]
    rng = np.random.default_rng(2)
    cases = []
    for _ in track(range(args.utterances), "listening"):
        samples, said, starts = utterance(rng, words)
        tokens = [*prompt, *(vocabulary.word_ids[word] for word in said), vocabulary["endoftext"]]
        mel = torch.from_numpy(log_mel(samples, config.num_mel_bins)[None])
        seen = model(mel, decoder_input_ids=torch.tensor([tokens]), output_attentions=True).cross_attentions
        cases.append((torch.cat(seen, dim=1)[0].clamp(min=1e-20).log().numpy(), starts))  # [layers * heads, tokens, …]
    n_heads, before = config.decoder_attention_heads, len(prompt) - 1
    alone = {head: error(cases, [head], before) for head in range(config.decoder_layers * n_heads)}
    chosen: list[int] = []
    best = np.inf
    for head in sorted(alone, key=alone.__getitem__):
        if (together := error(cases, [*chosen, head], before)) < best:
            chosen, best = [*chosen, head], together
    table = Table("layer", "head", "mean error", "chosen", title=f"{args.utterances} utterances, {best * 1000:.0f} ms")
    for head, alone_error in sorted(alone.items(), key=lambda item: item[1]):
        table.add_row(*map(str, divmod(head, n_heads)), f"{alone_error * 1000:.0f} ms", "yes" if head in chosen else "")
    Console().print(table)
    print(json.dumps(sorted(divmod(head, n_heads) for head in chosen)))


if __name__ == "__main__":
    main()
