"""Fields of a request that have one value each, as all protocols by HTTP read them."""

from __future__ import annotations

from collections.abc import Collection

from max_whisper.messages import one_of, quote, suggestion
from max_whisper.serve.errors import wrong_field

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class Fields:
    """The values of fields by their names. Its methods raise RequestError, which names the field, for wrong values."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def text(self, name: str) -> str | None:
        """Returns the text of a field; None where there is none, or where it is empty."""
        return self._values.get(name, "").strip() or None

    def choice(self, name: str, words: Collection[str]) -> str:
        """Returns one of several words, the first of which is the default."""
        return one_of_words(name, self.text(name) or next(iter(words)), words)

    def flag(self, name: str, default: bool = False) -> bool:
        """Returns whether a field is true."""
        word = self.text(name)
        if word is None:
            return default
        if word.lower() not in (*TRUE, *FALSE):
            raise wrong_field(name, f"expected true or false, got {quote(word)}")
        return word.lower() in TRUE


def one_of_words(name: str, word: str, words: Collection[str]) -> str:
    """Returns a word of a field. Raises RequestError where it is none of several."""
    if word not in words:
        raise wrong_field(name, f"expected {one_of(words)}, got {quote(word)}{suggestion(word, words)}")
    return word
