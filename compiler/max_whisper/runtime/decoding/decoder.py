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
KEPT_NOISES = 16
"""The number of arrays without noise that are kept; drafts use one for each number of tokens in a step."""
FEW_ROWS = 7
"""The most tokens of a step whose numbers do not depend on each other in any bit (kernels/float_products.mojo)."""
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
        self._caches = [port.shape[1:] for port in manifest.graphs["decoder"].inputs if port.name.startswith("self_")]
        self._nospeech = Buffer.scalar(manifest.tokens.nospeech, DType.int64, self._host)
        self._masks = lru_cache(KEPT_MASKS)(lambda suppressed: mask_on(device, suppressed, n_vocab))
        self.step = artifact.graphs["step"]
        """The graph of a step: `tokens, position, mask, bounds, noise, *caches, *cross_kv` -> TOKEN, LOGPROB."""
        self.most_texts = max(1, FEW_ROWS // self.batch) if manifest.plan.several_texts else 1
        """The most texts of each window, or the most tokens of each text, that a step may take at once."""
        self.positions = [Buffer.scalar(i, DType.int64, self._host) for i in range(self.n_text_ctx)]
        """Each position of the text context, as the graphs take it."""
        self.no_mask = self.mask([])
        self.no_noise = lru_cache(KEPT_NOISES)(
            lambda texts, length: self.noise(np.zeros((texts, length, n_vocab), np.float32))
        )
        """Returns the noise with which the best tokens are chosen, for so many texts, and so many tokens of each."""
        self.no_bounds: Bounds = (0, n_vocab, n_vocab, n_vocab)
        """The bounds with which every token is text, and may follow."""

    def cross_kv(self, features: Buffer) -> CrossKV:
        """Returns the keys and values of features [batch, n_audio_ctx, d_model], which are computed once per window."""
        cross_kv: CrossKV = self._cross_kv.execute(features)
        return cross_kv

    def new_caches(self, texts: int | None = None) -> list[Buffer]:
        """Returns uninitialized KV caches of the self-attention layers: a graph reads only what was written before.

        texts: the rows of the caches; None for one for each window. `Buffer.zeros` would fill them in the background,
        with several threads perhaps after the graph has begun.
        """
        return [Buffer(DType.float32, (texts or self.batch, *shape), self._device) for shape in self._caches]

    def repeated(self, caches: Sequence[Buffer], texts: int, length: int) -> list[Buffer]:
        """Returns KV caches in which each row of `caches` stands `texts` times, up to the position `length`.

        On a CPU, `Buffer.copy` returns before it has copied, and would overwrite what a step has written meanwhile.
        """
        if not self._on_host:
            assert texts == 1  # there are not several texts of a window
            return [cache.copy() for cache in caches]
        copies = self.new_caches(texts * caches[0].shape[0])
        for cache, copy in zip(caches, copies, strict=True):
            copy.to_numpy()[:, :, :length] = np.repeat(cache.to_numpy()[:, :, :length], texts, axis=0)
        return copies

    def mask(self, suppressed: Sequence[int]) -> Buffer:
        """Returns the mask that keeps the graphs from choosing the suppressed tokens, float32 [n_vocab] on the device.

        The last KEPT_MASKS masks are kept there: a transcription asks for the same two in every window.
        """
        return self._masks(tuple(suppressed))

    def bounds(self, bounds: Sequence[Sequence[Bounds]]) -> Buffer:
        """Returns the bounds of each token of each text on the device."""
        return self._on_device(np.array(bounds, np.int64))

    def noise(self, noise: NDArray[np.float32]) -> Buffer:
        """Returns noise [texts, length, n_vocab] on the device."""
        return self._on_device(noise)

    def tokens(self, tokens: Sequence[Sequence[int]]) -> Buffer:
        """Returns tokens [texts, length] on the device."""
        return self._on_device(np.array(tokens, np.int64))

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

        There may be several rows for each window, at most `most_texts` of them, which follow each other. position: the
        position of the first of the tokens, which are written into the caches. logits_from: the index of the token
        after which the no-speech probability is taken.
        """
        rows = len(tokens)
        given = self._padded(np.array(tokens, np.int64)) if rows < self.batch else self.tokens(tokens)
        outputs = self._unselected(given, position, logits_from, caches, cross_kv)
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
        """Returns the first `rows` elements of a column [texts, 1], which is copied to the host at once if needed.

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
        texts = tokens.shape[0]
        selection = (self.no_mask, self.bounds([[self.no_bounds]] * texts), self.no_noise(texts, 1))
        outputs: list[Buffer] = self._graph.execute(tokens, *positions, *selection, *caches, *cross_kv)
        return outputs

    def _padded(self, rows: NDArray[np.int64]) -> Buffer:
        """Returns token ids [rows, length] on the device, filled up with rows of zeros to [batch, length]."""
        return self._on_device(padded(rows, self.batch))

    def _on_device(self, array: NDArray[np.float32] | NDArray[np.int64]) -> Buffer:
        """Returns an array in the device's memory; on a CPU, that is the array's own."""
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
