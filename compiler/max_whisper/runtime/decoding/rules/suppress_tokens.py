"""The tokens that are never chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from max_whisper.runtime.decoding.rule import CompiledForm, Floats, History, LogitRule, register

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import WhisperManifest
    from max_whisper.runtime.decoding.options import DecodingOptions
    from max_whisper.runtime.decoding.tokenizer import Tokenizer


@register("suppress_tokens", order=40)
@dataclass(frozen=True)
class SuppressTokens(LogitRule):
    """Masks a list of tokens (openai/whisper, decoding.py: SuppressTokens)."""

    tokens: tuple[int, ...]

    @classmethod
    def of(cls, options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> SuppressTokens | None:
        """Returns the rule for the tokens of the option, and with them those that mean something to the decoder only.

        openai/whisper adds these, too, to any list but an empty one (`_get_suppress_tokens`).
        """
        if not options.suppress_tokens:
            return None
        given = [int(token) for token in options.suppress_tokens]
        tokens = manifest.tokens
        own = tokens.suppress if -1 in given else []
        controls = [tokens.transcribe, tokens.translate, tokens.sot, tokens.startofprev, tokens.startoflm]
        return cls(tuple(sorted({*own, *controls, tokens.nospeech, *given} - {-1})))

    def apply(self, logits: Floats, history: History) -> None:
        """Masks the tokens."""
        logits[list(self.tokens)] = -np.inf

    def compiled(self) -> CompiledForm:
        """Returns a mask of all tokens."""
        return CompiledForm(suppressed_first=self.tokens, suppressed_later=self.tokens)
