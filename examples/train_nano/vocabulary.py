"""The vocabulary of the nano model: the tokens of Whisper in the order of Whisper, but one text token for each word.

It is byte-level BPE as in GPT-2, so that every Whisper tokenizer reads it: 256 bytes, then every beginning of " word"
from two letters on, each made by one merge of the beginning before it and a letter, so that a word is one token in the
end. The special tokens follow in Whisper's order, and as many timestamps as the window has.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from max_whisper.weights.byte_level_bpe import byte_of_character

SPECS = Path(__file__).resolve().parents[2] / "specs"
WORDS = SPECS / "nano" / "words.txt"
TIME_PRECISION = 0.02  # seconds from one timestamp to the next
SPACE = "Ġ"  # GPT-2's character for a space
ALIGNMENT_HEADS = [[1, 1], [1, 2]]  # as heads.py finds them


class Vocabulary:
    """The tokens of `words`, one each, and the special tokens for windows of `n_audio_ctx` features of 20 ms."""

    def __init__(self, words: list[str], n_audio_ctx: int) -> None:
        self.words = words
        beginnings = {SPACE + word[:length] for word in words for length in range(1, len(word) + 1)}
        ordered = sorted(beginnings, key=lambda text: (len(text), text))
        self.merges = [(text[:-1], text[-1]) for text in ordered]
        self.text = {text: i for i, text in enumerate([*byte_of_character(), *ordered])}
        controls = "endoftext startoftranscript en translate transcribe startoflm startofprev nospeech notimestamps"
        stamps = [f"{i * TIME_PRECISION:.2f}" for i in range(n_audio_ctx + 1)]
        names = [f"<|{name}|>" for name in [*controls.split(), *stamps]]
        self.special = {name: len(self.text) + i for i, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self.text) + len(self.special)

    def __getitem__(self, name: str) -> int:
        """Returns the id of a special token: `vocabulary["endoftext"]`."""
        return self.special[f"<|{name}|>"]

    @cached_property
    def word_ids(self) -> list[int]:
        """The token of each word."""
        return [self.text[SPACE + word] for word in self.words]

    def timestamp(self, seconds: float) -> int:
        """Returns the token of a time in the window."""
        return self["0.00"] + round(seconds / TIME_PRECISION)

    def write(self, folder: Path, dims: dict[str, int]) -> None:
        """Writes the files of a Hub repository that belong to the vocabulary: all but config.json and the weights."""
        (folder / "merges.txt").write_text(
            "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in self.merges), encoding="utf-8"
        )
        everything = list(self.special)
        files: dict[str, Any] = {
            "vocab.json": self.text | {"<|endoftext|>": self["endoftext"]},
            "added_tokens.json": {name: i for name, i in self.special.items() if name != "<|endoftext|>"},
            "special_tokens_map.json": {
                "bos_token": "<|endoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
                "additional_special_tokens": everything[: everything.index("<|0.00|>")],
            },
            "tokenizer_config.json": {
                "tokenizer_class": "WhisperTokenizer",
                "processor_class": "WhisperProcessor",
                "add_prefix_space": False,
                "bos_token": "<|endoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
                "model_max_length": dims["n_text_ctx"],
                "errors": "replace",
            },
            "preprocessor_config.json": {
                "feature_extractor_type": "WhisperFeatureExtractor",
                "processor_class": "WhisperProcessor",
                "feature_size": dims["n_mels"],
                "sampling_rate": 16000,
                "hop_length": 160,
                "n_fft": 400,
                "chunk_length": dims["n_audio_ctx"] // 50,
                "n_samples": dims["n_audio_ctx"] * 320,
                "nb_max_frames": dims["n_audio_ctx"] * 2,
                "padding_side": "right",
                "padding_value": 0.0,
                "return_attention_mask": False,
            },
            "generation_config.json": self.generation_config(dims),
        }
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def generation_config(self, dims: dict[str, int]) -> dict[str, Any]:
        """Returns the decoding rules. End-of-text may come first: so the model says that nobody speaks."""
        controls = "startoftranscript translate transcribe startoflm startofprev nospeech".split()
        return {
            "bos_token_id": self["endoftext"],
            "eos_token_id": self["endoftext"],
            "pad_token_id": self["endoftext"],
            "decoder_start_token_id": self["startoftranscript"],
            "prev_sot_token_id": self["startofprev"],
            "no_timestamps_token_id": self["notimestamps"],
            "is_multilingual": True,
            "alignment_heads": ALIGNMENT_HEADS,
            "lang_to_id": {"<|en|>": self["en"]},
            "task_to_id": {"transcribe": self["transcribe"], "translate": self["translate"]},
            "begin_suppress_tokens": [self.text[SPACE]],
            "suppress_tokens": [self[name] for name in controls],
            "max_initial_timestamp_index": dims["n_audio_ctx"],
            # Half of a short text are timestamps, which are never certain to 20 ms.
            "max_whisper": {"logprob_threshold": -3.0},
            "max_length": dims["n_text_ctx"],
            "return_timestamps": False,
        }
