"""Which tokens may follow where Whisper writes timestamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from max_whisper.runtime.decoding.rule import Bounds, CompiledForm, Floats, History, LogitRule, register
from max_whisper.tokens import TIME_PRECISION, Tokens

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import WhisperManifest
    from max_whisper.runtime.decoding.options import DecodingOptions
    from max_whisper.runtime.decoding.tokenizer import Tokenizer

NO_NOTIMESTAMPS = "<|notimestamps|> is never written"
NO_TOKEN = "the vocabulary has no such token"
FIRST = "the first token is a timestamp"
MAX_INITIAL = "the first is at most max_initial_timestamp"
PAIRS = "they come in pairs"
NEVER_BACK = "they do not go back, nor stand still"
TOGETHER = "together they are more probable than each text token"


@register("timestamps", order=100)
@dataclass(frozen=True)
class TimestampRules(LogitRule):
    """Keeps timestamps in order (openai/whisper, decoding.py: ApplyTimestampRules), as ranges of token ids.

    Timestamps come in pairs, except directly before end-of-text, and never go back. The first token is a timestamp, of
    at most `max_initial` steps. Where the timestamps together are more probable than the most probable text token, one
    of them is chosen; as this compares scores, the rule must be the last one.
    """

    tokens: Tokens
    max_initial: int

    @classmethod
    def of(cls, options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> TimestampRules | None:
        """Returns the rule unless timestamps are off."""
        if options.without_timestamps:
            return None
        latest, tokens = options.max_initial_timestamp, manifest.tokens
        return cls(tokens, tokens.max_initial_timestamp if latest is None else round(latest / TIME_PRECISION))

    @property
    def timestamp_begin(self) -> int:
        """The first id that is a timestamp."""
        return self.tokens.timestamp_begin

    @cached_property
    def _text_end(self) -> int:
        return self.tokens.notimestamps  # which itself is never chosen

    @cached_property
    def _end(self) -> int:
        return self.tokens.timestamp_begin + self.tokens.n_timestamps

    def bounds(self, sampled: Sequence[int]) -> Bounds:
        """Returns what may follow some sampled tokens; if the last two are text, the same as before the last one."""
        begin, end = self.tokens.timestamp_begin, self._end
        if not sampled:
            return self._text_end, self._text_end, begin, min(begin + self.max_initial + 1, end)
        last = next((token for token in reversed(sampled) if token >= begin), begin - 1)
        if sampled[-1] < begin:  # text
            return 0, self._text_end, last + 1, end
        if len(sampled) == 1 or sampled[-2] >= begin:  # the start of a segment
            return 0, self._text_end, end, end
        return self.tokens.eot, self._text_end, last, end  # the end of a segment

    def apply(self, logits: Floats, history: History) -> None:
        """Masks what is out of bounds, and all text where the timestamps are together more probable."""
        text_from, text_to, timestamps_from, timestamps_to = self.bounds(history.sampled)
        logits[:text_from] = -np.inf
        logits[text_to:timestamps_from] = -np.inf
        logits[timestamps_to:] = -np.inf
        text, timestamps = logits[text_from:text_to], logits[timestamps_from:timestamps_to]
        best = timestamps.max(initial=-np.inf)
        if best > -np.inf and best + np.log(np.exp(timestamps - best).sum()) > text.max(initial=-np.inf):
            text[:] = -np.inf

    def reason(self, token: int, history: History) -> str:
        """Returns the part of the rule that forbids the token."""
        sampled, begin = history.sampled, self.tokens.timestamp_begin
        text_from, text_to, timestamps_from, timestamps_to = self.bounds(sampled)
        if text_from <= token < text_to or timestamps_from <= token < timestamps_to:
            return TOGETHER
        if token == self.tokens.notimestamps:
            return NO_NOTIMESTAMPS
        if token >= self._end:
            return NO_TOKEN
        if not sampled:
            return FIRST if token < begin else MAX_INITIAL
        opened = sampled[-1] >= begin and timestamps_from == timestamps_to  # a segment, whose text follows
        return PAIRS if token < begin or opened else NEVER_BACK

    def compiled(self) -> CompiledForm:
        """Returns the ranges."""
        return CompiledForm(ranges=self)
