"""The penalty for tokens that the text has already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from max_whisper.runtime.decoding.rule import Floats, History, LogitRule, register

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import WhisperManifest
    from max_whisper.runtime.decoding.options import DecodingOptions
    from max_whisper.runtime.decoding.tokenizer import Tokenizer


@register("repetition_penalty", order=10)
@dataclass(frozen=True)
class RepetitionPenalty(LogitRule):
    """Lowers the logit of every token that the window's text has already (Keskar et al., 2019).

    As in faster-whisper, that is in CTranslate2 (src/decoding_utils.cc, `RepetitionPenalty`; src/decoding.cc,
    `make_logits_processors`): it is the first of all rules, so it works on the raw logits, and the rule that weighs
    timestamps against text sees what it did. A positive logit is divided by the penalty, a negative one multiplied,
    once for each token however often it occurs. Timestamps count as any token, and so does the prefix; the prompt with
    its start-of-transcript, language and previous text does not (src/models/whisper.cc, `generate`).

    It differs in one place, because the prefix does: faster-whisper writes `<|0.00|>` before the prefix of a window
    with timestamps, which is then penalized, too.
    """

    penalty: float

    @classmethod
    def of(cls, options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> RepetitionPenalty | None:
        """Returns the rule for any penalty but 1."""
        return None if options.repetition_penalty == 1 else cls(options.repetition_penalty)

    def apply(self, logits: Floats, history: History) -> None:
        """Divides the positive logits of the tokens in the text, and multiplies the negative ones."""
        ids = sorted({*history.text})
        scores = logits[ids]
        logits[ids] = np.where(scores < 0, scores * self.penalty, scores / self.penalty)

    def reason(self, token: int, history: History) -> str:
        """Returns that the token is in the text; with a penalty below 1, that another one is."""
        return "the text has the token already" if token in history.text else "another token was raised"
