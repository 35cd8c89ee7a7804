"""The token loop over the compiled decoder."""

from __future__ import annotations

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from numpy.typing import NDArray

from max_whisper.artifact.load import Artifact

Memory = list[Buffer]  # keys and values of each cross-attention in turn


class Decoder:
    """Steps through tokens. Caches belong to the call, so that calls from several threads do not meet."""

    def __init__(self, artifact: Artifact) -> None:
        manifest = artifact.manifest
        self._graph = artifact.graphs["decoder"]
        self._cross_kv = artifact.graphs["cross_kv"]
        self._device = artifact.device
        self._eot = manifest.tokens.eot
        self._batch = manifest.batch
        self._n_text_ctx = manifest.dims["n_text_ctx"]
        self._caches = [port.shape for port in manifest.graphs["decoder"].inputs if port.name.startswith("self_")]
        self._positions = [Buffer.scalar(i, DType.int64, CPU()) for i in range(self._n_text_ctx)]
        mask = np.zeros(manifest.dims["n_vocab"], np.float32)
        self._no_mask = self._on_device(mask)
        mask[manifest.tokens.suppress] = -np.inf
        self._mask = self._on_device(mask)
        mask[manifest.tokens.begin_suppress] = -np.inf
        self._begin_mask = self._on_device(mask)

    def cross_kv(self, features: Buffer) -> Memory:
        """Keys and values of features [batch, n_audio_ctx, d_model], computed once per window."""
        memory: Memory = self._cross_kv.execute(features)
        return memory

    def teacher_forced(self, memory: Memory, tokens: Buffer) -> list[Buffer]:
        """All that the graph gives for tokens [batch, length] from position 0 on, logits for each of them."""
        start = self._positions[0]
        outputs: list[Buffer] = self._graph.execute(tokens, start, start, self._no_mask, *self._new_caches(), *memory)
        return outputs

    def logits(self, memory: Memory, tokens: Buffer) -> NDArray[np.float32]:
        """Float32 [batch, length, n_vocab] after each of tokens [batch, length]."""
        logits: NDArray[np.float32] = self.teacher_forced(memory, tokens)[2].to_numpy()
        return logits

    def greedy(self, memory: Memory, prompts: Buffer, rows: int, limit: int) -> list[tuple[list[int], float]]:
        """For each of the first `rows` of prompts [batch, length], at most `limit` tokens, and their log-probability.

        Stops when every row has chosen end-of-text. The log-probability is an average over the tokens and
        end-of-text (openai/whisper, decoding.py).
        """
        execute, positions, eot = self._graph.execute, self._positions, self._eot
        state = [*self._new_caches(), *memory]
        length = prompts.shape[1]
        tokens, logprob, _ = execute(prompts, positions[0], positions[length - 1], self._begin_mask, *state)
        chosen = [read(tokens, rows)]
        scores = [logprob]  # read at the end: what runs between two steps finds the CPU's caches empty, and is slow
        unfinished = {row for row in range(rows) if chosen[0][row] != eot}
        for position in positions[length : min(length + limit, self._n_text_ctx) - 1]:
            if not unfinished:
                break
            tokens, logprob, _ = execute(tokens, position, positions[0], self._mask, *state)
            step = read(tokens, rows)
            chosen.append(step)
            scores.append(logprob)
            if eot in step:
                unfinished -= {row for row in range(rows) if step[row] == eot}
        columns = [logprob.to_numpy().ravel().tolist() for logprob in scores]
        return [self._cut([step[row] for step in chosen], [step[row] for step in columns]) for row in range(rows)]

    def _cut(self, tokens: list[int], scores: list[float]) -> tuple[list[int], float]:
        """The tokens before end-of-text, and the average of their log-probabilities and its own."""
        length = tokens.index(self._eot) if self._eot in tokens else len(tokens)
        return tokens[:length], sum(scores[: length + 1]) / (length + 1)

    def _new_caches(self) -> list[Buffer]:
        """With anything in them: what the graph reads it has written before.

        `Buffer.zeros` fills them in the background, which with several threads may be after the graph has begun.
        """
        return [Buffer(DType.float32, shape, self._device) for shape in self._caches]

    def _on_device(self, array: NDArray[np.float32] | NDArray[np.int64]) -> Buffer:
        return Buffer.from_numpy(array.copy()).to(self._device)


def read(tokens: Buffer, rows: int) -> list[int]:
    """The first `rows` of int64 [batch, 1]; element by element, which between two steps takes 10 µs, to_numpy 70."""
    return [tokens.item()] if tokens.num_elements == 1 else [tokens[row, 0].item() for row in range(rows)]
