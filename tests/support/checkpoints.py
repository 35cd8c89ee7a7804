"""Small random Whisper checkpoints in Hub layout, written with numpy and nothing else.

They hold every file of the official repositories (weights, configuration, tokenizer in both formats), so that
transformers and max-whisper read the same folder. The weights are random but lively: attention is sharp enough to
depend on the audio, greedy decoding gives a varied sequence, and the special tokens' embeddings are small, so that
end-of-text does not win and a request for N tokens gives N tokens. Numbers come from `numpy.random.default_rng(seed)`
in a fixed order, independent of the stored dtype: the same arguments give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

LANGUAGES = ["en", "zh", "de", "es", "ru"]
CORPUS = """
the cat and the hat sat on the mat in the rain and then the other cat came in and the rain went on and on
what is there to say about the weather when the sun is out and there is nothing to do but walk to the river
"""
N_MERGES = 40
N_TIMESTAMPS = 1501  # <|0.00|> … <|30.00|>
# The single-character symbols among Whisper's non-speech tokens; ids of bytes are the same in every GPT-2 vocabulary.
SYMBOLS = [1, 2, 7, 8, 9, 10, 14, 25, 26, 27, 28, 29, 31, 58, 59, 60, 61, 62, 63, 90, 91, 92, 93]
SPACE = 220
DTYPES = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}


def write_checkpoint(
    folder: Path,
    *,
    d_model: int = 64,
    n_heads: int = 2,
    encoder_layers: int = 2,
    decoder_layers: int = 2,
    n_mels: int = 80,
    n_audio_ctx: int = 1500,
    n_text_ctx: int = 448,
    d_ffn: int | None = None,
    family: str = "multilingual",
    seed: int = 0,
    dtype: str = "float32",
    shards: int = 1,
    activation: str = "gelu",
) -> dict[str, int]:
    """Write a checkpoint into `folder` and return its dimensions under the names that specs use.

    `family` is the token layout: "multilingual", "english" (no languages, no filler token) or "v3" (one language
    more, and `<|nospeech|>` for `<|nocaptions|>`). `activation` is a name of transformers' activations.
    `n_audio_ctx` should be a multiple of 50, so that a window is a whole number of seconds.
    """
    tokens = make_tokens(family)
    dims = {
        "n_mels": n_mels,
        "n_audio_ctx": n_audio_ctx,
        "d_model": d_model,
        "n_heads": n_heads,
        "d_ffn": d_ffn or 4 * d_model,
        "n_vocab": tokens.n_vocab,
        "n_text_ctx": n_text_ctx,
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, tokens)
    write_configuration(folder, dims, tokens, dtype, activation)
    weights = make_weights(dims, tokens.special["<|endoftext|>"], seed)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", weights, dtype)
    else:
        write_shards(folder, weights, dtype, shards)
    return dims


# --- weights


def make_weights(dims: dict[str, int], first_special: int, seed: int) -> dict[str, np.ndarray]:
    """Every tensor of the model, float32, under its Hugging Face name."""
    rng = np.random.default_rng(seed)
    d, ffn = dims["d_model"], dims["d_ffn"]
    weights: dict[str, np.ndarray] = {}

    def normal(name: str, shape: tuple[int, ...], scale: float, mean: float = 0.0) -> None:
        weights[name] = (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    def projection(name: str, *shape: int, gain: float, bias: bool = True) -> None:
        normal(f"{name}.weight", shape, gain / np.sqrt(np.prod(shape[1:])))
        if bias:
            normal(f"{name}.bias", shape[:1], 0.02)

    def layernorm(name: str) -> None:
        normal(f"{name}.weight", (d,), 0.05, mean=1.0)
        normal(f"{name}.bias", (d,), 0.02)

    def attention(name: str) -> None:
        # Sharp queries and keys: with gain 1 the softmax is nearly flat, and wrong masks would go unnoticed.
        projection(f"{name}.k_proj", d, d, gain=2.5, bias=False)
        projection(f"{name}.v_proj", d, d, gain=1.0)
        projection(f"{name}.q_proj", d, d, gain=2.5)
        projection(f"{name}.out_proj", d, d, gain=1.0)
        layernorm(f"{name}_layer_norm")

    def feed_forward(name: str) -> None:
        projection(f"{name}.fc1", ffn, d, gain=2.0)
        projection(f"{name}.fc2", d, ffn, gain=1.5)
        layernorm(f"{name}.final_layer_norm")

    projection("model.encoder.conv1", d, dims["n_mels"], 3, gain=2.0)
    projection("model.encoder.conv2", d, d, 3, gain=1.0)
    weights["model.encoder.embed_positions.weight"] = sinusoids(dims["n_audio_ctx"], d)
    for i in range(dims["encoder_layers"]):
        attention(f"model.encoder.layers.{i}.self_attn")
        feed_forward(f"model.encoder.layers.{i}")
    layernorm("model.encoder.layer_norm")

    # The embedding is also the output projection: this scale gives logits of order 10 at Whisper's widths.
    normal("model.decoder.embed_tokens.weight", (dims["n_vocab"], d), max(0.05, d**-0.5))
    weights["model.decoder.embed_tokens.weight"][first_special:] *= 0.1
    normal("model.decoder.embed_positions.weight", (dims["n_text_ctx"], d), 0.3)
    for i in range(dims["decoder_layers"]):
        attention(f"model.decoder.layers.{i}.self_attn")
        attention(f"model.decoder.layers.{i}.encoder_attn")
        feed_forward(f"model.decoder.layers.{i}")
    layernorm("model.decoder.layer_norm")
    return weights


def sinusoids(length: int, channels: int) -> np.ndarray:
    """Whisper's fixed encoder positions, float32 [length, channels]: sines, then cosines."""
    half = channels // 2
    rates = np.exp(-np.log(10000.0) * np.arange(half) / (half - 1))
    angles = np.outer(np.arange(length), rates)
    return np.hstack([np.sin(angles), np.cos(angles)]).astype(np.float32)


def encode_array(array: np.ndarray, dtype: str) -> bytes:
    """The little-endian bytes of a float32 array in a safetensors dtype; bfloat16 is rounded to nearest even."""
    if dtype != "bfloat16":
        return array.astype(dtype).tobytes()
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def write_safetensors(path: Path, weights: dict[str, np.ndarray], dtype: str) -> None:
    """A safetensors file: length of the header, header, bytes. Independent of the reader that the tests check."""
    name, size = DTYPES[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, array in weights.items():
        start, end = end, end + array.size * size
        header[key] = {"dtype": name, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in weights.values():
            file.write(encode_array(array, dtype))


def write_shards(folder: Path, weights: dict[str, np.ndarray], dtype: str, shards: int) -> None:
    """The same tensors in several files, and the index that says which file holds what."""
    names = list(weights)
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for i, file in enumerate(files):
        write_safetensors(folder / file, {name: weights[name] for name in names[i::shards]}, dtype)
    total = sum(array.size for array in weights.values()) * DTYPES[dtype][1]
    weight_map = {name: files[i % shards] for i, name in enumerate(names)}
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


# --- vocabulary


@dataclass(frozen=True)
class MadeTokens:
    """A small byte-level BPE vocabulary with Whisper's special tokens, in Whisper's order."""

    vocab: dict[str, int]  # printable form of each text token -> id; multilingual layouts end with the empty filler
    merges: list[tuple[str, str]]
    special: dict[str, int]  # "<|endoftext|>" … "<|30.00|>" -> id
    languages: dict[str, int]  # "<|en|>" -> id; empty for the English-only layout

    @property
    def n_vocab(self) -> int:
        return len(self.vocab) + len(self.special)


def make_tokens(family: str) -> MadeTokens:
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
    return MadeTokens({symbol: i for i, symbol in enumerate(symbols)}, merges, special, languages)


def printable_bytes() -> dict[int, str]:
    """GPT-2's printable character for each byte, in the order of their ids: printable bytes stand for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def learn_merges(alphabet: dict[int, str]) -> list[tuple[str, str]]:
    """Byte-pair encoding of CORPUS. Learned, not listed: only a learned order tokenizes alike in every library."""
    words = [[alphabet[byte] for byte in f" {word}".encode()] for word in CORPUS.split()]
    merges = []
    for _ in range(N_MERGES):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = [list(merge(word, best)) for word in words]
    return merges


def merge(word: list[str], pair: tuple[str, str]) -> Iterator[str]:
    """`word` with every occurrence of the pair joined, from the left."""
    i = 0
    while i < len(word):
        step = 2 if tuple(word[i : i + 2]) == pair else 1
        yield "".join(word[i : i + step])
        i += step


def write_tokenizer(folder: Path, tokens: MadeTokens) -> None:
    """vocab.json, merges.txt, added_tokens.json and the two maps (slow format), and tokenizer.json (fast format)."""
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


# --- configuration


def write_configuration(folder: Path, dims: dict[str, int], tokens: MadeTokens, dtype: str, activation: str) -> None:
    """config.json, generation_config.json and preprocessor_config.json, complete enough for transformers."""
    special = tokens.special
    end, start = special["<|endoftext|>"], special["<|startoftranscript|>"]
    tasks = {name: special[f"<|{name}|>"] for name in ("transcribe", "translate")}
    controls = range(special["<|translate|>"], special["<|notimestamps|>"])
    shared = {
        "begin_suppress_tokens": [SPACE, end],
        "bos_token_id": end,
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "max_length": dims["n_text_ctx"],
        "pad_token_id": end,
        "suppress_tokens": [*SYMBOLS, start, *controls],
    }
    write_json(
        folder / "config.json",
        {
            "activation_dropout": 0.0,
            "activation_function": activation,
            "architectures": ["WhisperForConditionalGeneration"],
            "attention_dropout": 0.0,
            "d_model": dims["d_model"],
            "decoder_attention_heads": dims["n_heads"],
            "decoder_ffn_dim": dims["d_ffn"],
            "decoder_layerdrop": 0.0,
            "decoder_layers": dims["decoder_layers"],
            "dropout": 0.0,
            "encoder_attention_heads": dims["n_heads"],
            "encoder_ffn_dim": dims["d_ffn"],
            "encoder_layerdrop": 0.0,
            "encoder_layers": dims["encoder_layers"],
            "init_std": 0.02,
            "is_encoder_decoder": True,
            "max_source_positions": dims["n_audio_ctx"],
            "max_target_positions": dims["n_text_ctx"],
            "model_type": "whisper",
            "num_hidden_layers": dims["encoder_layers"],
            "num_mel_bins": dims["n_mels"],
            "scale_embedding": False,
            "torch_dtype": dtype,
            "use_cache": True,
            "vocab_size": dims["n_vocab"],
            **shared,
        },
    )
    multilingual = {"is_multilingual": True, "lang_to_id": tokens.languages, "task_to_id": tasks}
    write_json(
        folder / "generation_config.json",
        {
            "alignment_heads": [[0, 1], [1, 0]],
            "max_initial_timestamp_index": 50,
            "no_timestamps_token_id": special["<|notimestamps|>"],
            "prev_sot_token_id": special["<|startofprev|>"],
            "return_timestamps": False,
            **(multilingual if tokens.languages else {"is_multilingual": False}),
            **shared,
        },
    )
    seconds = dims["n_audio_ctx"] // 50
    write_json(
        folder / "preprocessor_config.json",
        {
            "chunk_length": seconds,
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": dims["n_mels"],
            "hop_length": 160,
            "n_fft": 400,
            "n_samples": seconds * 16000,
            "nb_max_frames": seconds * 100,
            "padding_side": "right",
            "padding_value": 0.0,
            "processor_class": "WhisperProcessor",
            "return_attention_mask": False,
            "sampling_rate": 16000,
        },
    )


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
