"""The token loops, which choose the most probable token or a sample, one after the other, for all rows of a batch.

There are two loops with the same results. `generate` leaves the choice to the compiled graphs, so that each step gives
one number for each row; it takes rules that have a compiled form. `generate_on_host` takes any rules: it copies the
logits to the host, applies the rules there and chooses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from max_whisper.errors import Cancelled
from max_whisper.runtime.decoding.cancelling import Stop, never, raise_if_stopped
from max_whisper.runtime.decoding.decoder import LOGPROB, NO_SPEECH, TOKEN, CrossKV, Decoder, Hypothesis
from max_whisper.runtime.decoding.rule import CompiledForm, Floats, History, LogitRule, processed


class Sampler:
    """Makes random noise, to be added to logits so that the argmax of the sum is a sample (Gumbel, 1954).

    The noise is the same for all rows of a batch, so that the text of a window does not depend on its row.
    """

    def __init__(self, temperature: float, rng: np.random.Generator) -> None:
        """temperature: above 0. rng: the source of the random numbers."""
        self._temperature = np.float32(temperature)
        self._rng = rng

    def noise(self, n_vocab: int) -> Floats:
        """Returns the noise of the next token, the temperature times Gumbel noise: float32 [n_vocab]."""
        row = self._rng.standard_exponential(n_vocab, np.float32)
        noise: Floats = -self._temperature * np.log(np.maximum(row, np.finfo(np.float32).tiny))
        return noise


def generate(
    decoder: Decoder,
    cross_kv: CrossKV,
    prompts: Sequence[Sequence[int]],
    *,
    sot_index: int,
    max_new_tokens: int,
    form: CompiledForm,
    sampler: Sampler | None = None,
    stop: Stop = never,
) -> list[Hypothesis]:
    """Returns at most `max_new_tokens` tokens that follow each of several prompts of the same length.

    As in openai/whisper, the last token may be behind the end of the text context, because it is not read again. The
    loop ends when every row has chosen end-of-text.

    sot_index: the index of start-of-transcript in the prompts. form: the active rules. sampler: the source of noise, or
    None to take the most probable tokens. stop: called before each token; Cancelled is raised when it returns True.
    """
    raise_if_stopped(stop)
    execute, eot, read, n_vocab, ranges = decoder.step.execute, decoder.eot, decoder.read, decoder.n_vocab, form.ranges
    state = [*decoder.new_caches(), *cross_kv]
    rows, length = len(prompts), len(prompts[0])
    bounds = decoder.bounds([ranges.bounds(())] * decoder.batch) if ranges else decoder.no_bounds
    noise = decoder.noise(sampler.noise(n_vocab)) if sampler else decoder.no_noise
    first, later = decoder.mask(form.suppressed_first), decoder.mask(form.suppressed_later)
    outputs = decoder.prefill(prompts, sot_index, state, mask=first, bounds=bounds, noise=noise)
    no_speech_probs = read(outputs[NO_SPEECH], rows)
    last = read(outputs[TOKEN], rows)
    # After a step, the CPU's caches hold no Python, which is slow then: this loop does as little as possible.
    steps, logprobs = [last], [outputs[LOGPROB]]
    begin, within_text = ranges.timestamp_begin if ranges else 0, False
    ended = {row for row in range(rows) if last[row] == eot}
    for position in decoder.positions[length : min(length + max_new_tokens - 1, decoder.n_text_ctx)]:
        if len(ended) == rows:
            break
        if stop():
            raise Cancelled
        if ranges is not None:
            was_within_text, within_text = within_text, max(last) < begin
            if not (was_within_text and within_text):
                unused = [ranges.bounds(())] * (decoder.batch - rows)
                bounds = decoder.bounds([*map(ranges.bounds, zip(*steps, strict=True)), *unused])
        if sampler is not None:
            noise = decoder.noise(sampler.noise(n_vocab))
        outputs = execute(outputs[TOKEN], position, later, bounds, noise, *state)
        last = read(outputs[TOKEN], rows)
        steps.append(last)
        logprobs.append(outputs[LOGPROB])
        if eot in last:
            ended.update(row for row in range(rows) if last[row] == eot)
    columns = zip(*(read(buffer, rows) for buffer in logprobs), strict=True)
    return [_cut(*row, eot) for row in zip(zip(*steps, strict=True), columns, no_speech_probs, strict=True)]


def generate_on_host(
    decoder: Decoder,
    cross_kv: CrossKV,
    histories: Sequence[History],
    *,
    sot_index: int,
    max_new_tokens: int,
    rules: Sequence[LogitRule],
    sampler: Sampler | None = None,
    stop: Stop = never,
) -> list[Hypothesis]:
    """Returns the same as `generate`, for rules of any kind.

    histories: that of each row, with nothing sampled yet; prompt and prefix together have the same length in all rows.
    rules: the active rules in the order in which they are applied. The other arguments are those of `generate`.
    """
    eot, caches = decoder.eot, decoder.new_caches()
    tokens = [[*history.prompt, *history.prefix] for history in histories]
    sampled: list[list[int]] = [[] for _ in histories]
    texts = [History(row.prompt, row.prefix, text) for row, text in zip(histories, sampled, strict=True)]
    logprobs: list[list[float]] = [[] for _ in histories]
    no_speech_probs: list[float] = []
    position = 0
    for step in range(max_new_tokens):
        raise_if_stopped(stop)
        logits, no_speech = decoder.next_logits(tokens, position, 0 if step else sot_index, caches, cross_kv)
        no_speech_probs = no_speech_probs or no_speech
        noise = sampler.noise(decoder.n_vocab) if sampler else None
        for i, text in enumerate(texts):
            ended = sampled[i][-1:] == [eot]
            token, logprob = (eot, 0.0) if ended else choose(processed(rules, logits[i], text), noise)
            sampled[i].append(token)
            logprobs[i].append(logprob)
        position += len(tokens[0])
        tokens = [[row[-1]] for row in sampled]
        if position >= decoder.n_text_ctx or all(row[-1] == eot for row in sampled):
            break
    return [_cut(*row, eot) for row in zip(sampled, logprobs, no_speech_probs, strict=True)]


def choose(scores: Floats, noise: Floats | None) -> tuple[int, float]:
    """Returns the argmax of scores [n_vocab], or of their sum with noise, and its log-probability without noise.

    It does the same as the graphs (lowering/backends/max_selection.py).
    """
    token = int((scores if noise is None else scores + noise).argmax())
    best = scores.max()
    return token, float(scores[token] - best - np.log(np.exp(scores - best).sum()))


def _cut(tokens: Sequence[int], logprobs: Sequence[float], no_speech_prob: float, eot: int) -> Hypothesis:
    """Returns the tokens before end-of-text, and the sum of their log-probabilities and its own."""
    length = tokens.index(eot) if eot in tokens else len(tokens)
    return Hypothesis([*tokens[:length]], sum(logprobs[: length + 1]), no_speech_prob)
