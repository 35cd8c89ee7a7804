"""Calls the compiled graphs of the decoder, and makes the buffers that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from max.driver import CPU, Buffer, Device
from max.dtype import DType
from numpy.typing import ArrayLike, NDArray

from max_whisper.artifact.load import WhisperArtifact
from max_whisper.runtime.decoding.rule import Bounds

KEPT_MASKS = 8
"""The number of masks that are kept on the device; a transcription uses two."""
CrossKV = list[Buffer]
"""The keys and the values of each cross-attention layer in turn, each followed by its scales in int8."""
TOKEN, LOGPROB, NO_SPEECH, LOGITS, QUERIES = range(5)
"""The indexes of the graph's outputs. From QUERIES on, there is one for each layer that has alignment heads."""


@dataclass(frozen=True)
class Hypothesis:
    """A text that the decoder may have found for one window.

    Attributes:
        tokens: The tokens that were chosen, without prompt and end-of-text.
        sum_logprob: The sum of the log-probabilities of the tokens, and of end-of-text if it came.
        no_speech_prob: The probability of the no-speech token after start-of-transcript.
    """

    tokens: list[int]
    sum_logprob: float
    no_speech_prob: float


class Decoder:
    """The graphs of the decoder. The caller keeps the KV caches, so that several threads can use one decoder."""

    def __init__(self, artifact: WhisperArtifact) -> None:
        """Makes the buffers that every call takes."""
        manifest, device = artifact.manifest, artifact.device
        self.eot = manifest.tokens.eot
        self.n_text_ctx = manifest.dims["n_text_ctx"]
        self.n_vocab = n_vocab = manifest.dims["n_vocab"]
        self.batch = manifest.plan.batch
        self._graph = artifact.graphs["decoder"]
        self._cross_kv = artifact.graphs["cross_kv"]
        self._alignment = artifact.graphs["alignment"]
        self._aligned_layers = sorted({layer for layer, _ in manifest.plan.alignment_heads})
        self._alignment_inputs = {port.name for port in manifest.graphs["alignment"].inputs}
        self._cross_names = [port.name for port in manifest.graphs["cross_kv"].outputs]
        self._device = device
        self._host = CPU()
        self._on_host = device.is_host
        self._caches = [port.shape for port in manifest.graphs["decoder"].inputs if port.name.startswith("self_")]
        self._nospeech = Buffer.scalar(manifest.tokens.nospeech, DType.int64, self._host)
        self._masks = lru_cache(KEPT_MASKS)(lambda suppressed: mask_on(device, suppressed, n_vocab))
        self.step = artifact.graphs["step"]
        """The graph of one token: `token, position, mask, bounds, noise, *caches, *cross_kv` -> TOKEN, LOGPROB."""
        self.positions = [Buffer.scalar(i, DType.int64, self._host) for i in range(self.n_text_ctx)]
        """Each position of the text context, as the graphs take it."""
        self.no_mask = self.mask([])
        self.no_noise = self._on_device(np.zeros((self.batch, n_vocab), np.float32))
        self.no_bounds = self.bounds([(0, n_vocab, n_vocab, n_vocab)] * self.batch)  # all is text, and may follow

    def cross_kv(self, features: Buffer) -> CrossKV:
        """Returns the keys and values of features [batch, n_audio_ctx, d_model], which are computed once per window."""
        cross_kv: CrossKV = self._cross_kv.execute(features)
        return cross_kv

    def new_caches(self) -> list[Buffer]:
        """Returns uninitialized KV caches of the self-attention layers: a graph reads only what was written before.

        `Buffer.zeros` would fill them in the background, with several threads perhaps after the graph has begun.
        """
        return [Buffer(DType.float32, shape, self._device) for shape in self._caches]

    def mask(self, suppressed: Sequence[int]) -> Buffer:
        """Returns the mask that keeps the graphs from choosing the suppressed tokens, float32 [n_vocab] on the device.

        The last KEPT_MASKS masks are kept there: a transcription asks for the same two in every window.
        """
        return self._masks(tuple(suppressed))

    def bounds(self, rows: Sequence[Bounds]) -> Buffer:
        """Returns the bounds of each row of the batch on the device."""
        return self._on_device(np.array(rows, np.int64))

    def noise(self, row: NDArray[np.float32]) -> Buffer:
        """Returns noise [n_vocab] on the device, the same for all rows of the batch."""
        return self._on_device(np.tile(row, (self.batch, 1)))

    def prefill(
        self,
        prompts: Sequence[Sequence[int]],
        logits_from: int,
        state: Sequence[Buffer],
        *,
        mask: Buffer,
        bounds: Buffer,
        noise: Buffer,
    ) -> list[Buffer]:
        """Returns the graph's outputs for prompts of one length, after which it has chosen the first token.

        logits_from: the index of the token after which the no-speech probability is taken, start-of-transcript. state:
        caches, into which the prompts are written, and the cross-attention KV cache.
        """
        tokens = self._padded(np.array(prompts, np.int64))
        positions = (self.positions[0], self.positions[logits_from], self._nospeech)
        outputs: list[Buffer] = self._graph.execute(tokens, *positions, mask, bounds, noise, *state)
        return outputs

    def next_logits(
        self,
        tokens: Sequence[Sequence[int]],
        position: int,
        logits_from: int,
        caches: list[Buffer],
        cross_kv: CrossKV,
    ) -> tuple[NDArray[np.float32], list[float]]:
        """Returns the logits [rows, n_vocab] of the token after tokens [rows, length], and the no-speech probabilities.

        position: the position of the first of the tokens, which are written into the caches. logits_from: the index of
        the token after which the no-speech probability is taken.
        """
        padded = self._padded(np.array(tokens, np.int64))
        outputs = self._unselected(padded, position, logits_from, caches, cross_kv)
        rows = len(tokens)
        return outputs[LOGITS].to_numpy()[:rows, -1], self.read(outputs[NO_SPEECH], rows)

    def teacher_forced(self, cross_kv: CrossKV, tokens: Buffer) -> list[Buffer]:
        """Returns all outputs of the graph for tokens [batch, length] from position 0 on, logits for each of them."""
        return self._unselected(tokens, 0, 0, self.new_caches(), cross_kv)

    def logits(self, cross_kv: CrossKV, tokens: ArrayLike) -> NDArray[np.float32]:
        """Returns the logits after each of tokens [rows, length], float32 [rows, length, n_vocab], rows <= batch."""
        rows = np.asarray(tokens, np.int64)
        logits: NDArray[np.float32] = self.teacher_forced(cross_kv, self._padded(rows))[LOGITS].to_numpy()[: len(rows)]
        return logits

    def alignment(self, cross_kv: CrossKV, tokens: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns logits [batch, length, n_vocab] of tokens [rows, length], and the scores of the alignment heads.

        The scores are float32 [batch, heads, length, n_audio_ctx], queries times keys before the softmax.
        """
        outputs = self.teacher_forced(cross_kv, self._padded(np.asarray(tokens, np.int64)))
        queries = outputs[QUERIES : QUERIES + len(self._aligned_layers)]
        keys = [
            buffer for name, buffer in zip(self._cross_names, cross_kv, strict=True) if name in self._alignment_inputs
        ]
        scores = self._alignment.execute(*queries, *keys)
        return outputs[LOGITS].to_numpy(), np.concatenate([layer.to_numpy() for layer in scores], axis=1)

    def read(self, column: Buffer, rows: int) -> list[Any]:
        """Returns the first `rows` elements of a column [batch, 1], which is copied to the host at once if needed.

        Reading them one by one takes 10 µs between two steps, `to_numpy` 70 µs.
        """
        if not self._on_host:
            column = column.to(self._host)
        return [column.item()] if column.num_elements == 1 else [column[row, 0].item() for row in range(rows)]

    def _unselected(
        self, tokens: Buffer, position: int, logits_from: int, caches: list[Buffer], cross_kv: CrossKV
    ) -> list[Buffer]:
        """Returns the graph's outputs for callers that do not use the token that it chooses."""
        positions = (self.positions[position], self.positions[logits_from], self._nospeech)
        selection = (self.no_mask, self.no_bounds, self.no_noise)
        outputs: list[Buffer] = self._graph.execute(tokens, *positions, *selection, *caches, *cross_kv)
        return outputs

    def _padded(self, rows: NDArray[np.int64]) -> Buffer:
        """Returns token ids [rows, length] on the device, filled up with rows of zeros to [batch, length]."""
        return self._on_device(padded(rows, self.batch))

    def _on_device(self, array: NDArray[np.float32] | NDArray[np.int64]) -> Buffer:
        """Returns a copy of an array in the device's memory."""
        return Buffer.from_numpy(array).to(self._device)


def padded(rows: NDArray[Any], length: int) -> NDArray[Any]:
    """Returns a copy of rows with rows of zeros behind them, `length` in all; `numpy.pad` takes 20 times as long."""
    result = np.zeros((length, *rows.shape[1:]), rows.dtype)
    result[: len(rows)] = rows
    return result


def mask_on(device: Device, suppressed: Sequence[int], n_vocab: int) -> Buffer:
    """Returns float32 [n_vocab] in a device's memory, to be added to logits: -inf for suppressed ids, 0 for others."""
    mask = np.zeros(n_vocab, np.float32)
    mask[list(suppressed)] = -np.inf
    return Buffer.from_numpy(mask).to(device)
