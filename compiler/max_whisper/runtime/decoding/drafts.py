"""A text that is likely, verified several tokens at once: the tokens are those that single steps choose, bit by bit.

A step that reads a few tokens takes hardly longer than one that reads one, because most of its time goes into reading
the weights. So the tokens of a draft are read together, the graph chooses the token after each of them, and those up to
the first that differs from the draft are kept (Leviathan, Kalman, Matias: "Fast inference from transformers via
speculative decoding", 2023; here for the most probable tokens). A wrong draft costs a little time, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from max_whisper.runtime.decoding.cancelling import Stop, never, raise_if_stopped
from max_whisper.runtime.decoding.decoder import LOGPROB, NO_SPEECH, TOKEN, CrossKV, Decoder, Hypothesis
from max_whisper.runtime.decoding.greedy import cut
from max_whisper.runtime.decoding.rule import CompiledForm


class Draft:
    """The tokens of a draft, and the place in it that the chosen tokens have come to.

    Timestamps may stand in the draft, in the chosen tokens, or in both. Where the texts differ, nothing is proposed
    until the last two chosen tokens of text are found in the draft again. From there, as many tokens are proposed as
    were found one after the other, because common pairs of words stand in many places.
    """

    def __init__(self, tokens: Sequence[int], timestamp_begin: int) -> None:
        """tokens: the draft. timestamp_begin: the first id that is a timestamp."""
        self._tokens = tuple(tokens)
        self._timestamp_begin = timestamp_begin
        self._next = 0
        self._found = len(self._tokens)  # the tokens in a row that were in the draft; the beginning is trusted
        self._last: int | None = None  # the last chosen token of text

    def proposed(self, most: int) -> Sequence[int]:
        """Returns at most so many tokens that may come next."""
        return self._tokens[self._next : self._next + min(most, self._found)]

    def follow(self, token: int) -> None:
        """Takes the next chosen token."""
        at = self._next
        if token >= self._timestamp_begin:
            if self._is_timestamp(at):
                self._next += 1
            return
        while self._is_timestamp(at):
            at += 1
        if self._found and self._tokens[at : at + 1] == (token,):
            self._next = at + 1
            self._found += 1
        else:
            places = _after_pairs(self._tokens, self._timestamp_begin).get((self._last, token), ())
            later = [place for place in places if place > self._next]
            self._found = 2 if places else 0
            self._next = min(later or places, default=self._next)
        self._last = token

    def _is_timestamp(self, at: int) -> bool:
        return at < len(self._tokens) and self._tokens[at] >= self._timestamp_begin


@lru_cache(maxsize=4)  # each window has a draft of its own, and often all have the same tokens
def _after_pairs(tokens: tuple[int, ...], timestamp_begin: int) -> dict[tuple[int | None, int], list[int]]:
    """Returns the places behind each pair of neighbors among the tokens of text."""
    text = [at for at, token in enumerate(tokens) if token < timestamp_begin]
    places: dict[tuple[int | None, int], list[int]] = {}
    for one, other in pairwise(text):
        places.setdefault((tokens[one], tokens[other]), []).append(other + 1)
    return places


def generate_from_draft(
    decoder: Decoder,
    cross_kv: CrossKV,
    prompt: Sequence[int],
    draft: Draft,
    *,
    sot_index: int,
    max_new_tokens: int,
    form: CompiledForm,
    stop: Stop = never,
) -> Hypothesis:
    """Returns what `greedy.generate` returns for one prompt without samplers, sooner where the draft is right."""
    raise_if_stopped(stop)
    state = [*decoder.new_caches(), *cross_kv]
    every, later = decoder.no_bounds, decoder.mask(form.suppressed_later)
    outputs = decoder.prefill(
        [prompt],
        sot_index,
        state,
        mask=decoder.mask(form.suppressed_first),
        bounds=decoder.bounds([[form.ranges.bounds(()) if form.ranges else every]]),
        noise=decoder.no_noise(1, 1),
    )
    (no_speech_prob,) = decoder.read(outputs[NO_SPEECH], 1)
    sampled, logprobs = decoder.read(outputs[TOKEN], 1), decoder.read(outputs[LOGPROB], 1)
    draft.follow(sampled[0])
    end = min(len(prompt) + max_new_tokens - 1, decoder.n_text_ctx)
    while decoder.eot not in sampled and (position := len(prompt) + len(sampled) - 1) < end:
        raise_if_stopped(stop)
        proposed = draft.proposed(min(decoder.most_texts, end - position) - 1)
        bounds = [every] * (len(proposed) + 1)
        if form.ranges is not None:
            bounds = [form.ranges.bounds([*sampled, *proposed[:i]]) for i in range(len(proposed) + 1)]
        outputs = decoder.step.execute(
            decoder.tokens([[sampled[-1], *proposed]]),
            decoder.positions[position],
            later,
            decoder.bounds([bounds]),
            decoder.no_noise(1, len(proposed) + 1),
            *state,
        )
        chosen, scores = (outputs[i].to_numpy()[0].tolist() for i in (TOKEN, LOGPROB))
        for i, (token, logprob) in enumerate(zip(chosen, scores, strict=True)):
            sampled.append(token)
            logprobs.append(logprob)
            draft.follow(token)
            if token == decoder.eot or i == len(proposed) or token != proposed[i]:
                break
    return cut(sampled, logprobs, no_speech_prob, decoder.eot)
