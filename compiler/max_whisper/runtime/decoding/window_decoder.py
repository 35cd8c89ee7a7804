"""Decodes the text of windows as their options say: prompts, samples or beams, the choice of the best, explanations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.errors import UserError
from max_whisper.runtime.decoding.beam import search
from max_whisper.runtime.decoding.cancelling import Stop, never
from max_whisper.runtime.decoding.decoder import CrossKV, Decoder, Hypothesis
from max_whisper.runtime.decoding.drafts import Draft, generate_from_draft
from max_whisper.runtime.decoding.explanation import SAMPLE, SEARCH, TIE, overrides
from max_whisper.runtime.decoding.greedy import Sampler, generate, generate_on_host
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.ranking import compression_ratio, rank
from max_whisper.runtime.decoding.rule import History, LogitRule, active_rules, compiled_form
from max_whisper.runtime.decoding.token_logprobs import chosen_logprobs
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.results import DecodingResult, Override


class WindowDecoder:
    """Decodes at most as many windows at once as the artifact has rows in a batch."""

    def __init__(self, decoder: Decoder, manifest: WhisperManifest, tokenizer: Tokenizer) -> None:
        """Takes the decoder, the manifest and the tokenizer of one artifact."""
        self._decoder = decoder
        self._manifest = manifest
        self._tokenizer = tokenizer

    def decode(
        self,
        cross_kv: CrossKV,
        languages: Sequence[str],
        options: Sequence[DecodingOptions],
        *,
        stop: Stop = never,
    ) -> list[DecodingResult]:
        """Returns the text of each window, the best of its samples or beams.

        languages, options: those of each window. The options may differ only in language and prompt, and the prompts
        must have the same number of tokens. stop: called before each token. Raises Cancelled when it returns True, and
        UserError for features whose logits are not finite.
        """
        shared = options[0]
        windows = [self._history(language, option) for language, option in zip(languages, options, strict=True)]
        histories, sot_index = [history for history, _ in windows], windows[0][1]
        candidates = list(self._candidates(cross_kv, histories, sot_index, shared, stop))
        results = []
        for row, language in enumerate(languages):
            best = max(
                (candidate[row] for candidate in candidates),
                key=lambda candidate: rank(candidate.sum_logprob, len(candidate.tokens), shared.length_penalty),
            )
            if math.isnan(best.sum_logprob):
                raise UserError(
                    "features: the decoder gave logits that are not finite; expected what `encode` returned"
                )
            text = self._tokenizer.decode(best.tokens).strip()
            average = best.sum_logprob / (len(best.tokens) + 1)
            ratio = compression_ratio(text)
            results.append(
                DecodingResult(language, best.tokens, text, average, best.no_speech_prob, shared.temperature, ratio)
            )
        return results

    def explain(
        self, cross_kv: CrossKV, results: Sequence[DecodingResult], options: Sequence[DecodingOptions]
    ) -> list[list[Override]]:
        """Returns, for each window, the steps at which the decoder did not choose the argmax token, and why.

        results: the results of the windows with these options, which may differ from window to window. This takes one
        more pass of the decoder for all windows.
        """
        return [
            overrides(
                logits,
                tokens,
                rules=self._rules(option),
                history=history,
                otherwise=SAMPLE if option.temperature > 0 else SEARCH if option.beam_size is not None else TIE,
            )
            for (logits, tokens, history), option in zip(self._forced(cross_kv, results, options), options, strict=True)
        ]

    def logprobs(
        self, cross_kv: CrossKV, results: Sequence[DecodingResult], options: Sequence[DecodingOptions]
    ) -> list[list[float]]:
        """Returns, for each window, the log-probability of each chosen token, end-of-text among them if the text ended.

        Their mean is the result's `avg_logprob` then. Arguments and cost are those of `explain`.
        """
        return [
            chosen_logprobs(logits, tokens, rules=self._rules(option), history=history)
            for (logits, tokens, history), option in zip(self._forced(cross_kv, results, options), options, strict=True)
        ]

    def _forced(
        self, cross_kv: CrossKV, results: Sequence[DecodingResult], options: Sequence[DecodingOptions]
    ) -> Iterator[tuple[NDArray[np.float32], list[int], History]]:
        """Yields, for each window, the logits [steps, n_vocab] before any rule, the chosen tokens, and the history."""
        histories = [self._history(result.language, option)[0] for result, option in zip(results, options, strict=True)]
        prompts = [[*history.prompt, *history.prefix] for history in histories]
        chosen = [self._chosen(*window) for window in zip(prompts, results, options, strict=True)]
        rows = [[*prompt, *tokens[:-1]] for prompt, tokens in zip(prompts, chosen, strict=True)]
        longest = max(map(len, rows))
        # The decoder is causal, so that what stands behind a row's end does not change the logits before it.
        logits = self._decoder.logits(cross_kv, [row + [0] * (longest - len(row)) for row in rows])
        for row_logits, prompt, tokens, history in zip(logits, prompts, chosen, histories, strict=True):
            yield row_logits[len(prompt) - 1 :][: len(tokens)], tokens, history

    def _chosen(self, prompt: Sequence[int], result: DecodingResult, options: DecodingOptions) -> list[int]:
        """Returns the tokens that the decoder chose for one window, end-of-text among them if the text ended."""
        most = min(options.limit(self._manifest), self._manifest.dims["n_text_ctx"] + 1 - len(prompt))
        return [*result.tokens, self._manifest.tokens.eot] if len(result.tokens) < most else result.tokens

    def _candidates(
        self,
        cross_kv: CrossKV,
        histories: Sequence[History],
        sot_index: int,
        options: DecodingOptions,
        stop: Stop,
    ) -> Iterator[list[Hypothesis]]:
        """Yields, several times, a text for each window: beams of one window, or samples of all of them."""
        decoder, rules, most = self._decoder, self._rules(options), options.limit(self._manifest)
        if options.beam_size is not None:
            (history,) = histories
            beams = search(
                decoder,
                cross_kv,
                history,
                sot_index=sot_index,
                max_new_tokens=most,
                rules=rules,
                beam_size=options.beam_size,
                finished_beams=options.finished_beams,
                stop=stop,
            )
            yield from ([beam] for beam in beams)
            return
        form, samplers = compiled_form(rules), _samplers(options)
        if form is None:
            for sampler in samplers or (None,):
                yield generate_on_host(
                    decoder,
                    cross_kv,
                    histories,
                    sot_index=sot_index,
                    max_new_tokens=most,
                    rules=rules,
                    sampler=sampler,
                    stop=stop,
                )
            return
        prompts = [[*history.prompt, *history.prefix] for history in histories]
        if options.draft is not None:
            (prompt,), draft = prompts, options.draft_tokens(self._tokenizer)
            follow = Draft(draft, self._manifest.tokens.timestamp_begin)
            yield [
                generate_from_draft(
                    decoder,
                    cross_kv,
                    prompt,
                    follow,
                    sot_index=sot_index,
                    max_new_tokens=most,
                    form=form,
                    stop=stop,
                )
            ]
            return
        for first in range(0, max(1, len(samplers)), decoder.most_texts):
            group = samplers[first : first + decoder.most_texts]
            texts = generate(
                decoder,
                cross_kv,
                prompts,
                sot_index=sot_index,
                max_new_tokens=most,
                form=form,
                samplers=group,
                stop=stop,
            )
            size = max(1, len(group))
            yield from (texts[sample::size] for sample in range(size))

    def _history(self, language: str | None, options: DecodingOptions) -> tuple[History, int]:
        """Returns what the decoder reads of one window before its first token, and the index of start-of-transcript."""
        tokens, sot_index = options.prompt_tokens(language, self._manifest, self._tokenizer)
        prefix = len(tokens) - len(options.prefix_tokens(self._manifest, self._tokenizer))
        return History(tokens[:prefix], tokens[prefix:]), sot_index

    def _rules(self, options: DecodingOptions) -> list[LogitRule]:
        """Returns the rules that the options turn on."""
        return active_rules(options, self._manifest, self._tokenizer)


def _samplers(options: DecodingOptions) -> list[Sampler]:
    """Returns the source of noise of each sample; none at temperature 0."""
    if options.temperature == 0:  # numpy's random numbers, whose import takes 6 ms, are not needed
        return []
    numbers = ([options.seed, sample] for sample in range(options.best_of or 1))
    return [Sampler(options.temperature, np.random.default_rng(seed)) for seed in numbers]
