"""The token loop over the compiled decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from max.driver import CPU, Buffer, Device
from max.dtype import DType
from numpy.typing import ArrayLike, NDArray

from max_whisper.artifact.load import Artifact
from max_whisper.errors import Cancelled
from max_whisper.runtime.decoding.cancelling import Stop, check, never
from max_whisper.runtime.decoding.rules import Allowed, TimestampRules, everything, mask_of

KEPT_MASKS = 8  # a transcription has two
CrossKV = list[Buffer]  # keys and values of each cross-attention in turn
TOKEN, LOGPROB, NO_SPEECH, LOGITS, QUERIES = range(5)  # outputs of the graph, of QUERIES one for each aligned layer


@dataclass(frozen=True)
class Sampled:
    """What the decoder wrote for one window."""

    tokens: list[int]  # without prompt and end-of-text
    sum_logprob: float  # of the tokens and of end-of-text, if it came
    no_speech_prob: float  # after start-of-transcript


class Decoder:
    """Steps through tokens. Caches belong to the call, so that calls from several threads do not meet."""

    def __init__(self, artifact: Artifact) -> None:
        manifest, device = artifact.manifest, artifact.device
        n_vocab = manifest.dims["n_vocab"]
        self._graph = artifact.graphs["decoder"]
        self._step = artifact.graphs["step"]
        self._cross_kv = artifact.graphs["cross_kv"]
        self._alignment = artifact.graphs["alignment"]
        self._aligned_layers = sorted({layer for layer, _ in manifest.plan.alignment_heads})
        self._device = device
        self._host = CPU()
        self._on_host = device.is_host
        self.eot = manifest.tokens.eot
        self.n_text_ctx = manifest.dims["n_text_ctx"]
        self._batch = manifest.plan.batch
        self._n_vocab = n_vocab
        self._caches = [port.shape for port in manifest.graphs["decoder"].inputs if port.name.startswith("self_")]
        self._positions = [Buffer.scalar(i, DType.int64, self._host) for i in range(self.n_text_ctx)]
        self._nospeech = Buffer.scalar(manifest.tokens.nospeech, DType.int64, self._host)
        self._masks = lru_cache(KEPT_MASKS)(lambda suppressed: mask_on(device, suppressed, n_vocab))
        self._no_mask = self.mask([])
        self._no_noise = self._on_device(np.zeros((self._batch, self._n_vocab), np.float32))
        self._everything = self._ranges([everything(self._n_vocab)] * self._batch)

    def cross_kv(self, features: Buffer) -> CrossKV:
        """Keys and values of features [batch, n_audio_ctx, d_model], computed once per window."""
        cross_kv: CrossKV = self._cross_kv.execute(features)
        return cross_kv

    def mask(self, suppressed: Sequence[int]) -> Buffer:
        """Returns the mask of some tokens for `generate`, which does not choose them: float32 [n_vocab], on the device.

        The last few masks are kept there: a transcription asks for the same two in every window.
        """
        return self._masks(tuple(suppressed))

    def teacher_forced(self, cross_kv: CrossKV, tokens: Buffer) -> list[Buffer]:
        """All that the graph gives for tokens [batch, length] from position 0 on, logits for each of them."""
        return self._unselected(tokens, 0, 0, self.new_caches(), cross_kv)

    def logits(self, cross_kv: CrossKV, tokens: ArrayLike) -> NDArray[np.float32]:
        """Returns float32 [rows, length, n_vocab] after each of tokens [rows, length], at most as many as the batch."""
        rows = np.asarray(tokens, np.int64)
        logits: NDArray[np.float32] = self.teacher_forced(cross_kv, self._padded(rows))[LOGITS].to_numpy()[: len(rows)]
        return logits

    def alignment(self, cross_kv: CrossKV, tokens: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Teacher forced: logits [batch, length, n_vocab] for tokens [rows, length], and what the alignment heads see.

        The latter is float32 [batch, heads, length, n_audio_ctx], queries times keys before the softmax.
        """
        outputs = self.teacher_forced(cross_kv, self._padded(np.asarray(tokens, np.int64)))
        queries = outputs[QUERIES : QUERIES + len(self._aligned_layers)]
        scores = self._alignment.execute(*queries, *(cross_kv[2 * layer] for layer in self._aligned_layers))
        return outputs[LOGITS].to_numpy(), np.concatenate([layer.to_numpy() for layer in scores], axis=1)

    def scores(
        self, tokens: Sequence[int], position: int, logits_from: int, caches: list[Buffer], cross_kv: CrossKV
    ) -> tuple[NDArray[np.float32], float]:
        """Logits, float32 [n_vocab], after the last of some tokens of one window, which stand from `position` on.

        And the probability of no-speech after the token `logits_from`. The tokens are put into the caches.
        """
        rows = self._on_device(np.array([tokens], np.int64))
        outputs = self._unselected(rows, position, logits_from, caches, cross_kv)
        return outputs[LOGITS].to_numpy()[0, -1], float(outputs[NO_SPEECH].to_numpy()[0, 0])

    def _unselected(
        self, tokens: Buffer, position: int, logits_from: int, caches: list[Buffer], cross_kv: CrossKV
    ) -> list[Buffer]:
        """The graph's outputs where no token is to be chosen."""
        places = (self._positions[position], self._positions[logits_from], self._nospeech)
        selection = (self._no_mask, self._everything, self._no_noise)
        outputs: list[Buffer] = self._graph.execute(tokens, *places, *selection, *caches, *cross_kv)
        return outputs

    def generate(
        self,
        cross_kv: CrossKV,
        prompts: Sequence[Sequence[int]],
        *,
        sot_index: int,
        max_new_tokens: int,
        masks: tuple[Buffer, Buffer],
        rules: TimestampRules | None = None,
        temperature: float = 0.0,
        rng: np.random.Generator | None = None,
        stop: Stop = never,
    ) -> list[Sampled]:
        """Returns what follows each of some prompts of one length: at most `max_new_tokens` tokens.

        As in openai/whisper the last token may stand behind the text context, as it is not read again. Stops when every
        row has chosen end-of-text.

        sot_index: the index of start-of-transcript in the prompts. masks: for the first token and for the later ones.
        rules: of timestamps; None for text alone. temperature: 0 takes the token of the largest logit, more samples
        with random numbers of `rng`. stop: called before each token; Cancelled is raised when it returns True.
        """
        check(stop)
        execute, positions, eot = self._step.execute, self._positions, self.eot
        state = [*self.new_caches(), *cross_kv]
        rows, length = len(prompts), len(prompts[0])
        ranges = self._ranges([rules.first() if rules else everything(self._n_vocab)] * self._batch)
        noise = self._noise(temperature, rng)
        places = (positions[0], positions[sot_index], self._nospeech)
        tokens = self._padded(np.array(prompts, np.int64))
        outputs = self._graph.execute(tokens, *places, masks[0], ranges, noise, *state)
        no_speech_probs = self._read(outputs[NO_SPEECH], rows)
        last = self._read(outputs[TOKEN], rows)
        # After a step the CPU's caches are empty, and Python is slow: as little as can be is done in this loop.
        steps, scores = [last], [outputs[LOGPROB]]
        begin, within_text = rules.tokens.timestamp_begin if rules else 0, False
        ended = {row for row in range(rows) if last[row] == eot}
        for position in positions[length : min(length + max_new_tokens - 1, self.n_text_ctx)]:
            if len(ended) == rows:
                break
            if stop():
                raise Cancelled
            if rules is not None:
                was_within_text, within_text = within_text, max(last) < begin
                if not (was_within_text and within_text):
                    now = [*map(rules.after, zip(*steps, strict=True)), *[rules.first()] * (self._batch - rows)]
                    ranges = self._ranges(now)
            if temperature > 0:
                noise = self._noise(temperature, rng)
            outputs = execute(outputs[TOKEN], position, masks[1], ranges, noise, *state)
            last = self._read(outputs[TOKEN], rows)
            steps.append(last)
            scores.append(outputs[LOGPROB])
            if eot in last:
                ended.update(row for row in range(rows) if last[row] == eot)
        logprobs = zip(*(self._read(buffer, rows) for buffer in scores), strict=True)
        return [self._cut(*row) for row in zip(zip(*steps, strict=True), logprobs, no_speech_probs, strict=True)]

    def _cut(self, tokens: Sequence[int], logprobs: Sequence[float], no_speech_prob: float) -> Sampled:
        """The tokens before end-of-text, and the sum of their log-probabilities and its own."""
        length = tokens.index(self.eot) if self.eot in tokens else len(tokens)
        return Sampled([*tokens[:length]], sum(logprobs[: length + 1]), no_speech_prob)

    def _noise(self, temperature: float, rng: np.random.Generator | None) -> Buffer:
        """Temperature times Gumbel noise, [batch, n_vocab]: the largest score plus noise is a sample.

        The rows are equal, so that what a window gives does not depend on its row.
        """
        if temperature == 0:
            return self._no_noise
        assert rng is not None
        row = rng.standard_exponential(self._n_vocab, np.float32)
        gumbel = -np.float32(temperature) * np.log(np.maximum(row, np.finfo(np.float32).tiny))
        return self._on_device(np.tile(gumbel, (self._batch, 1)))

    def _ranges(self, allowed: Sequence[Allowed]) -> Buffer:
        return self._on_device(np.array(allowed, np.int64))

    def new_caches(self) -> list[Buffer]:
        """With anything in them: what the graph reads it has written before.

        `Buffer.zeros` fills them in the background, which with several threads may be after the graph has begun.
        """
        return [Buffer(DType.float32, shape, self._device) for shape in self._caches]

    def _read(self, column: Buffer, rows: int) -> list[Any]:
        """Returns the first `rows` elements of a column [batch, 1], after one copy to the host if it is not there.

        Element by element takes 10 µs between two steps, to_numpy 70; from a GPU's memory each would be a copy.
        """
        if not self._on_host:
            column = column.to(self._host)
        return [column.item()] if column.num_elements == 1 else [column[row, 0].item() for row in range(rows)]

    def _padded(self, rows: NDArray[np.int64]) -> Buffer:
        """Returns token ids [rows, length] on the device, filled up with rows of zeros to [batch, length]."""
        return self._on_device(np.pad(rows, ((0, self._batch - len(rows)), (0, 0))))

    def _on_device(self, array: NDArray[np.float32] | NDArray[np.int64]) -> Buffer:
        return Buffer.from_numpy(array).to(self._device)


def mask_on(device: Device, suppressed: Sequence[int], n_vocab: int) -> Buffer:
    """Returns the mask of some tokens (`mask_of`) in a device's memory."""
    return Buffer.from_numpy(mask_of(suppressed, n_vocab)).to(device)
