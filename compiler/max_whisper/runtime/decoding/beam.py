"""Beam search over the compiled decoder (openai/whisper, decoding.py: BeamSearchDecoder)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.runtime.decoding.cancelling import Stop, check, never
from max_whisper.runtime.decoding.decoder import CrossKV, Decoder, Sampled
from max_whisper.runtime.decoding.rules import TimestampRules, everything, filtered

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Beam:
    """A text that is not at its end, and the keys and values of its tokens but the last."""

    tokens: list[int]
    sum_logprob: np.float32
    caches: list[Buffer]


def search(
    decoder: Decoder,
    cross_kv: CrossKV,
    prompt: list[int],
    *,
    sot_index: int,
    max_new_tokens: int,
    masks: tuple[Floats, Floats],
    rules: TimestampRules | None,
    beam_size: int,
    finished_beams: int,
    stop: Stop = never,
) -> list[Sampled]:
    """Returns the most probable texts of one window, each of at most `max_new_tokens` tokens.

    After each token the `beam_size` most probable texts go on; the search ends when `finished_beams` have come to
    end-of-text. prompt, sot_index, max_new_tokens, rules: as for `Decoder.generate`. masks: float32 [n_vocab] of 0 and
    -inf, for the first token and for the later ones. stop: called before each token; Cancelled is raised when it
    returns True.
    """
    check(stop)
    eot = decoder.eot
    caches = decoder.new_caches()
    logits, no_speech_prob = decoder.scores(prompt, 0, sot_index, caches, cross_kv)
    beams = [Beam([], np.float32(0), caches)]
    rows = [logits]
    finished: dict[tuple[int, ...], float] = {}
    for step in range(max_new_tokens):
        scores: dict[tuple[int, ...], np.float32] = {}
        sources: dict[tuple[int, ...], int] = {}
        for i, (beam, row) in enumerate(zip(beams, rows, strict=True)):
            if rules is None:
                allowed = everything(len(row))
            else:
                allowed = rules.after(beam.tokens) if beam.tokens else rules.first()
            logprobs = log_softmax(filtered(row, masks[step > 0], allowed))
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
        taken: set[int] = set()
        following = []
        for text in going_on:
            source = sources[text]
            kept = beams[source].caches
            following.append(Beam([*text], scores[text], [b.copy() for b in kept] if source in taken else kept))
            taken.add(source)
        beams = following
        position = len(prompt) + step
        if len(finished) >= finished_beams or position >= decoder.n_text_ctx or step == max_new_tokens - 1:
            break
        check(stop)
        rows = [decoder.scores(beam.tokens[-1:], position, 0, beam.caches, cross_kv)[0] for beam in beams]
    for beam in sorted(beams, key=lambda beam: beam.sum_logprob, reverse=True):
        if len(finished) >= beam_size:
            break
        unended = (*beam.tokens, eot)
        finished[unended] = float(beam.sum_logprob)
    return [Sampled(list(text[:-1]), score, no_speech_prob) for text, score in finished.items()]


def log_softmax(scores: Floats) -> Floats:
    shifted = scores - scores.max()
    result: Floats = shifted - np.log(np.exp(shifted).sum(dtype=np.float32))
    return result
