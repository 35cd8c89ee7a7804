"""Beam search over the compiled decoder (openai/whisper, decoding.py: BeamSearchDecoder)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.runtime.decoding.cancelling import Stop, never, raise_if_stopped
from max_whisper.runtime.decoding.decoder import CrossKV, Decoder, Hypothesis
from max_whisper.runtime.decoding.rule import Floats, History, LogitRule, processed


@dataclass(frozen=True)
class Beam:
    """A text that has not ended.

    Attributes:
        tokens: The tokens that were chosen.
        sum_logprob: The sum of their log-probabilities.
        slot: The place of its self-attention KV cache, which has all of them but the last.
    """

    tokens: list[int]
    sum_logprob: np.float32
    slot: int


class Slots:
    """The self-attention KV caches of all beams, as many in one buffer as a step may take at once."""

    def __init__(self, decoder: Decoder, cross_kv: CrossKV, caches: list[Buffer], beams: int, length: int) -> None:
        """caches: those of the prompt, with `length` positions, which the first beam begins with."""
        self._decoder, self._cross_kv = decoder, cross_kv
        groups = ceil(beams / decoder.most_texts)
        self._size = ceil(beams / groups)
        first = caches if self._size == 1 else decoder.repeated(caches, self._size, length)
        self._groups = [first, *(decoder.new_caches(self._size) for _ in range(1, groups))]

    def next_logits(self, beams: Sequence[Beam], position: int) -> list[NDArray[np.float32]]:
        """Returns the logits [n_vocab] after the last token of each beam, which stands at `position`."""
        tokens = [[0]] * self._size * len(self._groups)  # a slot without a beam computes what nobody reads
        for beam in beams:
            tokens[beam.slot] = beam.tokens[-1:]
        parts = []
        for i, caches in enumerate(self._groups):
            part = tokens[i * self._size : (i + 1) * self._size]
            parts.append(self._decoder.next_logits(part, position, 0, caches, self._cross_kv)[0])
        logits = np.concatenate(parts)
        return [logits[beam.slot] for beam in beams]

    def taken_over(self, sources: Sequence[int], length: int) -> list[int]:
        """Returns a slot for each beam that goes on, given the slot that it goes on from.

        The first beam of several from one slot stays there; for the others, `length` positions are copied to slots that
        no beam goes on from.
        """
        free = [slot for slot in range(self._size * len(self._groups)) if slot not in sources]
        return [
            source if source not in sources[:i] else self._copy(source, free.pop(), length)
            for i, source in enumerate(sources)
        ]

    def _copy(self, source: int, slot: int, length: int) -> int:
        """Copies a cache to another slot, and returns that."""
        (group, row), (other, place) = divmod(source, self._size), divmod(slot, self._size)
        if self._size == 1:  # which may be on a GPU
            self._groups[other] = self._decoder.repeated(self._groups[group], 1, length)
            return slot
        for one, another in zip(self._groups[group], self._groups[other], strict=True):
            another.to_numpy()[place, :, :length] = one.to_numpy()[row, :, :length]
        return slot


def search(
    decoder: Decoder,
    cross_kv: CrossKV,
    history: History,
    *,
    sot_index: int,
    max_new_tokens: int,
    rules: Sequence[LogitRule],
    beam_size: int,
    finished_beams: int,
    stop: Stop = never,
) -> list[Hypothesis]:
    """Returns the most probable texts of one window, each of at most `max_new_tokens` tokens.

    After each token the `beam_size` most probable texts go on; the search ends when `finished_beams` have come to
    end-of-text. The other arguments are those of `greedy.generate_on_host`.
    """
    raise_if_stopped(stop)
    eot, prompt = decoder.eot, [*history.prompt, *history.prefix]
    caches = decoder.new_caches()
    logits, (no_speech_prob,) = decoder.next_logits([prompt], 0, sot_index, caches, cross_kv)
    slots = Slots(decoder, cross_kv, caches, beam_size, len(prompt))
    beams, rows = [Beam([], np.float32(0), 0)], [logits[0]]
    finished: dict[tuple[int, ...], float] = {}
    for step in range(max_new_tokens):
        scores: dict[tuple[int, ...], np.float32] = {}
        sources: dict[tuple[int, ...], int] = {}
        for i, (beam, row) in enumerate(zip(beams, rows, strict=True)):
            logprobs = log_softmax(processed(rules, row, replace(history, sampled=beam.tokens)))
            for token in most_probable(logprobs, beam_size + 1):
                text = (*beam.tokens, token)
                scores[text] = beam.sum_logprob + logprobs[token]
                sources[text] = i
        going_on: list[tuple[int, ...]] = []
        ended: dict[tuple[int, ...], float] = {}
        for text in sorted(scores, key=scores.__getitem__, reverse=True):
            if text[-1] == eot:
                ended[text] = float(scores[text])
            else:
                going_on.append(text)
                if len(going_on) == beam_size:
                    break
        for text, score in ended.items():
            if len(finished) < finished_beams:
                finished[text] = score
        position = len(prompt) + step
        beams = [Beam([*text], scores[text], beams[sources[text]].slot) for text in going_on]
        if len(finished) >= finished_beams or position >= decoder.n_text_ctx or step == max_new_tokens - 1:
            break
        raise_if_stopped(stop)
        places = slots.taken_over([beam.slot for beam in beams], position)
        beams = [replace(beam, slot=slot) for beam, slot in zip(beams, places, strict=True)]
        rows = slots.next_logits(beams, position)
    for beam in sorted(beams, key=lambda beam: beam.sum_logprob, reverse=True):
        if len(finished) >= beam_size:
            break
        unended = (*beam.tokens, eot)
        finished[unended] = float(beam.sum_logprob)
    return [Hypothesis(list(text[:-1]), score, no_speech_prob) for text, score in finished.items()]


def most_probable(logprobs: Floats, most: int) -> list[int]:
    """Returns the most probable tokens by log-probabilities [n_vocab], at most so many; of equal ones the first."""
    most = min(most, len(logprobs))
    least = np.partition(logprobs, -most)[-most]
    tokens = np.flatnonzero(~(logprobs < least))  # NaN among them, so that the whole search ends with NaN
    chosen: list[int] = tokens[np.argsort(-logprobs[tokens], kind="stable")][:most].tolist()
    return chosen


def log_softmax(scores: Floats) -> Floats:
    """Returns the log-probabilities of scores [n_vocab]."""
    shifted = scores - scores.max()
    result: Floats = shifted - np.log(np.exp(shifted).sum(dtype=np.float32))
    return result
