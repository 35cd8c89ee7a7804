"""Names the files of a Whisper checkpoint in the layout of the Hub, and reads the index of sharded ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

from max_whisper.errors import WeightsError
from max_whisper.messages import quote
from max_whisper.weights.json_files import Index, read_json, shown

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIGURATION, GENERATION = "config.json", "generation_config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"  # newer transformers write the latter
VOCABULARY, MERGES, ADDED_TOKENS, TOKENIZER = "vocab.json", "merges.txt", "added_tokens.json", "tokenizer.json"
COMPANIONS = (  # all optional; read here or, like the normalizer, by whoever evaluates the model
    GENERATION,
    PREPROCESSOR,
    PROCESSOR,
    VOCABULARY,
    MERGES,
    ADDED_TOKENS,
    "special_tokens_map.json",
    TOKENIZER,
    "tokenizer_config.json",
    "normalizer.json",
)
VOCABULARIES = (VOCABULARY, TOKENIZER)  # either is enough
MAX_SHARDS = 1000


def read_index(path: Path) -> dict[str, str]:
    """Returns the file name of each tensor, from the index of a sharded checkpoint. Raises WeightsError.

    Each file name is checked to be one beside the index: a name like `../../x` would read outside of the checkpoint.
    """
    files = read_json(path, Index).weight_map
    if not files:
        raise WeightsError(f"{path}: weight_map: expected an object of tensor and file names, got none")
    for name, file in files.items():
        if not _is_shard(file):
            raise WeightsError(
                f"{path}: weight_map: tensor {quote(name)} is said to be in {shown(file)}, which is no "
                "safetensors file name"
            )
    if len(set(files.values())) > MAX_SHARDS:
        raise WeightsError(f"{path}: weight_map: expected at most {MAX_SHARDS} files, got {len(set(files.values()))}")
    return files


def _is_shard(file: object) -> bool:
    return (
        isinstance(file, str)
        and file.endswith(".safetensors")
        and len(file) <= 200
        and file.isprintable()
        and PurePath(file).name == file
        and "\\" not in file
    )


def weights_missing(where: str, names: Iterable[str]) -> WeightsError:
    """Returns the error for a checkpoint without `model.safetensors`, which says what to do.

    names: the files that it has.
    """
    found = sorted(names)
    pickles = [name for name in found if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    others = [name for name in found if name.endswith(".safetensors") and name != WEIGHTS]
    if "adapter_model.safetensors" in found:
        advice = "it holds a PEFT adapter: merge it into its base model (`merge_and_unload()`), save that, and give it"
    elif others and all("-of-" in name for name in others):
        advice = f"it has {_some(others)}, but no {INDEX}, which says what is in them: get that, too"
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
