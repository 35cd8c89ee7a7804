"""Reads the JSON files of a checkpoint; the classes declare the fields that are read, with their types and ranges.

A file is decoded completely before any of it is used. Fields that are not declared here are skipped, whatever they
hold: checkpoints have dozens that do not matter. null means the same as a missing field, except for the lists of
suppressed tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from max_whisper.errors import WeightsError
from max_whisper.files import read_all
from max_whisper.messages import LONGEST_QUOTE, printable, quote, validation_message

MAX_BYTES = 16 << 20
"""The most bytes of a file; the largest official one, tokenizer.json, has 2.7 MB."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
TokenId = Count
TokenIds = list[TokenId] | None | UnsetType

T = TypeVar("T")


class Configuration(msgspec.Struct, frozen=True):
    """The fields of config.json."""

    model_type: str | None = None
    is_encoder_decoder: bool | None = None
    activation_function: str | None = None
    d_model: Count | None = None
    encoder_layers: Count | None = None
    decoder_layers: Count | None = None
    encoder_attention_heads: Count | None = None
    decoder_attention_heads: Count | None = None
    num_mel_bins: Count | None = None
    max_source_positions: Count | None = None
    max_target_positions: Count | None = None
    vocab_size: Count | None = None
    scale_embedding: bool | None = None
    suppress_tokens: TokenIds = UNSET
    begin_suppress_tokens: TokenIds = UNSET


class OwnFields(msgspec.Struct, frozen=True):
    """The fields of max-whisper in generation_config.json, under the key `max_whisper`.

    Attributes:
        logprob_threshold: See `Tokens.logprob_threshold`. It is not transformers' own key of that name, because with
            that one transformers' `generate` (5.23) fails for models with timestamps.
    """

    logprob_threshold: Annotated[float, msgspec.Meta(le=0)] | None = None


class GenerationConfiguration(msgspec.Struct, frozen=True):
    """The fields of generation_config.json."""

    suppress_tokens: TokenIds = UNSET
    begin_suppress_tokens: TokenIds = UNSET
    max_initial_timestamp_index: Count | None = None
    max_whisper: OwnFields | None = None
    lang_to_id: dict[str, TokenId] | None = None
    is_multilingual: bool | None = None
    eos_token_id: TokenId | list[TokenId] | None = None
    decoder_start_token_id: TokenId | list[TokenId] | None = None
    no_timestamps_token_id: TokenId | list[TokenId] | None = None
    alignment_heads: list[tuple[Count, Count]] | None = None


class FeatureExtractor(msgspec.Struct, frozen=True):
    """The fields of preprocessor_config.json."""

    feature_size: Count | None = None
    sampling_rate: Count | None = None
    hop_length: Count | None = None
    n_fft: Count | None = None


class Processor(msgspec.Struct, frozen=True):
    """The fields of processor_config.json, which newer versions of transformers write instead."""

    feature_extractor: FeatureExtractor | None = None


class TokenizerModel(msgspec.Struct, frozen=True):
    """The field `model` of tokenizer.json; types other than BPE have other vocabularies and merges, or none."""

    type: str | None = None
    vocab: Any = None
    merges: Any = None


class AddedToken(msgspec.Struct, frozen=True):
    """An entry of `added_tokens` of tokenizer.json."""

    id: TokenId
    content: str


class TokenizerFile(msgspec.Struct, frozen=True):
    """The fields of tokenizer.json."""

    model: TokenizerModel | None = None
    added_tokens: list[AddedToken] | None = None


class Index(msgspec.Struct, frozen=True):
    """The fields of model.safetensors.index.json."""

    weight_map: dict[str, Any] | None = None


def read_json(path: Path, kind: type[T]) -> T:
    """Returns the JSON object, or the list, in a file, with its fields checked.

    Args:
        path: The file.
        kind: A class of this module, `dict[str, Any]` for a file whose keys are tokens, or `list[str]`.

    Raises:
        WeightsError: The file cannot be read, or a field has another type or range; the message names both.
    """
    try:
        data = read_all(path, MAX_BYTES)
    except OSError as e:
        raise WeightsError(f"{path} cannot be read: {e.strerror}") from e
    try:
        return msgspec.json.decode(data.decode("utf-8-sig"), type=kind)
    except msgspec.ValidationError as e:
        whole = "list" if kind == list[str] else "object"
        subject = "" if " - at " in str(e) else f"it must hold a JSON {whole}: "
        raise WeightsError(f"{path}: {subject}{validation_message(e)}") from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise WeightsError(f"{path} is no JSON: {e}") from e


def shown(value: Any) -> str:
    """Returns a value of a JSON file as messages show it, cut short if it is long."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return quote(value) if isinstance(value, str) else printable(msgspec.json.encode(value).decode(), LONGEST_QUOTE)
