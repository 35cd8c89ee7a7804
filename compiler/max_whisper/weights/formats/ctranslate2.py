"""The format of CTranslate2, which faster-whisper reads: a folder with model.bin, config.json and a vocabulary."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from max_whisper.errors import WeightsError
from max_whisper.files import is_folder, is_there, read_all
from max_whisper.messages import quote
from max_whisper.spec import Spec
from max_whisper.tensors.cast import to_float32
from max_whisper.tensors.dtypes import FLOAT32, INT8, Dtype
from max_whisper.weights.alignment import AlignmentHeads, choose_heads
from max_whisper.weights.byte_level_bpe import TokenFiles, is_special
from max_whisper.weights.conventions import whisper_tokens
from max_whisper.weights.file_kinds import is_lfs_pointer
from max_whisper.weights.formats.ctranslate2_file import Variable, read_model, spec_name
from max_whisper.weights.hub_files import (
    CONFIGURATION,
    CT2_VOCABULARIES,
    CT2_WEIGHTS,
    INDEX,
    PREPROCESSOR,
    WEIGHTS,
    FileFinder,
)
from max_whisper.weights.json_files import (
    MAX_BYTES,
    Configuration,
    Count,
    FeatureExtractor,
    GenerationConfiguration,
    TokenIds,
    read_json,
)
from max_whisper.weights.names import CTRANSLATE2
from max_whisper.weights.source import Claim, SourceTensor, TensorSource, register
from max_whisper.weights.vocabulary import N_TIMESTAMPS, TIMESTAMP, Vocabulary, assemble, check_ids

SPEC, REVISION = "WhisperSpec", 3
"""The spec of Whisper models, and its revision since CTranslate2 3.5 (January 2023)."""
PARTS = {("self_attention", "linear_0"): ("query", "key", "value"), ("attention", "linear_1"): ("key", "value")}
"""The projections that one matrix holds, one above the other."""
ACTIVATIONS = {0: "relu", 1: "gelu_new", 2: "silu", 3: "gelu"}
"""The names that config.json of transformers has for CTranslate2's activations (its `common_spec.Activation`)."""
SETTINGS = {
    *("encoder/num_heads", "decoder/num_heads", "decoder/activation"),
    *("decoder/alignment_layer", "decoder/alignment_heads"),  # which CTranslate2 does not use for Whisper
}
"""The settings of a Whisper model that have several values."""
SUPPRESSED = "the suppressed tokens are openai/whisper's, as the CTranslate2 model lists none"


class CT2Configuration(msgspec.Struct, frozen=True):
    """The fields of config.json."""

    suppress_ids: TokenIds = UNSET
    suppress_ids_begin: TokenIds = UNSET
    alignment_heads: list[tuple[Count, Count]] | None = None


@dataclass(frozen=True)
class Tensor:
    """A tensor, which is a variable or some rows of one.

    Attributes:
        dtype: The dtype that `read` returns.
        array: The elements as they are stored.
        scale: What the rows of a quantized tensor were multiplied with: float32 [rows], or one number for all.
    """

    dtype: Dtype
    array: NDArray[Any]
    scale: NDArray[np.float32] | None = None

    def rows(self, start: int, end: int) -> Tensor:
        """Returns some rows of the tensor."""
        scale = self.scale if self.scale is None or self.scale.ndim == 0 else self.scale[start:end]
        return Tensor(self.dtype, self.array[start:end], scale)

    def read(self) -> NDArray[Any]:
        """Returns the elements, dequantized as CTranslate2 does: multiplied with the reciprocal of the scale."""
        if self.scale is None:
            return self.array
        with np.errstate(all="ignore"):  # a scale may be anything; the checkpoint refuses what is not finite
            reciprocal = np.float32(1) / self.scale
            if self.scale.ndim:
                reciprocal = reciprocal.reshape(-1, *[1] * (self.array.ndim - 1))
            elements: NDArray[np.float32] = self.array.astype(np.float32)
            elements *= reciprocal
        return elements


@register("ctranslate2")
class CTranslate2(TensorSource):
    """The tensors of a CTranslate2 model: a folder, or its model.bin."""

    renames = CTRANSLATE2
    vocabularies = CT2_VOCABULARIES

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path / CT2_WEIGHTS if is_folder(path) else path
        model = read_model(self._file)
        if model.spec != SPEC:
            raise WeightsError(
                f"{self._file} is a CTranslate2 model of the kind {quote(model.spec)}: expected a Whisper model "
                f"({SPEC}), such as those of faster-whisper"
            )
        if model.revision != REVISION:
            raise WeightsError(
                f"{self._file} has revision {model.revision} of {SPEC}, expected {REVISION}: convert the model again, "
                "with CTranslate2 3.5 to 4.8"
            )
        variables = model.variables
        scales = {f"{n}_scale" for n, v in variables.items() if v.dtype.numpy.kind == "i" and v.array.ndim}
        plain = {name: variable for name, variable in variables.items() if name not in scales}
        self._settings = {name: value.array.item() for name, value in plain.items() if value.array.ndim == 0}
        self._check_settings()
        self._tensors = dict(self._split(plain, variables))

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        if not is_folder(path):
            return spec_name(path) is not None
        if is_there(path / WEIGHTS) or is_there(path / INDEX):
            return False
        return spec_name(path / CT2_WEIGHTS) is not None or is_lfs_pointer(path / CT2_WEIGHTS)

    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def info(self, name: str) -> SourceTensor:
        tensor = self._tensors[name]
        return SourceTensor(tensor.dtype, tensor.array.shape, self._file)

    def read(self, name: str) -> NDArray[Any]:
        return self._tensors[name].read()

    def vocabulary(self, file: FileFinder, n_vocab: int) -> Vocabulary:
        path = _vocabulary_file(file)
        if path is None:  # that of the spec's own source, in the layout of the Hub
            return super().vocabulary(file, n_vocab)
        names, configuration = _read_names(path), _read_configuration(file)
        if len(names) != n_vocab:
            raise WeightsError(
                f"{path}: the vocabulary has {len(names)} tokens, but the model has {n_vocab}: "
                "the spec, the weights and the vocabulary are not of the same model"
            )
        files = _token_files(names, path)
        suppress, begin_suppress = configuration.suppress_ids, configuration.suppress_ids_begin
        eot = files.special.get("<|endoftext|>")
        check_ids(f"{CONFIGURATION}: suppress_ids", suppress or [], n_vocab, without=eot)
        check_ids(f"{CONFIGURATION}: suppress_ids_begin", begin_suppress or [], n_vocab)
        vocabulary = assemble(
            files,
            GenerationConfiguration(suppress_tokens=suppress or [], begin_suppress_tokens=begin_suppress or []),
            Configuration(vocab_size=n_vocab),
            n_vocab,
        )
        if suppress is not UNSET and begin_suppress is not UNSET:
            return vocabulary
        rules = whisper_tokens(vocabulary.ranks, len(files.text) + len(files.special))
        tokens = msgspec.structs.replace(
            vocabulary.tokens, suppress=rules.suppress, begin_suppress=rules.begin_suppress
        )
        return replace(vocabulary, tokens=tokens, origin=SUPPRESSED)

    def alignment_heads(self, file: FileFinder, spec: Spec) -> AlignmentHeads:
        if _vocabulary_file(file) is None:
            return super().alignment_heads(file, spec)
        listed = _read_configuration(file).alignment_heads or []
        return choose_heads(listed, [layer.heads for layer in spec.cross_attentions()], spec.n_vocab)

    def claims(self) -> Iterator[Claim]:
        activation = self._settings.get("decoder/activation", 3)
        embedding = self._tensors.get("decoder/embeddings/weight")
        n_vocab, d_model = embedding.array.shape if embedding and embedding.array.ndim == 2 else (None, None)
        yield (
            self._file,
            Configuration(
                d_model=d_model,
                encoder_layers=self._layers("encoder"),
                decoder_layers=self._layers("decoder"),
                vocab_size=n_vocab,
                encoder_attention_heads=self._settings.get("encoder/num_heads"),
                decoder_attention_heads=self._settings.get("decoder/num_heads"),
                activation_function=ACTIVATIONS.get(activation, f"number {activation}"),
            ),
        )
        if (path := self.file(PREPROCESSOR)) is not None:
            yield path, read_json(path, FeatureExtractor)

    def _layers(self, part: str) -> int:
        """Returns the number of layers of the encoder or the decoder."""
        return len({name.split("/")[1] for name in self._tensors if name.startswith(f"{part}/layer_")} - {"layer_norm"})

    def _check_settings(self) -> None:
        """Raises WeightsError for a setting that Whisper does not have, such as rotary positions."""
        for name, value in self._settings.items():
            expected = 1 if name == "decoder/pre_norm" else 0
            if value != expected and name not in SETTINGS:
                raise self._error(f"the setting {quote(name)} is {value}, expected {expected}: it is no Whisper model")

    def _split(self, plain: dict[str, Variable], variables: dict[str, Variable]) -> Iterator[tuple[str, Tensor]]:
        """Yields the tensors by name; a bias of keys that is zero is left out, as Whisper has none.

        `plain` are the variables that are no scales of others.
        """
        for name, variable in plain.items():
            if variable.array.ndim == 0:
                continue
            tensor = self._tensor(name, variable, variables.get(f"{name}_scale"))
            *_, block, matrix, field = ["", "", *name.split("/")]
            parts = PARTS.get((block, matrix))
            if parts is None:
                yield name, tensor
                continue
            rows, rest = divmod(len(tensor.array), len(parts))
            if rest:
                raise self._error(
                    f"{quote(name)} has {len(tensor.array)} rows, which {' and '.join(parts)} cannot share"
                )
            for i, part in enumerate(parts):
                own = tensor.rows(i * rows, (i + 1) * rows)
                if (part, field) != ("key", "bias") or np.any(to_float32(own.read(), own.dtype)):
                    yield f"{name.removesuffix(field)[:-1]}[{part}]/{field}", own

    def _tensor(self, name: str, variable: Variable, scale: Variable | None) -> Tensor:
        """Returns a tensor; raises WeightsError for a quantized one without the right scales."""
        if variable.dtype.numpy.kind != "i":
            return Tensor(variable.dtype, variable.array)
        expected = (len(variable.array),) if variable.dtype == INT8 else ()
        if scale is None or (scale.dtype, scale.array.shape) != (FLOAT32, expected):
            found = "no scales" if scale is None else f"scales of {scale.dtype.name} {list(scale.array.shape)}"
            raise self._error(
                f"{quote(name)} is {variable.dtype.name} with {found}, expected float32 {list(expected)}: get it again"
            )
        return Tensor(FLOAT32, variable.array, scale.array)

    def _error(self, fault: str) -> WeightsError:
        return WeightsError(f"{self._file}: {fault}")


def _vocabulary_file(file: FileFinder) -> Path | None:
    """Returns the path of the vocabulary."""
    return next((path for name in CT2_VOCABULARIES if (path := file(name)) is not None), None)


def _read_configuration(file: FileFinder) -> CT2Configuration:
    """Returns the content of config.json, or the defaults if the model does not have it."""
    path = file(CONFIGURATION)
    return CT2Configuration() if path is None else read_json(path, CT2Configuration)


def _read_names(path: Path) -> list[str]:
    """Returns the tokens of vocabulary.json, a list, or of vocabulary.txt, which has one on each line."""
    if path.suffix == ".json":
        return read_json(path, list[str])
    try:
        return read_all(path, MAX_BYTES).decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as e:
        raise WeightsError(f"{path} cannot be read: {e}") from e
    except OSError as e:
        raise WeightsError(f"{path} cannot be read: {e.strerror}") from e


def _token_files(names: list[str], path: Path) -> TokenFiles:
    """Returns text tokens and special tokens by id.

    Where a model is padded, CTranslate2's converter goes on with timestamps after the last one: these are left out.
    """
    ids = {name: i for i, name in enumerate(names)}
    if len(ids) < len(names):
        again = next(name for i, name in enumerate(names) if ids[name] != i)
        raise WeightsError(f"{path} has the token {quote(again)} twice: get it again")
    padding = {*[name for name in names if TIMESTAMP.fullmatch(name)][N_TIMESTAMPS:]}
    special = {name: i for name, i in ids.items() if is_special(name) and name not in padding}
    return TokenFiles({name: i for name, i in ids.items() if not is_special(name)}, None, special, path)
