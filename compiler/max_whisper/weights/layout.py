"""Which files a Whisper checkpoint in Hugging Face layout has, and how its JSON files are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from max_whisper.errors import WeightsError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIGURATION = "config.json"
COMPANIONS = (  # read here or, like the normalizer, by whoever evaluates the model; none of them must be there
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",  # what newer transformers write in its place
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "normalizer.json",
)
VOCABULARIES = ("vocab.json", "tokenizer.json")  # either is enough


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises WeightsError if it is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise WeightsError(f"{path} cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise WeightsError(f"{path} is no JSON: {e}") from e
    if not isinstance(value, dict):
        raise WeightsError(f"{path} must hold a JSON object, not {type(value).__name__}")
    return value


def read_index(path: Path) -> dict[str, str]:
    """Tensor name -> file name, from the index of a sharded checkpoint. Raises WeightsError.

    Each file name is checked to be one beside the index: a name like `../../x` would read outside of the checkpoint.
    """
    files = read_json(path).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise WeightsError(f"{path}: 'weight_map' must be an object of tensor and file names")
    for name, file in files.items():
        if (
            not isinstance(file, str)
            or not file.endswith(".safetensors")
            or PurePath(file).name != file
            or "\\" in file
        ):
            raise WeightsError(f"{path}: tensor {name!r} is said to be in {file!r}, which is no safetensors file name")
    return files


def weights_missing(where: str, names: Iterable[str]) -> WeightsError:
    """The error for a checkpoint without `model.safetensors`, with what to do about what it has: `names`."""
    found = sorted(names)
    pickles = [name for name in found if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    others = [name for name in found if name.endswith(".safetensors")]
    if "adapter_model.safetensors" in found:
        advice = "it holds a PEFT adapter: merge it into its base model (`merge_and_unload()`), save that, and give it"
    elif others:
        advice = f"it has {_some(others)}: give that file instead"
    elif pickles:
        advice = f"it has {_some(pickles)}. {PICKLE_ADVICE}"
    else:
        advice = f"it has {_some(found) if found else 'no files'}"
    return WeightsError(f"{where} has no {WEIGHTS}: {advice}")


PICKLE_ADVICE = (
    "A pickle can run any program and is never read; convert it where PyTorch is installed: "
    "transformers.WhisperForConditionalGeneration.from_pretrained(SOURCE).save_pretrained(FOLDER), then give FOLDER"
)


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" … and {len(names) - 6} more" if len(names) > 6 else "")
