"""Makes tests/golden/parity-*.npz: what transformers computes for small models, layer by layer.

    pip install '.[verify]'
    PYTHONPATH=tests:. python tests/golden/make_parity.py

It is run by hand; the tests need neither torch nor transformers. A golden file has a fixed sample of the values of
large arrays, and the hash of the weights, which are made anew from their seed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from max_whisper.runtime.audio.mel import log_mel
from max_whisper.spec import load_spec
from max_whisper.tensors import safetensors_file
from max_whisper.tools.verify.reference import Reference
from support.models.checkpoint import write_checkpoint
from support.models.small import SMALL, WINDOW, write_spec
from support.sounds import noise, silence, sweep

MODELS = [
    ("multilingual", 0),
    ("multilingual", 1),
    ("multilingual", 2),
    ("english", 0),
]  # family, seed
SOUNDS = {"noise": noise, "silence": silence, "sweep": sweep}
N_TOKENS = 200
MIN_MARGIN = 1e-4  # by less than this, another machine may rightly choose another token
LAYER_SAMPLE, OUTPUT_SAMPLE = 256, 4096  # values that are kept: of a layer, of features and logits


def golden_file(family: str, seed: int) -> Path:
    return Path(__file__).parent / f"parity-{family}-{seed}.npz"


def sample(array: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """Returns n values from all over an array: the prime stride meets every row and every channel."""
    return array.ravel()[np.arange(n) * 7919 % array.size]


def weights_hash(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


def made_mel(name: str) -> npt.NDArray[np.float16]:
    """Returns the log-mel of a sound, [n_mels, n_frames]; in few bits, which are the same on every machine."""
    return log_mel(SOUNDS[name](WINDOW), 80).astype(np.float16)


def greedy(
    reference: Reference, mel: npt.NDArray[np.float32], rules: dict[str, Any]
) -> tuple[list[int], list[int], float]:
    """Returns the prompt, `N_TOKENS` tokens, and the least margin of a choice. It is slow, as it uses no caches."""
    prompt = [rules["decoder_start_token_id"]]
    if rules["is_multilingual"]:
        prompt += [rules["lang_to_id"]["<|en|>"], rules["task_to_id"]["transcribe"]]
    prompt += [rules["no_timestamps_token_id"]]
    tokens: list[int] = []
    margin = np.inf
    while len(tokens) < N_TOKENS:
        scores = reference.run(mel[None], np.array([prompt + tokens]))["logits"][-1]
        scores[rules["suppress_tokens"]] = -np.inf
        if not tokens:
            scores[rules["begin_suppress_tokens"]] = -np.inf
        second, best = np.partition(scores, -2)[-2:]
        margin = min(margin, float(best - second))
        tokens.append(int(scores.argmax()))
    assert rules["eos_token_id"] not in tokens
    return prompt, tokens, margin


def make(folder: Path, family: str, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Returns the content of one golden file; `folder` is for the checkpoint."""
    spec = load_spec(write_spec(folder))
    checkpoint = write_checkpoint(folder, family=family, seed=seed, n_vocab=SMALL["n_vocab"])
    reference = Reference(spec, safetensors_file.open_tensors(checkpoint / "model.safetensors"))
    rules = json.loads((checkpoint / "generation_config.json").read_text())
    arrays: dict[str, npt.NDArray[Any]] = {"weights": np.array(weights_hash(checkpoint))}
    for name in SOUNDS:
        mel = made_mel(name)
        prompt, tokens, margin = greedy(reference, mel.astype(np.float32), rules)
        if margin < MIN_MARGIN:
            raise SystemExit(f"{family} {seed} {name}: a token wins by {margin:.1e} only; choose another seed")
        layers = reference.run(mel.astype(np.float32)[None], np.array([prompt + tokens]))
        features, logits = layers.pop("features"), layers.pop("logits")
        arrays |= {
            f"{name} mel": mel,
            f"{name} prompt": np.array(prompt),
            f"{name} tokens": np.array(tokens),
            f"{name} features": sample(features, OUTPUT_SAMPLE),
            f"{name} logits": sample(logits, OUTPUT_SAMPLE),
            f"{name} layers": np.stack([sample(layer, LAYER_SAMPLE) for layer in layers.values()]),
            "paths": np.array(list(layers)),
        }
        size = f"{abs(features).max():.1f} and {abs(logits).max():.1f}"
        print(f"{name}: {len(set(tokens))} different tokens, margin {margin:.1e}; features and logits up to {size}")
    return arrays


def main() -> None:
    for family, seed in MODELS:
        path = golden_file(family, seed)
        with tempfile.TemporaryDirectory() as folder:
            np.savez_compressed(path, **make(Path(folder), family, seed))
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
