"""Build an artifact from weights of your own, for a spec that ships, and compare it with the original.

python examples/fine_tune.py nano.yaml specs/nano speech.wav artifacts/tuned

Training writes a folder in Hub layout, like transformers' `save_pretrained` and `examples/train_nano`: `build` takes
it as `weights`. Here an audible change stands in for training: two words swap places in the embedding.
"""

import shutil
import sys
from pathlib import Path

import max_whisper
from safetensors.numpy import load_file, save_file

EMBEDDING = "model.decoder.embed_tokens.weight"  # the output layer reads it, too


def train(checkpoint: Path, tokens: list[int]) -> None:
    """Changes the weights of a checkpoint."""
    weights = load_file(checkpoint / "model.safetensors")
    weights[EMBEDDING][tokens] = weights[EMBEDDING][tokens[::-1]]
    save_file(weights, checkpoint / "model.safetensors")


def main(spec: str, checkpoint: str, recording: str, out: str) -> None:
    folder = max_whisper.build(spec, weights=checkpoint, out=f"{out}/original", force=True)
    original = max_whisper.load(folder)
    own = Path(shutil.copytree(checkpoint, f"{out}/checkpoint", dirs_exist_ok=True))
    train(own, original.tokenizer.encode(" left right"))
    tuned = max_whisper.load(max_whisper.build(spec, weights=own, out=f"{out}/tuned", force=True))
    print("original:", original.transcribe(recording).text)
    print("tuned:   ", tuned.transcribe(recording).text)


if __name__ == "__main__":
    main(*sys.argv[1:])
