"""Writes a model as OpenAI's files have it, from what `benchmarks.peers` writes for openai/whisper; it needs torch.

python benchmarks/streaming/workers/torch_file.py FOLDER FILE.pt
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


def main() -> None:
    """Writes the file under another name first, so that a part of one is never taken for it."""
    folder, file = Path(sys.argv[1]), Path(sys.argv[2])
    dims = json.loads((folder / "model.json").read_text())["dims"]
    partial = file.with_suffix(".partial")
    torch.save({"dims": dims, "model_state_dict": load_file(folder / "model.safetensors")}, partial)
    partial.replace(file)


if __name__ == "__main__":
    main()
