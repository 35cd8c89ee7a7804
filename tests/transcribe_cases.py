"""The recordings and options for which max-whisper's `transcribe` is compared with openai/whisper's.

The models are the small ones of small.py, with timestamps that are likely enough to be chosen.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import make_tokens
from small import SMALL, Weights, write_weights
from sounds import noise, silence, sweep

GOLDEN = Path(__file__).parent / "golden" / "transcribe.json"
FAMILIES = ("multilingual", "english")
WINDOW = SMALL["n_audio_ctx"] * 320  # samples
PROMPT = "the cat and the rain"

# Temperature 0 everywhere: samples are drawn from other random numbers on each side.
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "without timestamps": {"without_timestamps": True},
    "no conditioning": {"condition_on_previous_text": False},
    "initial prompt": {"initial_prompt": PROMPT},
    "carried prompt": {"initial_prompt": PROMPT, "carry_initial_prompt": True},
    "long carried prompt": {"initial_prompt": " ".join([PROMPT] * 20), "carry_initial_prompt": True},
    "prefix": {"prefix": "the weather"},
    "clips": {"clip_timestamps": "0.5,1.5,1.8,2.9"},
    "open clip": {"clip_timestamps": [2.5]},
    "no thresholds": {
        "compression_ratio_threshold": None,
        "logprob_threshold": None,
        "no_speech_threshold": None,
    },
    "silence likely": {"no_speech_threshold": 0.00047, "logprob_threshold": None},
    "silence likely, text likelier": {"no_speech_threshold": 0.00047, "logprob_threshold": -3.2},
    "few tokens": {"sample_len": 7},
    "one token": {"sample_len": 1},
    "blank allowed": {"suppress_blank": False},
    "nothing suppressed": {"suppress_tokens": ""},
    "some suppressed": {"suppress_tokens": [-1, 35, 260, 270, 280]},
    "late start": {"max_initial_timestamp": 2.0},
    "translate": {"task": "translate"},
    "German": {"language": "de"},
    "detected": {"language": None},
    "beams": {"beam_size": 3},
    "beams, patience": {"beam_size": 2, "patience": 2.0},
    "beams, length penalty": {"beam_size": 3, "length_penalty": 0.6},
    "beams without timestamps": {"beam_size": 2, "without_timestamps": True, "sample_len": 50},
    "words": {"word_timestamps": True},
    "words without timestamps": {"word_timestamps": True, "without_timestamps": True},
    "words of few tokens": {"word_timestamps": True, "sample_len": 9},
    "words in clips": {"word_timestamps": True, "clip_timestamps": "0.5,1.5,1.8,2.9"},
    "words, other marks": {"word_timestamps": True, "prepend_punctuations": "e", "append_punctuations": "a o"},
    "words without spaces": {"word_timestamps": True, "language": "zh"},
    "words, translate": {"word_timestamps": True, "task": "translate"},
    "hallucinations": {"word_timestamps": True, "hallucination_silence_threshold": 0.3},
    "hallucinations, less silence": {"word_timestamps": True, "hallucination_silence_threshold": 0.02},
    "few tokens, no conditioning, prompt": {
        "sample_len": 20,
        "condition_on_previous_text": False,
        "initial_prompt": PROMPT,
    },
}
ONLY_MULTILINGUAL = (
    "translate",
    "German",
    "detected",
    "nothing suppressed",
    "words without spaces",
    "words, translate",
)


def sounds() -> dict[str, np.ndarray]:
    """Of 3 to 15 seconds: [samples]."""
    return {
        "noise": noise(3.0, seed=1),
        "mixed": np.concatenate([sweep(3.7), silence(3.0), noise(2.5, seed=5), sweep(2.0)]),
        "long": np.concatenate([noise(5.0, seed=2), sweep(4.0), noise(6.0, seed=3)]),
    }


def lively(weights: Weights, family: str) -> None:
    """Lets timestamps and end-of-text win now and then, against what checkpoints.py does to them."""
    special = make_tokens(family).special
    embedding = weights["model.decoder.embed_tokens.weight"]
    embedding[special["<|0.00|>"] : special["<|2.00|>"] + 1] *= 11
    embedding[special["<|endoftext|>"]] *= 14


def checkpoint(folder: Path, family: str) -> Path:
    return write_weights(folder, family=family, change=partial(lively, family=family))


def cases(family: str) -> list[tuple[str, str]]:
    """Names of sounds and of options."""
    return [
        (sound, name)
        for name in OPTIONS
        for sound in sounds()
        if family == "multilingual" or name not in ONLY_MULTILINGUAL
    ]


def options_of(family: str, name: str) -> dict[str, Any]:
    """As openai/whisper takes them. Timestamps behind the window are left out: few windows would fill a recording."""
    special = make_tokens(family).special
    # In openai/whisper all that follows is a timestamp, what pads the English vocabulary too.
    behind = [*range(max(special.values()) + 1, SMALL["n_vocab"])]
    behind += [i for stamp, i in special.items() if stamp[2].isdigit() and float(stamp[2:-2]) > WINDOW / 16000]
    given = {"temperature": 0.0, "max_initial_timestamp": 1.0, "suppress_tokens": [-1], **OPTIONS[name]}
    if given["suppress_tokens"]:
        given["suppress_tokens"] = [*given["suppress_tokens"], *behind]
    return given if family == "english" else {"language": "en", **given}
