"""Reads a checkpoint's vocabulary: the bytes of each text token, the special tokens, and the decoding rules."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from msgspec import UNSET

from max_whisper.errors import WeightsError
from max_whisper.messages import quote
from max_whisper.tokens import Tokens
from max_whisper.weights.byte_level_bpe import TokenFiles, read_token_files, token_bytes
from max_whisper.weights.hub_files import CONFIGURATION, GENERATION, FileFinder
from max_whisper.weights.json_files import Configuration, GenerationConfiguration, read_json

N_TIMESTAMPS = 1501
"""The timestamps of a vocabulary that does not list its own: <|0.00|> to <|30.00|> in steps of 0.02 s."""
MAX_INITIAL_TIMESTAMP = 50
"""The latest first timestamp, 1 s, where a checkpoint does not say (openai/whisper, decoding.py)."""
LOGPROB_THRESHOLD = -1.0
"""The threshold where a checkpoint does not say (openai/whisper, transcribe.py)."""
TIMESTAMP = re.compile(r"<\|[0-9]+\.[0-9][0-9]\|>")

T = TypeVar("T")


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a checkpoint.

    Attributes:
        ranks: The bytes of each text token, by its id.
        tokens: The special tokens, and the decoding rules.
        origin: A sentence for people that says where `tokens` comes from, if not from the checkpoint's files; or "".
    """

    ranks: list[bytes]
    tokens: Tokens
    origin: str = ""


def read_vocabulary(file: FileFinder, n_vocab: int) -> Vocabulary:
    """Returns the vocabulary of a checkpoint in the layout of the Hub.

    The tokens come from the tokenizer's files (see `read_token_files`), the rules from generation_config.json or else
    config.json. A model is multilingual if generation_config.json says so. If it does not say, a model is multilingual
    if it lists languages, or if its vocabulary has the empty token before `<|endoftext|>` that multilingual ones have.

    Args:
        file: A function that returns the path of one of the checkpoint's files, or None (`Checkpoint.file`).
        n_vocab: The number of tokens of the model.

    Raises:
        WeightsError: A file is missing or broken, two of them disagree, or the ids do not fit the model.
    """
    return assemble(
        read_token_files(file),
        _read(file, GENERATION, GenerationConfiguration),
        _read(file, CONFIGURATION, Configuration),
        n_vocab,
    )


def assemble(
    files: TokenFiles, generation: GenerationConfiguration, configuration: Configuration, n_vocab: int
) -> Vocabulary:
    """Returns the vocabulary of a checkpoint from the content of its files; see `read_vocabulary`.

    Raises WeightsError if two of them disagree, or if the ids do not fit the model.
    """
    special, source = files.special, files.path
    ids = _SpecialIds(special, source)
    eot = ids["endoftext"]
    ranks = token_bytes(files, eot)
    languages = _languages(generation, ids, has_empty_token=ranks[-1] == b"")
    max_initial = generation.max_initial_timestamp_index
    threshold = None if generation.max_whisper is None else generation.max_whisper.logprob_threshold
    tokens = Tokens(
        eot=eot,
        sot=ids["startoftranscript"],
        translate=ids["translate"],
        transcribe=ids["transcribe"],
        startoflm=ids["startoflm"],
        startofprev=ids["startofprev"],
        nospeech=ids["nospeech" if "<|nospeech|>" in special else "nocaptions"],
        notimestamps=ids["notimestamps"],
        timestamp_begin=ids["notimestamps"] + 1,
        n_timestamps=sum(TIMESTAMP.fullmatch(token) is not None for token in special) or N_TIMESTAMPS,
        max_initial_timestamp=MAX_INITIAL_TIMESTAMP if max_initial is None else max_initial,
        languages=languages,
        suppress=_id_list("suppress_tokens", generation, configuration, n_vocab, without=eot),
        begin_suppress=_id_list("begin_suppress_tokens", generation, configuration, n_vocab),
        logprob_threshold=LOGPROB_THRESHOLD if threshold is None else threshold,
    )
    _check_special(tokens, special, source)
    _check_agreement(tokens, generation)
    _check_size(tokens, special, source, configuration, n_vocab)
    return Vocabulary(ranks, tokens)


def write_tiktoken(ranks: Sequence[bytes], path: Path) -> None:
    """Writes text tokens to a file in openai's .tiktoken format: a line `base64 id` for each, by id.

    The empty token is written as "=", as in openai's multilingual.tiktoken, because a line must have two words.
    """
    lines = [(base64.b64encode(token) or b"=") + b" %d\n" % rank for rank, token in enumerate(ranks)]
    path.write_bytes(b"".join(lines))


class _SpecialIds:
    """The ids of special tokens by their names without "<|" and "|>"; a missing one raises WeightsError."""

    def __init__(self, special: dict[str, int], source: Path) -> None:
        self.special, self.source = special, source

    def __getitem__(self, name: str) -> int:
        if (token := f"<|{name}|>") not in self.special:
            raise WeightsError(f"{self.source}: there is no token {token}, so it is no Whisper vocabulary")
        return self.special[token]


def _read(file: FileFinder, name: str, kind: type[T]) -> T:
    """Returns the content of a JSON file, or the defaults of its class if the checkpoint does not have it."""
    path = file(name)
    return kind() if path is None else read_json(path, kind)


def _languages(generation: GenerationConfiguration, ids: _SpecialIds, *, has_empty_token: bool) -> dict[str, int]:
    """Returns the id of each language code, in id order; empty for an English-only model (see `read_vocabulary`)."""
    listed = generation.lang_to_id or {}
    multilingual = generation.is_multilingual
    if multilingual is None:
        multilingual = bool(listed) or has_empty_token
    if not multilingual:
        return {}
    between = range(ids["startoftranscript"] + 1, ids["translate"])
    tokens = listed or {token: i for token, i in ids.special.items() if i in between}
    for token, i in tokens.items():
        if ids[token[2:-2]] != i or i not in between:
            raise WeightsError(
                f"{GENERATION}: lang_to_id: language {quote(token)} has the id {i}, the vocabulary gives it "
                f"{ids[token[2:-2]]}"
            )
    if not tokens:
        raise WeightsError(f"{ids.source}: the vocabulary of a multilingual model has no language tokens")
    return {token[2:-2]: i for token, i in sorted(tokens.items(), key=lambda item: item[1])}


def _id_list(
    key: str,
    generation: GenerationConfiguration,
    configuration: Configuration,
    n_vocab: int,
    *,
    without: int | None = None,
) -> list[int]:
    """Returns a list of token ids from generation_config.json, or else from config.json, each once; null means none.

    `without` is the id of end-of-text, if that must not be in the list.
    """
    lists = [getattr(values, key) for values in (generation, configuration)]
    if all(ids is UNSET for ids in lists):
        raise WeightsError(
            f"neither {GENERATION} nor {CONFIGURATION} lists {key}: add the list (it may be empty) to the former"
        )
    for name, ids in zip((GENERATION, CONFIGURATION), lists, strict=True):
        if isinstance(ids, list):
            check_ids(f"{name}: {key}", ids, n_vocab, without=without)
            return list(dict.fromkeys(ids))
    return []


def check_ids(where: str, ids: Sequence[int], n_vocab: int, *, without: int | None = None) -> None:
    """Raises WeightsError for a list of token ids that the model does not have, or that has the id `without`."""
    if (last := max(ids, default=0)) >= n_vocab:
        raise WeightsError(f"{where}: expected token ids below {n_vocab} (the model's n_vocab), got {last}")
    if without in ids:
        raise WeightsError(f"{where}: expected a list without <|endoftext|> ({without}), or no text would ever end")


def _check_special(tokens: Tokens, special: dict[str, int], source: Path) -> None:
    """Raises WeightsError unless the special tokens are in Whisper's order, and the timestamps follow them."""
    order = tokens.in_order
    if any(left >= right for left, right in pairwise(order)):
        raise WeightsError(f"{source}: the special tokens are not in Whisper's order: {order}")
    for i in (0, tokens.n_timestamps - 1):  # old tokenizer files do not list the timestamps at all
        token = f"<|{i * 0.02:.2f}|>"
        if special.get(token, tokens.timestamp_begin + i) != tokens.timestamp_begin + i:
            raise WeightsError(
                f"{source}: {token} has the id {special[token]}: expected {tokens.timestamp_begin + i}, "
                "as the timestamps follow <|notimestamps|>"
            )


def _check_agreement(tokens: Tokens, generation: GenerationConfiguration) -> None:
    """Checks the ids that generation_config.json repeats: with a copy from another model, texts would be nonsense."""
    repeated = {
        "eos_token_id": tokens.eot,
        "decoder_start_token_id": tokens.sot,
        "no_timestamps_token_id": tokens.notimestamps,
    }
    for key, expected in repeated.items():
        actual = getattr(generation, key)
        if actual not in (expected, [expected], None):
            raise WeightsError(
                f"{GENERATION}: {key} is {actual}, but the vocabulary gives that token the id "
                f"{expected}: one of the two files is of another model"
            )


def _check_size(
    tokens: Tokens, special: dict[str, int], source: Path, configuration: Configuration, n_vocab: int
) -> None:
    """Checks that the vocabulary has the model's size, or is smaller if config.json says that it is padded."""
    size = max(tokens.timestamp_begin + tokens.n_timestamps, max(special.values()) + 1)
    if size == n_vocab or size < n_vocab == configuration.vocab_size:
        return
    raise WeightsError(
        f"{source}: the vocabulary has {size} tokens, but the model has {n_vocab}: "
        "the spec, the weights and the vocabulary are not of the same model"
    )
