"""The decoding rules in float64, one after the other, as openai/whisper and CTranslate2 write them: loops and ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from max_whisper import Model
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.rules import timestamps as parts


@dataclass(frozen=True)
class Restated:
    """The rules that options turn on for a model.

    penalty: 1 is off. size: of n-grams; 0 is off. first, always: ids that are masked at the first step, and at each.
    max_initial: the latest first timestamp; None decodes without timestamps.
    """

    penalty: float
    size: int
    first: Sequence[int]
    always: Sequence[int]
    max_initial: int | None
    eot: int
    notimestamps: int
    begin: int
    end: int

    @classmethod
    def of(cls, model: Model, options: DecodingOptions) -> Restated:
        tokens = model.manifest.tokens
        given = [*map(int, options.suppress_tokens or ())]
        always = {*(tokens.suppress if -1 in given else []), *(i for i in given if i >= 0)}
        if given:
            always |= {tokens.transcribe, tokens.translate, tokens.sot, tokens.startofprev, tokens.startoflm}
            always |= {tokens.nospeech}
        latest = options.max_initial_timestamp
        initial = tokens.max_initial_timestamp if latest is None else round(latest / 0.02)
        return cls(
            options.repetition_penalty,
            options.no_repeat_ngram_size,
            tokens.begin_suppress if options.suppress_blank else [],
            [*always],
            None if options.without_timestamps else initial,
            tokens.eot,
            tokens.notimestamps,
            tokens.timestamp_begin,
            tokens.timestamp_begin + tokens.n_timestamps,
        )

    def __call__(
        self, logits: np.ndarray, sampled: Sequence[int], prefix: Sequence[int] = ()
    ) -> tuple[np.ndarray, str]:
        """Returns scores [n_vocab], and the rule that took the lead from the largest logit; "" if none did."""
        argmax, scores = int(logits.argmax()), logits.astype(np.float64)
        masked: list[str] = []
        passed: list[str] = []

        def mask(reason: str, *ids: int | slice) -> None:
            for i in ids:
                scores[i] = -np.inf
            if np.isneginf(scores[argmax]):
                masked.append(reason)

        text = [*prefix, *sampled]
        if self.penalty != 1:
            for token in {*text}:
                raw = float(np.float32(logits[token]))
                scores[token] = np.float32(raw * self.penalty if raw < 0 else raw / self.penalty)
            seen = "the text has the token already" if argmax in text else "another token was raised"
            passed.append(f"repetition_penalty: {seen}")
        if self.size and len(text) >= self.size:
            last = text[len(text) - self.size + 1 :]
            banned = []
            for start in range(len(text) - self.size + 1):
                run = text[start : start + self.size]
                if run[:-1] == last:
                    banned.append(run[-1])
            what = "the token" if self.size == 1 else f"these {self.size} tokens"
            mask(f"no_repeat_ngram_size: the text has {what} already", *banned)
        if not sampled:
            mask("suppress_blank: the first token is no blank and no end", *self.first)
        mask("suppress_tokens", *self.always)
        if self.max_initial is not None:
            self._timestamps(scores, sampled, mask)
        if scores.argmax() == argmax:
            return scores, ""
        return scores, [*masked, *passed, ""][0]

    def _timestamps(self, scores: np.ndarray, sampled: Sequence[int], mask: Callable[..., None]) -> None:
        begin = self.begin

        def of(part: str, *ids: int | slice) -> None:
            mask(f"timestamps: {part}", *ids)

        of(parts.NO_NOTIMESTAMPS, self.notimestamps)
        of(parts.NO_TOKEN, slice(self.end, None))
        last_was = bool(sampled) and sampled[-1] >= begin
        penultimate_was = len(sampled) < 2 or sampled[-2] >= begin
        if last_was:
            of(parts.PAIRS, slice(begin, None) if penultimate_was else slice(self.eot))
        if found := [token for token in sampled if token >= begin]:
            of(parts.NEVER_BACK, slice(begin, found[-1] + (0 if last_was and not penultimate_was else 1)))
        if not sampled:
            of(parts.FIRST, slice(begin))
            of(parts.MAX_INITIAL, slice(begin + self.max_initial + 1, None))
        if np.logaddexp.reduce(scores[begin:]) > scores[:begin].max():
            of(parts.TOGETHER, slice(begin))
