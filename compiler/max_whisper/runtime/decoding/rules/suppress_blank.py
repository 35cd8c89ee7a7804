"""The tokens that a window's text cannot begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from max_whisper.runtime.decoding.rule import CompiledForm, Floats, History, LogitRule, register

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import WhisperManifest
    from max_whisper.runtime.decoding.options import DecodingOptions
    from max_whisper.runtime.decoding.tokenizer import Tokenizer


@register("suppress_blank", order=30)
@dataclass(frozen=True)
class SuppressBlank(LogitRule):
    """Masks a blank and end-of-text as the first token (openai/whisper, decoding.py: SuppressBlank)."""

    tokens: tuple[int, ...]

    @classmethod
    def of(cls, options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> SuppressBlank | None:
        """Returns the rule with the tokens that the checkpoint lists."""
        return cls(tuple(manifest.tokens.begin_suppress)) if options.suppress_blank else None

    def apply(self, logits: Floats, history: History) -> None:
        """Masks the tokens if nothing was sampled yet."""
        if not history.sampled:
            logits[list(self.tokens)] = -np.inf

    def reason(self, token: int, history: History) -> str:
        """Returns what the tokens are."""
        return "the first token is no blank and no end"

    def compiled(self) -> CompiledForm:
        """Returns a mask of the first token."""
        return CompiledForm(suppressed_first=self.tokens)
