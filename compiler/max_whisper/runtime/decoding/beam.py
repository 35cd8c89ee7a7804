"""Beam search over the compiled decoder (openai/whisper, decoding.py: BeamSearchDecoder)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from max.driver import Buffer

from max_whisper.runtime.decoding.cancelling import Stop, never, raise_if_stopped
from max_whisper.runtime.decoding.decoder import CrossKV, Decoder, Hypothesis
from max_whisper.runtime.decoding.rule import Floats, History, LogitRule, processed


@dataclass(frozen=True)
class Beam:
    """A text that has not ended.

    Attributes:
        tokens: The tokens that were chosen.
        sum_logprob: The sum of their log-probabilities.
        caches: The self-attention KV cache of all of them but the last.
    """

    tokens: list[int]
    sum_logprob: np.float32
    caches: list[Buffer]


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
    beams, rows = [Beam([], np.float32(0), caches)], [logits[0]]
    finished: dict[tuple[int, ...], float] = {}
    for step in range(max_new_tokens):
        scores: dict[tuple[int, ...], np.float32] = {}
        sources: dict[tuple[int, ...], int] = {}
        for i, (beam, row) in enumerate(zip(beams, rows, strict=True)):
            logprobs = log_softmax(processed(rules, row, replace(history, sampled=beam.tokens)))
            for token in np.argsort(-logprobs, kind="stable")[: beam_size + 1].tolist():
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
        reused: set[int] = set()  # beams whose caches one text took over already, so that the next one needs copies
        following = []
        for text in going_on:
            source = sources[text]
            kv = beams[source].caches
            following.append(Beam([*text], scores[text], [b.copy() for b in kv] if source in reused else kv))
            reused.add(source)
        beams = following
        position = len(prompt) + step
        if len(finished) >= finished_beams or position >= decoder.n_text_ctx or step == max_new_tokens - 1:
            break
        raise_if_stopped(stop)
        rows = [decoder.next_logits([beam.tokens[-1:]], position, 0, beam.caches, cross_kv)[0][0] for beam in beams]
    for beam in sorted(beams, key=lambda beam: beam.sum_logprob, reverse=True):
        if len(finished) >= beam_size:
            break
        unended = (*beam.tokens, eot)
        finished[unended] = float(beam.sum_logprob)
    return [Hypothesis(list(text[:-1]), score, no_speech_prob) for text, score in finished.items()]


def log_softmax(scores: Floats) -> Floats:
    """Returns the log-probabilities of scores [n_vocab]."""
    shifted = scores - scores.max()
    result: Floats = shifted - np.log(np.exp(shifted).sum(dtype=np.float32))
    return result
