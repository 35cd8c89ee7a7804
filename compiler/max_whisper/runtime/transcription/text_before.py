"""The text before a window, which the model reads first: names and terms, the initial prompt, and the text so far."""

from __future__ import annotations

from collections.abc import Sequence

from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.transcription.options import TranscribeOptions


class TextBefore:
    """The tokens of the text before a window, as openai/whisper keeps them (transcribe.py)."""

    def __init__(self, options: TranscribeOptions, tokenizer: Tokenizer, n_text_ctx: int) -> None:
        """Starts with what the options give. n_text_ctx: the length of the text context, which bounds what is kept."""
        prompt, hotwords = (
            [] if text is None else tokenizer.encode(" " + text.strip())
            for text in (options.initial_prompt, options.hotwords)
        )
        self._half = n_text_ctx // 2
        self._carried = hotwords + (prompt if options.carry_initial_prompt else [])
        self._recent = [] if options.carry_initial_prompt else prompt

    def add(self, tokens: Sequence[int], *, unseen: bool) -> None:
        """Adds the text of a window. unseen: the next window sees neither this text nor those before it."""
        self._recent = [] if unseen else [*self._recent, *tokens][-self._half :]

    @property
    def tokens(self) -> list[int]:
        """The tokens that the next window sees, which `DecodingOptions` cuts to fit."""
        if not self._carried:
            return [*self._recent]
        room = self._half - 1 - len(self._carried)
        return self._carried + (self._recent[-room:] if room > 0 else [])
