"""Makes small byte-level BPE vocabularies with Whisper's special tokens, and writes the files of their tokenizers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

LANGUAGES = ["en", "zh", "de", "es", "ru"]
CORPUS = """
the cat and the hat sat on the mat in the rain and then the other cat came in and the rain went on and on
what is there to say about the weather when the sun is out and there is nothing to do but walk to the river
"""
N_MERGES = 40
N_TIMESTAMPS = 1501  # <|0.00|> … <|30.00|>


@dataclass(frozen=True)
class Vocabulary:
    """A small byte-level BPE vocabulary with Whisper's special tokens, in Whisper's order."""

    vocab: dict[str, int]  # printable form of each text token -> id; multilingual layouts end with the empty filler
    merges: list[tuple[str, str]]
    special: dict[str, int]  # "<|endoftext|>" … "<|30.00|>" -> id
    languages: dict[str, int]  # "<|en|>" -> id; empty for the English-only layout

    @property
    def n_vocab(self) -> int:
        return len(self.vocab) + len(self.special)


def make_tokens(family: str) -> Vocabulary:
    """Returns the vocabulary of a family: "multilingual", "english" or "v3"; see `checkpoint.write_checkpoint`."""
    alphabet = printable_bytes()
    merges = learn_merges(alphabet)
    symbols = [*alphabet.values(), *(a + b for a, b in merges)]
    if family != "english":
        symbols.append("")  # the filler in front of <|endoftext|> that the multilingual vocabularies have
    codes = LANGUAGES + (["yue"] if family == "v3" else [])
    names = ["endoftext", "startoftranscript", *codes, "translate", "transcribe", "startoflm", "startofprev"]
    names += ["nospeech" if family == "v3" else "nocaptions", "notimestamps"]
    names += [f"{i * 0.02:.2f}" for i in range(N_TIMESTAMPS)]
    special = {f"<|{name}|>": len(symbols) + i for i, name in enumerate(names)}
    languages = {} if family == "english" else {f"<|{code}|>": special[f"<|{code}|>"] for code in codes}
    return Vocabulary({symbol: i for i, symbol in enumerate(symbols)}, merges, special, languages)


def printable_bytes() -> dict[int, str]:
    """Returns GPT-2's printable character of each byte, in the order of ids: printable bytes stand for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def learn_merges(alphabet: dict[int, str]) -> list[tuple[str, str]]:
    """Returns the byte-pair merges of CORPUS; only a learned order of merges tokenizes alike in every library."""
    words = [[alphabet[byte] for byte in f" {word}".encode()] for word in CORPUS.split()]
    merges = []
    for _ in range(N_MERGES):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = [list(merge(word, best)) for word in words]
    return merges


def merge(word: list[str], pair: tuple[str, str]) -> Iterator[str]:
    """Yields the symbols of `word` with every occurrence of the pair joined, from the left."""
    i = 0
    while i < len(word):
        step = 2 if tuple(word[i : i + 2]) == pair else 1
        yield "".join(word[i : i + step])
        i += step


def write_tokenizer(folder: Path, tokens: Vocabulary) -> None:
    """Writes vocab.json, merges.txt, added_tokens.json and two maps (slow format), and tokenizer.json (fast format)."""
    vocab = tokens.vocab | {"<|endoftext|>": tokens.special["<|endoftext|>"]}
    merges = [f"{a} {b}" for a, b in tokens.merges]
    added = {name: i for name, i in tokens.special.items() if name != "<|endoftext|>"}
    control = [name for name in tokens.special if not name[2].isdigit()]
    entries = [
        {
            "id": i,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": name not in control,
            "special": name in control,
        }
        for name, i in tokens.special.items()
    ]
    end = "<|endoftext|>"
    roles = {"bos_token": end, "eos_token": end, "pad_token": end, "unk_token": end}
    write_json(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    write_json(folder / "added_tokens.json", added)
    write_json(folder / "special_tokens_map.json", {"additional_special_tokens": control, **roles})
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in entries
            },
            "additional_special_tokens": control,
            "clean_up_tokenization_spaces": True,
            "errors": "replace",
            "model_max_length": 1024,
            "processor_class": "WhisperProcessor",
            "tokenizer_class": "WhisperTokenizer",
            **roles,
        },
    )
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    prompt = ["<|startoftranscript|>", "<|notimestamps|>"]
    around = [{"SpecialToken": {"id": name, "type_id": 0}} for name in prompt]
    closing = {"SpecialToken": {"id": end, "type_id": 0}}
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": entries,
            "normalizer": None,
            "pre_tokenizer": {**byte_level, "add_prefix_space": False},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [*around, {"Sequence": {"id": "A", "type_id": 0}}, closing],
                "pair": [
                    *around,
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 1}},
                    closing,
                ],
                "special_tokens": {
                    name: {"id": name, "ids": [tokens.special[name]], "tokens": [name]} for name in [*prompt, end]
                },
            },
            "decoder": {**byte_level, "add_prefix_space": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocab,
                "merges": merges,
            },
        },
    )


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
