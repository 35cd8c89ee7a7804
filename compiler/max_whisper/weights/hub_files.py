"""The files of a Whisper checkpoint in the layout of the Hub, and the index of a sharded one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from max_whisper.errors import WeightsError
from max_whisper.messages import quote
from max_whisper.weights.json_files import Index, read_json, shown

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIGURATION, GENERATION = "config.json", "generation_config.json"
# Newer versions of transformers write the second of these instead of the first.
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
VOCABULARY, MERGES, ADDED_TOKENS, TOKENIZER = "vocab.json", "merges.txt", "added_tokens.json", "tokenizer.json"
COMPANIONS = (  # all are optional, and some are only for other programs, such as those that evaluate the model
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
VOCABULARIES = (VOCABULARY, TOKENIZER)
"""The files that hold a vocabulary, of which one is enough."""
CT2_WEIGHTS, CT2_VOCABULARIES = "model.bin", ("vocabulary.json", "vocabulary.txt")
"""The files of a CTranslate2 model beside config.json; older ones have the second form of the vocabulary."""
MAX_SHARDS = 1000

FileFinder = Callable[[str], "Path | None"]
"""A function that returns the path of one of a checkpoint's files, such as "vocab.json", or None."""


@dataclass(frozen=True)
class RepoRevision:
    """A revision of a Hub repository.

    Attributes:
        repo: The repository, as owner/name.
        revision: The branch, tag or commit.
    """

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"Hub repository {quote(self.repo)} at revision {quote(self.revision)}"


@dataclass(frozen=True)
class Snapshot:
    """The files of one commit of a repository, in the cache of the Hub's client.

    Attributes:
        repo: The repository.
        commit: The commit, as 40 hexadecimal digits.
        folder: The folder that holds the files.
    """

    repo: str
    commit: str
    folder: Path


def read_index(path: Path) -> dict[str, str]:
    """Returns the name of the file that holds each tensor, from the index of a sharded checkpoint.

    Raises WeightsError for a broken index, and for a name that does not lie beside it: `../../x` would read a file
    outside the checkpoint.
    """
    files = read_json(path, Index).weight_map
    if not files:
        raise WeightsError(f"{path}: weight_map: expected an object of tensor and file names, got none")
    for name, file in files.items():
        if not _is_shard(file):
            raise WeightsError(
                f"{path}: weight_map: expected the name of a safetensors file for tensor {quote(name)}, got "
                f"{shown(file)}"
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
    """Returns the error for a checkpoint without `model.safetensors`; `names` are the files that it has."""
    files = sorted(names)
    pickles = [name for name in files if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    tensors = [name for name in files if name.endswith(".safetensors") and name != WEIGHTS]
    if "adapter_model.safetensors" in files:
        advice = "it holds a PEFT adapter: merge it into its base model (`merge_and_unload()`), save that, and give it"
    elif tensors and all("-of-" in name for name in tensors):
        advice = f"it has {_listed(tensors)}, but no {INDEX}, which says what is in them: get that, too"
    elif tensors:
        advice = f"it has {_listed(tensors)}: give that file instead"
    elif pickles:
        advice = f"it has {_listed(pickles)}. {PICKLE_ADVICE}"
    else:
        advice = f"it has {_listed(files) if files else 'no files'}"
    return WeightsError(f"{where} has no {WEIGHTS}: {advice}")


def is_pickle_name(name: str) -> bool:
    """Returns whether transformers gives this name to pickles: pytorch_model.bin, and the parts of one."""
    return name.startswith("pytorch_model")


def not_a_checkpoint(source: RepoRevision, missing: str, names: Iterable[str]) -> WeightsError:
    """Returns the error for a repository that lacks the file `missing`; `names` are the files that it has."""
    files = [
        name
        for name in sorted(names)
        if name.endswith((".bin", ".safetensors")) and "/" not in name and not is_pickle_name(name)
    ]
    advice = "it is no checkpoint in transformers' layout"
    if files:
        advice = f"it has {_listed(files)}: name one of them, as in --weights {source.repo}/{files[0]}"
    return WeightsError(f"{source} has no {missing}: {advice}")


PICKLE_ADVICE = (
    "A pickle can run any program and is never read; convert it where PyTorch is installed: "
    "transformers.WhisperForConditionalGeneration.from_pretrained(SOURCE).save_pretrained(FOLDER), then give FOLDER"
)


def _listed(names: list[str]) -> str:
    """Returns the first names of a list for a message, and how many more there are."""
    return ", ".join(names[:6]) + (f" … and {len(names) - 6} more" if len(names) > 6 else "")
