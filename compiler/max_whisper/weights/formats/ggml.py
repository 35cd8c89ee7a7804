"""The format of whisper.cpp: one file with the model, its text tokens and its mel filters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import WeightsError
from max_whisper.files import is_folder, is_regular, is_there, read_start
from max_whisper.mel_filters import mel_filters
from max_whisper.messages import quote
from max_whisper.spec import Spec
from max_whisper.tensors.dtypes import FLOAT16, FLOAT32
from max_whisper.weights.alignment import AlignmentHeads, choose_heads
from max_whisper.weights.conventions import whisper_tokens
from max_whisper.weights.formats.ggml_file import MAGIC, OTHER_MAGICS, StoredTensor, read_ggml
from max_whisper.weights.formats.ggml_silero import GgmlSilero
from max_whisper.weights.hub_files import INDEX, WEIGHTS, FileFinder
from max_whisper.weights.json_files import Configuration
from max_whisper.weights.names import OPENAI
from max_whisper.weights.source import Claim, SourceTensor, TensorSource, register
from max_whisper.weights.vocabulary import Vocabulary

CONVOLUTION_BIASES = ("encoder.conv1.bias", "encoder.conv2.bias")
"""The tensors that files have as [n, 1] in place of [n]."""
END_OF_TEXT = b"<|endoftext|>"
"""The token that the published English-only files have behind the text tokens, and those made from vocab.json."""
TOKENS_ORIGIN = "special tokens and suppressed tokens are openai/whisper's, as ggml files hold text tokens only"
CORE_ML = "model.mil"
"""The file that a compiled Core ML model has, as whisper.cpp's encoders for Apple's computers are."""
FILTER_TOLERANCE = 1e-6
"""The most by which a mel filter, whose largest weight is 0.026 to 0.042, may differ from the runtime's."""


@register("ggml")
class Ggml(TensorSource):
    """The tensors of a file of whisper.cpp, dequantized to float32 where they are in blocks."""

    renames = OPENAI

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if is_folder(path):
            raise WeightsError(_folder_advice(path))
        self._file = read_ggml(path)
        _check_filters(self._file.mel_filters, path)

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        if is_folder(path):
            is_other = is_there(path / WEIGHTS) or is_there(path / INDEX)
            return not is_other and (is_there(path / CORE_ML) or bool(_models(path)))
        return _is_ggml(path)

    def names(self) -> Collection[str]:
        return self._file.tensors.keys()

    def info(self, name: str) -> SourceTensor:
        tensor = self._file.tensors[name]
        return SourceTensor(FLOAT16 if tensor.type.name == "f16" else FLOAT32, _shape(name, tensor), self.path)

    def read(self, name: str) -> NDArray[Any]:
        tensor = self._file.tensors[name]
        dequantize = tensor.type.dequantize
        with np.errstate(invalid="ignore"):  # infinity * 0: whoever reads a tensor checks its elements
            elements = tensor.data if dequantize is None else dequantize(tensor.data)
        return elements.reshape(_shape(name, tensor))

    def vocabulary(self, file: FileFinder, n_vocab: int) -> Vocabulary:
        ranks = self._file.tokens
        ranks = ranks[:-1] if ranks[-1] == END_OF_TEXT else ranks
        _check_ranks(ranks, self.path)
        try:
            return Vocabulary(ranks, whisper_tokens(ranks, n_vocab), TOKENS_ORIGIN)
        except WeightsError as e:
            raise WeightsError(f"{self.path}: {e}") from e

    def alignment_heads(self, file: FileFinder, spec: Spec) -> AlignmentHeads:
        return choose_heads([], [layer.heads for layer in spec.cross_attentions()], spec.n_vocab)

    def claims(self) -> Iterator[Claim]:
        dims = self._file.dims
        yield (
            self.path,
            Configuration(
                d_model=dims.n_audio_state,
                encoder_layers=dims.n_audio_layer,
                decoder_layers=dims.n_text_layer,
                encoder_attention_heads=dims.n_audio_head,
                decoder_attention_heads=dims.n_text_head,
                num_mel_bins=dims.n_mels,
                max_source_positions=dims.n_audio_ctx,
                max_target_positions=dims.n_text_ctx,
                vocab_size=dims.n_vocab,
            ),
        )


def _is_ggml(path: Path) -> bool:
    """Returns whether a file begins like one of ggml; never raises."""
    try:
        is_ggml = is_regular(path) and read_start(path, len(MAGIC)) in (MAGIC, *OTHER_MAGICS)
    except OSError:
        return False
    return is_ggml and not GgmlSilero.recognizes(path)


def _models(folder: Path) -> list[str]:
    """Returns the names of the ggml files in a folder; never raises."""
    try:
        return sorted(path.name for path in folder.glob("*.bin") if _is_ggml(path))
    except OSError:
        return []


def _folder_advice(folder: Path) -> str:
    """Returns the error message for a folder, as a model is one file."""
    if is_there(folder / CORE_ML):
        return (
            f"{folder} is an encoder for Core ML, half of a model: give the file of the whole, such as ggml-base.en.bin"
        )
    return (
        f"{folder} is a folder with models of whisper.cpp: give one of the files, such as {folder / _models(folder)[0]}"
    )


def _shape(name: str, tensor: StoredTensor) -> tuple[int, ...]:
    """Returns the shape of a tensor as openai/whisper has it."""
    return tensor.shape[:1] if name in CONVOLUTION_BIASES and tensor.shape[1:] == (1,) else tensor.shape


def _check_filters(filters: NDArray[np.float32], path: Path) -> None:
    """Raises WeightsError unless the mel filters are the runtime's: with others the model would hear something else."""
    if not np.allclose(filters, mel_filters(len(filters)), rtol=0, atol=FILTER_TOLERANCE):
        raise WeightsError(
            f"{path}: its mel filters are not those of Whisper (Slaney's, {len(filters)} bands for 16 kHz), which are "
            "computed here: it is damaged, or of another kind of model"
        )


def _check_ranks(ranks: Sequence[bytes], path: Path) -> None:
    """Raises WeightsError unless text tokens are 256 bytes, results of merges in order, and perhaps an empty token.

    That order is all that an encoder knows; the empty token is the last one of multilingual vocabularies.
    """
    if sorted(ranks[:256]) != [bytes([byte]) for byte in range(256)]:
        raise WeightsError(
            f"{path}: text tokens 0 to 255 must be the 256 bytes: it is damaged, of another model, or from before "
            "October 2022, when whisper.cpp wrote some of them wrongly; get the file again"
        )
    known = {*ranks[:256]}
    for i, token in enumerate(ranks[256:], start=256):
        is_merged = any(token[:cut] in known and token[cut:] in known for cut in range(1, len(token)))
        is_filler = token == b"" and i == len(ranks) - 1
        if token in known or not (is_merged or is_filler):
            raise WeightsError(
                f"{path}: text token {i}, {quote(token.decode(errors='replace'))}, is not made of two tokens before "
                "it, or is there twice: it is damaged, or of another model"
            )
        known.add(token)
