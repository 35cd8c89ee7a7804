"""The token loops, which choose the most probable token or a sample, one after the other, for all rows of a batch.

There are two loops with the same results. `generate` leaves the choice to the compiled graphs, so that each step gives
one number for each row; it takes rules that have a compiled form. `generate_on_host` takes any rules: it copies the
logits to the host, applies the rules there and chooses. (`drafts.py` has a third one, for a text that is likely.)
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

    The noise is the same for all windows of a batch, so that the text of a window does not depend on its row.
    """

    def __init__(self, temperature: float, rng: np.random.Generator) -> None:
        """temperature: above 0. rng: the source of the random numbers."""
        self._temperature = np.float32(temperature)
        self._rng = rng

    def write(self, noise: Floats) -> None:
        """Writes the noise of the next token, the temperature times Gumbel noise, to float32 [n_vocab]."""
        self._rng.standard_exponential(dtype=np.float32, out=noise)
        np.maximum(noise, np.finfo(np.float32).tiny, out=noise)
        np.log(noise, out=noise)
        noise *= -self._temperature


def generate(
    decoder: Decoder,
    cross_kv: CrossKV,
    prompts: Sequence[Sequence[int]],
    *,
    sot_index: int,
    max_new_tokens: int,
    form: CompiledForm,
    samplers: Sequence[Sampler] = (),
    stop: Stop = never,
) -> list[Hypothesis]:
    """Returns at most `max_new_tokens` tokens that follow each of several prompts of the same length.

    As in openai/whisper, the last token may be behind the end of the text context, because it is not read again. The
    loop ends when every row has chosen end-of-text.

    sot_index: the index of start-of-transcript in the prompts. form: the active rules. samplers: the sources of noise,
    one for each text that is sampled of a window, at most `decoder.most_texts`; the texts of a window follow each
    other. Without them, the most probable tokens are taken. stop: called before each token; Cancelled is raised when it
    returns True.
    """
    raise_if_stopped(stop)
    execute, eot, read, ranges = decoder.step.execute, decoder.eot, decoder.read, form.ranges
    samples, length = max(1, len(samplers)), len(prompts[0])
    rows, texts = len(prompts) * samples, decoder.batch * samples
    begin = ranges.bounds(()) if ranges else decoder.no_bounds
    first, later = decoder.mask(form.suppressed_first), decoder.mask(form.suppressed_later)
    bounds, noise = decoder.bounds([[begin]] * decoder.batch), decoder.no_noise(decoder.batch, 1)
    state = [*decoder.new_caches(), *cross_kv]
    outputs = decoder.prefill(prompts, sot_index, state, mask=first, bounds=bounds, noise=noise)
    no_speech = outputs[NO_SPEECH]
    if samplers:
        # The prompt's last token once more: each text chooses its first token by its own noise. One sample does so as
        # well, because the last bits of a prompt of many rows may differ from those of a step.
        numbers = np.empty((decoder.batch, samples, 1, decoder.n_vocab), np.float32)
        bounds, noise = decoder.bounds([[begin]] * texts), decoder.noise(_written(numbers, samplers))
        state = [*decoder.repeated(state[: -len(cross_kv)], samples, length), *cross_kv]
        tokens = decoder.tokens([[prompt[-1]] for prompt in prompts for _ in samplers] + [[0]] * (texts - rows))
        outputs = execute(tokens, decoder.positions[length - 1], first, bounds, noise, *state)
    no_speech_probs = [one for one in read(no_speech, len(prompts)) for _ in range(samples)]
    last = read(outputs[TOKEN], rows)
    # After a step, the CPU's caches hold no Python, which is slow then: this loop does as little as possible.
    steps, logprobs = [last], [outputs[LOGPROB]]
    timestamp_begin, within_text = ranges.timestamp_begin if ranges else 0, False
    ended = {row for row in range(rows) if last[row] == eot}
    for position in decoder.positions[length : min(length + max_new_tokens - 1, decoder.n_text_ctx)]:
        if len(ended) == rows:
            break
        if stop():
            raise Cancelled
        if ranges is not None:
            was_within_text, within_text = within_text, max(last) < timestamp_begin
            if not (was_within_text and within_text):
                unused = [[ranges.bounds(())]] * (texts - rows)
                bounds = decoder.bounds([*([ranges.bounds(text)] for text in zip(*steps, strict=True)), *unused])
        if samplers:
            noise = decoder.noise(_written(numbers, samplers))
        outputs = execute(outputs[TOKEN], position, later, bounds, noise, *state)
        last = read(outputs[TOKEN], rows)
        steps.append(last)
        logprobs.append(outputs[LOGPROB])
        if eot in last:
            ended.update(row for row in range(rows) if last[row] == eot)
    columns = zip(*(read(buffer, rows) for buffer in logprobs), strict=True)
    return [cut(*row, eot) for row in zip(zip(*steps, strict=True), columns, no_speech_probs, strict=True)]


def _written(noise: Floats, samplers: Sequence[Sampler]) -> Floats:
    """Writes the noise of the next token of each text to [windows, samples, 1, n_vocab]; returns [texts, 1, n_vocab].

    The same memory is written for each token, because new memory takes as long as the random numbers.
    """
    for sampler, row in zip(samplers, noise[0, :, 0], strict=True):
        sampler.write(row)
    noise[1:] = noise[0]
    return noise.reshape(-1, *noise.shape[2:])


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
    noise = np.empty(decoder.n_vocab, np.float32) if sampler else None
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
        if sampler is not None and noise is not None:
            sampler.write(noise)
        for i, text in enumerate(texts):
            ended = sampled[i][-1:] == [eot]
            token, logprob = (eot, 0.0) if ended else choose(processed(rules, logits[i], text), noise)
            sampled[i].append(token)
            logprobs[i].append(logprob)
        position += len(tokens[0])
        tokens = [[row[-1]] for row in sampled]
        if position >= decoder.n_text_ctx or all(row[-1] == eot for row in sampled):
            break
    return [cut(*row, eot) for row in zip(sampled, logprobs, no_speech_probs, strict=True)]


def choose(scores: Floats, noise: Floats | None) -> tuple[int, float]:
    """Returns the argmax of scores [n_vocab], or of their sum with noise, and its log-probability without noise.

    It does the same as the graphs (lowering/backends/max_selection.py).
    """
    token = int((scores if noise is None else scores + noise).argmax())
    best = scores.max()
    return token, float(scores[token] - best - np.log(np.exp(scores - best).sum()))


def cut(tokens: Sequence[int], logprobs: Sequence[float], no_speech_prob: float, eot: int) -> Hypothesis:
    """Returns the tokens before end-of-text, and the sum of their log-probabilities and its own."""
    length = tokens.index(eot) if eot in tokens else len(tokens)
    return Hypothesis([*tokens[:length]], sum(logprobs[: length + 1]), no_speech_prob)
