"""Reads a checkpoint's own vocabulary: the bytes of each text token, the special tokens, and the decoding rules."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from msgspec import UNSET

from max_whisper.errors import WeightsError
from max_whisper.files import read_all
from max_whisper.messages import quote
from max_whisper.tokens import Tokens
from max_whisper.weights.hub_files import ADDED_TOKENS, CONFIGURATION, GENERATION, MERGES, TOKENIZER, VOCABULARY
from max_whisper.weights.json_files import (
    MAX_BYTES,
    Configuration,
    GenerationConfiguration,
    TokenizerFile,
    read_json,
    shown,
)

N_TIMESTAMPS = 1501  # <|0.00|> to <|30.00|> by 0.02 s, where a vocabulary does not list its own
# Where a checkpoint does not say (openai/whisper, decoding.py and transcribe.py)
MAX_INITIAL_TIMESTAMP = 50  # 1 s
LOGPROB_THRESHOLD = -1.0
TIMESTAMP = re.compile(r"<\|[0-9]+\.[0-9][0-9]\|>")
MAX_ID = 2**31 - 1

T = TypeVar("T")


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a checkpoint."""

    ranks: list[bytes]  # of each text token, by its id
    tokens: Tokens  # the special ones, and those that must not be chosen


def read_vocabulary(file: Callable[[str], Path | None], n_vocab: int) -> Vocabulary:
    """Returns the vocabulary of a checkpoint in Hugging Face layout.

    file: returns the path of one of the checkpoint's files, or None (`Checkpoint.file`).
    n_vocab: the number of tokens that the model has.

    Text tokens come from vocab.json and merges.txt, or from tokenizer.json alone; special tokens from
    added_tokens.json, or from tokenizer.json; the rules from generation_config.json, or from config.json. A model is
    multilingual if generation_config.json says so; if it does not say, if it lists languages; else if the vocabulary
    has the empty token before `<|endoftext|>` that the multilingual ones have.

    Raises WeightsError if a file is missing or broken, if two of them disagree, or if the ids do not fit the model.
    """
    generation = _read(file, GENERATION, GenerationConfiguration)
    configuration = _read(file, CONFIGURATION, Configuration)
    vocab, merges, special, source = _read_tokens(file)
    ids = _SpecialIds(special, source)
    eot = ids["endoftext"]
    ranks = _ranks(vocab, merges, eot, source)
    filler = len(ranks) > 256 + len(merges)
    languages = _languages(generation, ids, filler)
    latest = generation.max_initial_timestamp_index
    # Not transformers' own key of that name: with it, its `generate` fails for models with timestamps (5.23).
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
        max_initial_timestamp=MAX_INITIAL_TIMESTAMP if latest is None else latest,
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
    """Writes text tokens in openai's .tiktoken format: one `base64 id` a line, in id order.

    The empty token is written as "=", as in openai's multilingual.tiktoken: a line must have two words.
    """
    lines = [(base64.b64encode(token) or b"=") + b" %d\n" % rank for rank, token in enumerate(ranks)]
    path.write_bytes(b"".join(lines))


def byte_of_character() -> dict[str, int]:
    """Returns the byte that each character of a byte-level vocabulary stands for.

    Printable bytes stand for themselves, the others for the characters from U+0100 on (openai/gpt-2, encoder.py).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


class _SpecialIds:
    """The ids of special tokens by their inner names; a missing one is an error that names the file."""

    def __init__(self, special: dict[str, int], source: Path) -> None:
        self.special, self._source = special, source

    def __getitem__(self, name: str) -> int:
        if (token := f"<|{name}|>") not in self.special:
            raise WeightsError(f"{self._source}: there is no token {token}: it is no Whisper vocabulary")
        return self.special[token]


def _read(file: Callable[[str], Path | None], name: str, kind: type[T]) -> T:
    path = file(name)
    return kind() if path is None else read_json(path, kind)


def _read_tokens(
    file: Callable[[str], Path | None],
) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, int], Path]:
    """Returns text tokens by their printable form, merges in order, special tokens, and the file to blame for them."""
    vocab_file, merges_file, added_file = file(VOCABULARY), file(MERGES), file(ADDED_TOKENS)
    tokenizer_file = None if vocab_file and merges_file and added_file else file(TOKENIZER)
    tokenizer = TokenizerFile() if tokenizer_file is None else read_json(tokenizer_file, TokenizerFile)
    if vocab_file is not None and merges_file is not None:
        source = vocab_file
        vocab = _ids(read_json(vocab_file, dict[str, Any]), vocab_file)
        merges = _read_merges(merges_file)
    elif tokenizer_file is not None:
        source = tokenizer_file
        vocab, merges = _read_model(tokenizer, tokenizer_file)
    else:
        raise WeightsError("the checkpoint has no vocabulary: it needs vocab.json and merges.txt, or tokenizer.json")
    if added_file is not None:
        added = _ids(read_json(added_file, dict[str, Any]), added_file)
    else:
        added = {entry.content: entry.id for entry in tokenizer.added_tokens or []}
    everything = vocab | added
    for token, i in added.items():
        if vocab.get(token, i) != i:
            raise WeightsError(f"{source}: token {quote(token)} has two ids, {vocab[token]} and {i}")
    special = {token: i for token, i in everything.items() if token.startswith("<|") and token.endswith("|>")}
    return {token: i for token, i in vocab.items() if token not in special}, merges, special, source


def _ids(values: dict[str, Any], source: Path) -> dict[str, int]:
    """Returns the tokens of a file, their ids checked."""
    for token, i in values.items():
        if type(i) is not int or not 0 <= i <= MAX_ID:
            raise WeightsError(f"{source}: token {quote(token)} has the id {shown(i)}: expected an integer from 0 on")
    return values


def _read_model(tokenizer: TokenizerFile, source: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Returns the text tokens and the merges of tokenizer.json."""
    model = tokenizer.model
    if model is None or model.type != "BPE" or not isinstance(model.vocab, dict) or not isinstance(model.merges, list):
        raise WeightsError(f"{source}: model: expected a model of type BPE with an object vocab and a list merges")
    return _ids(model.vocab, source), [_pair(merge, source) for merge in model.merges]


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        text = read_all(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise WeightsError(f"{path} cannot be read: {e}") from e
    except OSError as e:
        raise WeightsError(f"{path} cannot be read: {e.strerror}") from e
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].startswith("#version"):
        lines = lines[1:]
    return [_pair(line, path) for line in lines if line]


def _pair(merge: Any, source: Path) -> tuple[str, str]:
    """Returns the two tokens of a merge, "a b" or, in newer tokenizer.json files, ["a", "b"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise WeightsError(f"{source}: {shown(merge)} is no merge of two tokens")
    return parts[0], parts[1]


def _ranks(vocab: dict[str, int], merges: list[tuple[str, str]], eot: int, source: Path) -> list[bytes]:
    """Returns the bytes of every text token in id order, which is checked to be the order of the merges.

    That order is all that tiktoken knows: with it, tiktoken gives the ids that the merges give.
    """
    names = sorted(vocab, key=vocab.__getitem__)
    if len(names) != eot or any(vocab[name] != i for i, name in enumerate(names)):
        raise WeightsError(f"{source}: the ids of text tokens must be 0 to {eot - 1}, each once, before <|endoftext|>")
    table = byte_of_character()
    try:
        ranks = [bytes(table[character] for character in name) for name in names]
    except KeyError as e:
        raise WeightsError(f"{source}: {quote(e.args[0])} is no character of a byte-level vocabulary") from e
    if sorted(ranks[:256]) != [bytes([byte]) for byte in range(256)]:
        raise WeightsError(f"{source}: tokens 0 to 255 must be the 256 bytes")
    merged = names[256 : 256 + len(merges)]
    for i, (name, (left, right)) in enumerate(zip(merged, merges, strict=False), start=256):
        if name != left + right:
            made = quote(left + right)
            raise WeightsError(f"{source}: token {i} is {quote(name)}, but the merges make {made} at this place")
    if len(merged) != len(merges) or ranks[256 + len(merges) :] not in ([], [b""]):
        raise WeightsError(f"{source}: {len(names)} text tokens do not fit 256 bytes and {len(merges)} merges")
    return ranks


def _languages(generation: GenerationConfiguration, ids: _SpecialIds, filler: bool) -> dict[str, int]:
    """Returns the id of each language code, in id order; empty for an English-only model (see `read_vocabulary`)."""
    listed = generation.lang_to_id or {}
    multilingual = generation.is_multilingual
    if multilingual is None:
        multilingual = bool(listed) or filler
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
        raise WeightsError(
            f"{GENERATION}: the checkpoint is said to be multilingual, but its vocabulary has no language tokens"
        )
    return {token[2:-2]: i for token, i in sorted(tokens.items(), key=lambda item: item[1])}


def _id_list(
    key: str,
    generation: GenerationConfiguration,
    configuration: Configuration,
    n_vocab: int,
    *,
    without: int | None = None,
) -> list[int]:
    """Returns a list of token ids from generation_config.json, else from config.json, each once; null means none.

    without: the id of end-of-text, where it must not be in the list.
    """
    given = [getattr(values, key) for values in (generation, configuration)]
    if all(ids is UNSET for ids in given):
        raise WeightsError(
            f"neither {GENERATION} nor {CONFIGURATION} lists {key}: add the list (it may be empty) to the former"
        )
    for name, ids in zip((GENERATION, CONFIGURATION), given, strict=True):
        if isinstance(ids, list):
            if (last := max(ids, default=0)) >= n_vocab:
                raise WeightsError(
                    f"{name}: {key} must be a list of token ids below {n_vocab} (the model's n_vocab), not {last}"
                )
            if without in ids:
                raise WeightsError(f"{name}: {key} must not hold <|endoftext|> ({without}): no text would ever end")
            return list(dict.fromkeys(ids))
    return []


def _check_special(tokens: Tokens, special: dict[str, int], source: Path) -> None:
    """Checks the order that decoding relies on: text, eot, sot, languages, the other tokens, timestamps."""
    controls = [tokens.translate, tokens.transcribe, tokens.startoflm, tokens.startofprev, tokens.nospeech]
    order = [tokens.eot, tokens.sot, *tokens.languages.values(), *controls, tokens.notimestamps]
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
    """Checks the ids that generation_config.json repeats: a copy from another model would decode nonsense."""
    repeated = {
        "eos_token_id": tokens.eot,
        "decoder_start_token_id": tokens.sot,
        "no_timestamps_token_id": tokens.notimestamps,
    }
    for key, expected in repeated.items():
        found = getattr(generation, key)
        if found not in (expected, [expected], None):
            raise WeightsError(
                f"{GENERATION}: {key} is {found}, but the vocabulary gives that token the id "
                f"{expected}: one of the two files is of another model"
            )


def _check_size(
    tokens: Tokens, special: dict[str, int], source: Path, configuration: Configuration, n_vocab: int
) -> None:
    """Checks that the vocabulary has the model's size, or is smaller where config.json says that it is padded."""
    size = max(tokens.timestamp_begin + tokens.n_timestamps, max(special.values()) + 1)
    if size == n_vocab or size < n_vocab == configuration.vocab_size:
        return
    raise WeightsError(
        f"{source}: the vocabulary has {size} tokens, but the model has {n_vocab}: "
        "the spec, the weights and the vocabulary are not of the same model"
    )
