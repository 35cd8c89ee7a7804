"""Writes small random Whisper checkpoints in Hub layout, with numpy and nothing else.

They hold every file of the official repositories (weights, configuration, tokenizer in both formats), so that
transformers and max-whisper read the same folder. The weights are random but lively: attention is sharp enough to
depend on the audio, greedy decoding gives a varied sequence, and the embeddings of special tokens are small, so that
end-of-text does not win and a request for N tokens gives N tokens. Numbers come from `numpy.random.default_rng(seed)`
in a fixed order, independent of the stored dtype: the same arguments give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support.models.small import TOKENS, dims_of
from support.models.vocabulary import Vocabulary, make_tokens, write_json, write_tokenizer

EMBEDDING = "model.decoder.embed_tokens.weight"
SPACE = 220
# The single-character symbols among Whisper's non-speech tokens; ids of bytes are the same in every GPT-2 vocabulary.
SYMBOLS = [1, 2, 7, 8, 9, 10, 14, 25, 26, 27, 28, 29, 31, 58, 59, 60, 61, 62, 63, 90, 91, 92, 93]
DTYPES = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}

Weights = dict[str, np.ndarray]


def write_checkpoint(
    folder: Path,
    *,
    family: str = "multilingual",
    seed: int = 0,
    change: Callable[[Weights], None] = lambda weights: None,
    dtype: str = "float32",
    shards: int = 1,
    activation: str = "gelu",
    **dims: int,
) -> Path:
    """Writes a checkpoint for the spec that `small.write_spec` writes for the same `dims`; returns `folder`.

    Args:
        folder: The folder to write, which need not exist.
        family: The vocabulary: "multilingual", "english" (no languages, no filler token) or "v3" (one language more,
            and `<|nospeech|>` for `<|nocaptions|>`). Where `n_vocab` is larger, config.json says that it is padded.
        seed: Another seed gives other weights.
        change: A function that alters the tensors in place.
        dtype: The dtype of the stored tensors.
        shards: In how many files the tensors are.
        activation: A name of transformers' activations.
        dims: Dimensions in place of those of `small.SMALL`; see `small.dims_of`.
    """
    sizes, tokens = dims_of(family, **dims), make_tokens(family)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, tokens)
    write_configuration(folder, sizes, tokens, dtype, activation)
    weights = make_weights(sizes, tokens.special["<|endoftext|>"], seed)
    change(weights)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", weights, dtype)
    else:
        write_shards(folder, weights, dtype, shards)
    return folder


def end_soon(weights: Weights) -> None:
    """Lets end-of-text win now and then, as a `change` of `write_checkpoint`."""
    weights[EMBEDDING][TOKENS.special["<|endoftext|>"]] *= 40


# --- weights


def make_weights(dims: dict[str, int], first_special: int, seed: int) -> Weights:
    """Returns every tensor of the model, float32, under its Hugging Face name."""
    rng = np.random.default_rng(seed)
    d, ffn = dims["d_model"], dims["d_ffn"]
    weights: Weights = {}

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
    normal(EMBEDDING, (dims["n_vocab"], d), max(0.05, d**-0.5))
    weights[EMBEDDING][first_special:] *= 0.1
    normal("model.decoder.embed_positions.weight", (dims["n_text_ctx"], d), 0.3)
    for i in range(dims["decoder_layers"]):
        attention(f"model.decoder.layers.{i}.self_attn")
        attention(f"model.decoder.layers.{i}.encoder_attn")
        feed_forward(f"model.decoder.layers.{i}")
    layernorm("model.decoder.layer_norm")
    return weights


def sinusoids(length: int, channels: int) -> np.ndarray:
    """Returns Whisper's fixed encoder positions, float32 [length, channels]: sines, then cosines."""
    half = channels // 2
    rates = np.exp(-np.log(10000.0) * np.arange(half) / (half - 1))
    angles = np.outer(np.arange(length), rates)
    return np.hstack([np.sin(angles), np.cos(angles)]).astype(np.float32)


def encode_array(array: np.ndarray, dtype: str) -> bytes:
    """Returns the little-endian bytes of a float32 array in another dtype; bfloat16 is rounded to nearest even."""
    if dtype != "bfloat16":
        return array.astype(dtype).tobytes()
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def write_safetensors(path: Path, weights: Weights, dtype: str) -> None:
    """Writes a safetensors file without the package's own writer: the header's length, the header, the bytes."""
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


def write_shards(folder: Path, weights: Weights, dtype: str, shards: int) -> None:
    """Writes the tensors to several files, and the index that says which file holds what."""
    names = list(weights)
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for i, file in enumerate(files):
        write_safetensors(folder / file, {name: weights[name] for name in names[i::shards]}, dtype)
    total = sum(array.size for array in weights.values()) * DTYPES[dtype][1]
    weight_map = {name: files[i % shards] for i, name in enumerate(names)}
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


# --- configuration


def write_configuration(folder: Path, dims: dict[str, int], tokens: Vocabulary, dtype: str, activation: str) -> None:
    """Writes config.json, generation_config.json and preprocessor_config.json, complete enough for transformers."""
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
