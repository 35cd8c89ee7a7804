"""Reads the text tokens of a checkpoint: a byte-level vocabulary and its merges (BPE, byte pair encoding)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from max_whisper.errors import WeightsError
from max_whisper.files import read_all
from max_whisper.messages import quote
from max_whisper.weights.hub_files import ADDED_TOKENS, MERGES, TOKENIZER, VOCABULARY, FileFinder
from max_whisper.weights.json_files import MAX_BYTES, TokenizerFile, read_json, shown

MAX_ID = 2**31 - 1


def byte_of_character() -> dict[str, int]:
    """Returns the byte that each character of a byte-level vocabulary stands for (openai/gpt-2, encoder.py).

    Characters of printable bytes stand for themselves, and those from U+0100 on for the other bytes, in order.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


@dataclass(frozen=True)
class TokenFiles:
    """The content of a checkpoint's tokenizer files.

    Attributes:
        text: The ids of the text tokens, by the characters that stand for their bytes.
        merges: The merges, in order; None where the format holds none, and the order of the ids is all that there is.
        special: The ids of the special tokens, such as "<|endoftext|>".
        path: The file that the text tokens are from, for error messages.
    """

    text: dict[str, int]
    merges: list[tuple[str, str]] | None
    special: dict[str, int]
    path: Path


def read_token_files(file: FileFinder) -> TokenFiles:
    """Returns the content of a checkpoint's tokenizer files.

    Text tokens and merges come from vocab.json and merges.txt, or from tokenizer.json alone; special tokens from
    added_tokens.json, or from tokenizer.json. Raises WeightsError if a file is missing or broken, or if two disagree.
    """
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
        raise WeightsError("the checkpoint has no vocabulary: expected vocab.json and merges.txt, or tokenizer.json")
    if added_file is not None:
        added = _ids(read_json(added_file, dict[str, Any]), added_file)
    else:
        added = {entry.content: entry.id for entry in tokenizer.added_tokens or []}
    for token, i in added.items():
        if vocab.get(token, i) != i:
            raise WeightsError(f"{source}: token {quote(token)} has two ids, {vocab[token]} and {i}")
    special = {token: i for token, i in (vocab | added).items() if is_special(token)}
    text = {token: i for token, i in vocab.items() if token not in special}
    return TokenFiles(text, merges, special, source)


def is_special(token: str) -> bool:
    """Returns whether a token is special by its name, as "<|endoftext|>" is."""
    return token.startswith("<|") and token.endswith("|>")


def _ids(values: dict[str, Any], source: Path) -> dict[str, int]:
    """Returns the tokens of a file; raises WeightsError for an id that is out of range."""
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
    """Returns the merges of merges.txt."""
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
    """Returns the two tokens of a merge, which is "a b" or, in newer tokenizer.json files, ["a", "b"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise WeightsError(f"{source}: expected a merge of two tokens, got {shown(merge)}")
    return parts[0], parts[1]


def token_bytes(files: TokenFiles, eot: int) -> list[bytes]:
    """Returns the bytes of every text token, by id.

    Raises WeightsError unless the ids are in the order of the merges, if these are known. That order is all that
    tiktoken knows: with it, tiktoken makes the same tokens as the merges. `eot` is the id of end-of-text, which follows
    the text tokens.
    """
    merges, source = files.merges, files.path
    names = sorted(files.text, key=files.text.__getitem__)
    if len(names) != eot or any(files.text[name] != i for i, name in enumerate(names)):
        raise WeightsError(f"{source}: the ids of text tokens must be 0 to {eot - 1}, each once, before <|endoftext|>")
    table = byte_of_character()
    try:
        ranks = [bytes(table[character] for character in name) for name in names]
    except KeyError as e:
        raise WeightsError(f"{source}: {quote(e.args[0])} is not a character of a byte-level vocabulary") from e
    if sorted(ranks[:256]) != [bytes([byte]) for byte in range(256)]:
        raise WeightsError(f"{source}: tokens 0 to 255 must be the 256 bytes")
    if merges is None:
        if b"" in ranks[:-1]:
            raise WeightsError(f"{source}: token {ranks.index(b'')} is empty: only the last text token may be")
        return ranks
    merged = names[256 : 256 + len(merges)]
    for i, (name, (left, right)) in enumerate(zip(merged, merges, strict=False), start=256):
        if name != left + right:
            merge = quote(left + right)
            raise WeightsError(f"{source}: token {i} is {quote(name)}, but merge {i - 256} makes {merge}")
    if len(merged) != len(merges) or ranks[256 + len(merges) :] not in ([], [b""]):
        raise WeightsError(f"{source}: {len(names)} text tokens do not fit 256 bytes and {len(merges)} merges")
    return ranks
