"""The ban on runs of tokens that the text has already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from max_whisper.runtime.decoding.rule import Floats, History, LogitRule, register

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import WhisperManifest
    from max_whisper.runtime.decoding.options import DecodingOptions
    from max_whisper.runtime.decoding.tokenizer import Tokenizer


@register("no_repeat_ngram_size", order=20)
@dataclass(frozen=True)
class NoRepeatNgram(LogitRule):
    """Masks every token that would write a run of `size` tokens (an n-gram) that the window's text has already.

    As in faster-whisper, that is in CTranslate2 (src/decoding_utils.cc, `NoRepeatNgram`; src/decoding.cc,
    `make_logits_processors`): after the repetition penalty and before the lists of suppressed tokens and the rules of
    timestamps. Runs of timestamps, and of text with timestamps in it, count as any; the prefix counts, the prompt with
    its start-of-transcript, language and previous text does not (src/models/whisper.cc, `generate`). A size of 1 lets
    each token occur once.

    It differs in two places. CTranslate2 gives a masked token the lowest finite logit instead of -inf, so that it can
    choose one if all are masked; here that is an error. And faster-whisper writes `<|0.00|>` before the prefix of a
    window with timestamps, which is then a part of runs, too.
    """

    size: int

    @classmethod
    def of(cls, options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> NoRepeatNgram | None:
        """Returns the rule for any size but 0."""
        return None if options.no_repeat_ngram_size == 0 else cls(options.no_repeat_ngram_size)

    def apply(self, logits: Floats, history: History) -> None:
        """Masks what followed the last `size - 1` tokens wherever the text has them."""
        text, before = history.text, self.size - 1
        starts = range(len(text) - before)
        last = text[len(text) - before :]
        logits[[text[i + before] for i in starts if text[i : i + before] == last]] = -np.inf

    def reason(self, token: int, history: History) -> str:
        """Returns what would have been repeated."""
        return "the text has the token already" if self.size == 1 else f"the text has these {self.size} tokens already"
