"""Build an artifact from your own spec with your own kind of layer, and random weights; show its tables.

python examples/own_spec/build.py artifacts/slim
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import layer_scale  # noqa: F401 - registers the kind, before the spec is read
import max_whisper
import numpy as np
from safetensors.numpy import save_file

SPEC = Path(__file__).parent / "slim.yaml"
VOCABULARY = Path(__file__).parents[2] / "specs" / "nano"


def write_checkpoint(folder: Path) -> None:
    """Writes what training would write: a tensor for each name in the spec, and the files of a vocabulary."""
    rng = np.random.default_rng(0)
    tensors = max_whisper.load_spec(SPEC).tensors()
    weights = {tensor.name: rng.normal(0, 0.1, tensor.shape).astype(np.float32) for tensor in tensors}
    save_file(weights, folder / "model.safetensors")
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        shutil.copy(VOCABULARY / name, folder)
    (folder / "generation_config.json").write_text('{"suppress_tokens": [], "begin_suppress_tokens": []}')


def main(artifact: str) -> None:
    with TemporaryDirectory() as folder:
        write_checkpoint(Path(folder))
        max_whisper.build(SPEC, weights=folder, out=artifact, force=True)
    max_whisper.inspect(artifact)


if __name__ == "__main__":
    main(*sys.argv[1:])
