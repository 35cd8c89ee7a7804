"""The text of some windows by their options: prompts, samples or beams, the best of them, and why it is as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from max_whisper.artifact.manifest import Manifest
from max_whisper.errors import UserError
from max_whisper.runtime.decoding.beam import search
from max_whisper.runtime.decoding.cancelling import Stop, never
from max_whisper.runtime.decoding.decoder import CrossKV, Decoder, Sampled
from max_whisper.runtime.decoding.explanation import SAMPLE, SEARCH, TIE, overrides
from max_whisper.runtime.decoding.options import TIME_PRECISION, DecodingOptions
from max_whisper.runtime.decoding.ranking import compression_ratio, rank
from max_whisper.runtime.decoding.rules import TimestampRules, mask_of
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.results import DecodingResult, Override


class WindowDecoder:
    """Decodes at most as many windows at once as the artifact has rows."""

    def __init__(self, decoder: Decoder, manifest: Manifest, tokenizer: Tokenizer) -> None:
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

        languages, options: for each window. The options may differ in language and prompt, but not in its length, and
        in nothing else. stop: called before each token. Raises Cancelled when it returns True, and UserError for
        features whose logits are not finite.
        """
        rows = [
            each.prompt_tokens(language, self._manifest, self._tokenizer)
            for each, language in zip(options, languages, strict=True)
        ]
        shared = options[0]
        if shared.beam_size is not None:
            ((prompt, sot_index),) = rows
            candidates = [[text] for text in self._search(cross_kv, prompt, sot_index, shared, stop)]
        else:
            candidates = list(self._samples(cross_kv, rows, shared, stop))
        results = []
        for row, language in enumerate(languages):
            best = max(
                (sample[row] for sample in candidates),
                key=lambda sample: rank(sample.sum_logprob, len(sample.tokens), shared.length_penalty),
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

        results: what came of each window with its options; these may differ in anything. Takes one more pass of the
        decoder for all of them.
        """
        prompts = [
            option.prompt_tokens(result.language, self._manifest, self._tokenizer)[0]
            for result, option in zip(results, options, strict=True)
        ]
        chosen = [self._chosen(*window) for window in zip(prompts, results, options, strict=True)]
        rows = [[*prompt, *tokens[:-1]] for prompt, tokens in zip(prompts, chosen, strict=True)]
        longest = max(map(len, rows))
        # The decoder is causal, so that what stands behind a row's end does not change the logits before it.
        logits = self._decoder.logits(cross_kv, [row + [0] * (longest - len(row)) for row in rows])
        return [
            self._overrides(row_logits[len(prompt) - 1 :][: len(tokens)], tokens, option)
            for row_logits, prompt, tokens, option in zip(logits, prompts, chosen, options, strict=True)
        ]

    def _chosen(self, prompt: Sequence[int], result: DecodingResult, options: DecodingOptions) -> list[int]:
        """Returns the tokens that the decoder chose for one window, end-of-text among them if the text ended."""
        most = min(options.limit(self._manifest), self._manifest.dims["n_text_ctx"] + 1 - len(prompt))
        return [*result.tokens, self._manifest.tokens.eot] if len(result.tokens) < most else result.tokens

    def _overrides(
        self, logits: NDArray[np.float32], tokens: Sequence[int], options: DecodingOptions
    ) -> list[Override]:
        """Returns the overrides of one window. logits: float32 [steps, n_vocab], from which tokens [steps] come."""
        return overrides(
            logits,
            tokens,
            first=self._manifest.tokens.begin_suppress if options.suppress_blank else (),
            always=options.suppressed(self._manifest),
            rules=self._rules(options),
            otherwise=SAMPLE if options.temperature > 0 else SEARCH if options.beam_size is not None else TIE,
        )

    def _samples(
        self, cross_kv: CrossKV, rows: list[tuple[list[int], int]], options: DecodingOptions, stop: Stop
    ) -> Iterator[list[Sampled]]:
        """Yields `best_of` times a text for each window."""
        first, later = (self._decoder.mask(ids) for ids in options.suppressed_first_and_later(self._manifest))
        for sample in range(options.best_of or 1):
            yield self._decoder.generate(
                cross_kv,
                [prompt for prompt, _ in rows],
                sot_index=rows[0][1],
                max_new_tokens=options.limit(self._manifest),
                masks=(first, later),
                rules=self._rules(options),
                temperature=options.temperature,
                # Without samples there are no random numbers, whose import takes 6 ms.
                rng=np.random.default_rng([options.seed, sample]) if options.temperature > 0 else None,
                stop=stop,
            )

    def _search(
        self, cross_kv: CrossKV, prompt: list[int], sot_index: int, options: DecodingOptions, stop: Stop
    ) -> list[Sampled]:
        """Returns the texts that a beam search finds for one window."""
        n_vocab = self._manifest.dims["n_vocab"]
        first, later = (mask_of(ids, n_vocab) for ids in options.suppressed_first_and_later(self._manifest))
        return search(
            self._decoder,
            cross_kv,
            prompt,
            sot_index=sot_index,
            max_new_tokens=options.limit(self._manifest),
            masks=(first, later),
            rules=self._rules(options),
            beam_size=options.beam_size or 1,
            finished_beams=options.finished_beams,
            stop=stop,
        )

    def _rules(self, options: DecodingOptions) -> TimestampRules | None:
        if options.without_timestamps:
            return None
        latest = options.max_initial_timestamp
        tokens = self._manifest.tokens
        return TimestampRules(
            tokens, tokens.max_initial_timestamp if latest is None else round(latest / TIME_PRECISION)
        )
