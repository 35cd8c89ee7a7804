"""The recordings and models on which max-whisper's `transcribe` is compared with openai/whisper's.

The models are those of support/models, with timestamps that are likely enough to be chosen; the options are those of
benchmarks/parity/transcribe_options.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from support.models.checkpoint import EMBEDDING, Weights, write_checkpoint
from support.models.small import SMALL
from support.models.vocabulary import make_tokens
from support.sounds import noise, silence, sweep

from benchmarks.parity.transcribe_options import ONLY_MULTILINGUAL, OPTIONS

GOLDEN = Path(__file__).parents[1] / "golden" / "transcribe.json"
FAMILIES = ("multilingual", "english")
WINDOW = SMALL["n_audio_ctx"] * 320  # samples


def sounds() -> dict[str, np.ndarray]:
    """Returns recordings of 3 to 15 seconds, [samples] each, by name."""
    return {
        "noise": noise(3.0, seed=1),
        "mixed": np.concatenate([sweep(3.7), silence(3.0), noise(2.5, seed=5), sweep(2.0)]),
        "long": np.concatenate([noise(5.0, seed=2), sweep(4.0), noise(6.0, seed=3)]),
    }


def lively(weights: Weights, family: str) -> None:
    """Lets timestamps and end-of-text win now and then, as a `change` of `write_checkpoint`."""
    special = make_tokens(family).special
    embedding = weights[EMBEDDING]
    embedding[special["<|0.00|>"] : special["<|2.00|>"] + 1] *= 11
    embedding[special["<|endoftext|>"]] *= 14


def checkpoint(folder: Path, family: str) -> Path:
    return write_checkpoint(folder, family=family, change=partial(lively, family=family), n_vocab=SMALL["n_vocab"])


def cases(family: str) -> list[tuple[str, str]]:
    """Returns the pairs of a sound and an option set, by their names."""
    return [
        (sound, name)
        for name in OPTIONS
        for sound in sounds()
        if family == "multilingual" or name not in ONLY_MULTILINGUAL
    ]


def options_of(family: str, name: str) -> dict[str, Any]:
    """Returns an option set as openai/whisper takes it, with the timestamps after the end of the window suppressed.

    Otherwise such a timestamp would move the next window far ahead, and recordings would have few windows.
    """
    special = make_tokens(family).special
    # In openai/whisper all ids that follow are timestamps, even those that pad the English vocabulary.
    beyond = [*range(max(special.values()) + 1, SMALL["n_vocab"])]
    beyond += [i for stamp, i in special.items() if stamp[2].isdigit() and float(stamp[2:-2]) > WINDOW / 16000]
    options = {"temperature": 0.0, "max_initial_timestamp": 1.0, "suppress_tokens": [-1], **OPTIONS[name]}
    if options["suppress_tokens"]:
        options["suppress_tokens"] = [*options["suppress_tokens"], *beyond]
    return options if family == "english" else {"language": "en", **options}
