"""Cuts a text that grows into deltas, which joined are the text that comes at the end."""

from __future__ import annotations

from collections.abc import Sequence

from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.results import Segment

UNFINISHED = "\ufffd"


class TextStream:
    """The text of the segments so far, of which each call of `add` gives what is new and will not change.

    A character may be split between the tokens of two windows; and the text at the end has no spaces around it. So what
    may still change, an unfinished character and spaces at the end, comes with the next delta.

    Attributes:
        tokenizer: The tokenizer of the model.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._text = ""  # of all tokens but these
        self._tokens: list[int] = []
        self._sent = ""

    def add(self, segments: Sequence[Segment]) -> str:
        """Adds segments, and returns the next delta, which may be empty."""
        self._tokens += [token for segment in segments for token in segment.tokens]
        added = self.tokenizer.decode(self._tokens)
        text = self._text + added.rstrip(UNFINISHED)
        if not added.endswith(UNFINISHED):
            self._text, self._tokens = text, []
        return self._until(text.strip())

    def rest(self, text: str) -> str:
        """Returns what is left of the text that is there at the end."""
        return self._until(text)

    def _until(self, text: str) -> str:
        delta = text[len(self._sent) :]
        self._sent = text if delta else self._sent
        return delta
