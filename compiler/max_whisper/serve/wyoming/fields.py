"""Reads the fields of Wyoming's events, none of which can be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.model import Model
from max_whisper.serve.shown import can_be_written, shown
from max_whisper.serve.wyoming.frames import Garbage

MOST_WORDS = 10_000
"""The most names or terms of a request; the model reads the first of them that fit."""
LONGEST_TEXT = 1000
"""The most characters of a name, a term or a language."""


@dataclass(frozen=True)
class Asked:
    """What a client asks for with `transcribe`.

    Attributes:
        model: The name of the model; None for the default.
        language: The language that is spoken; None where it is to be detected.
        words: Names and terms that may be said, the important ones first.
    """

    model: str | None = None
    language: str | None = None
    words: tuple[str, ...] = ()

    def hotwords(self, model: Model) -> str | None:
        """Returns the words that a model reads, in the request's thread: their tokens are counted."""
        return hotwords(self.words, model.tokenizer, model.manifest.dims["n_text_ctx"] // 2)


def read_asked(data: dict[str, Any]) -> Asked:
    """Returns what the fields of `transcribe` ask for. Raises Garbage for values of another kind.

    `context` and `vad_sensitivity` are for servers that hold conversations or find the end of a command by themselves.
    """
    words = [word for name in ("transcript_names", "transcript_terms") for word in _texts(data, name)]
    return Asked(read_text(data, "name"), read_text(data, "language"), tuple(words))


def read_text(data: dict[str, Any], name: str) -> str | None:
    """Returns the text of a field; None where there is none, or where it is empty. Raises Garbage for anything else."""
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not can_be_written(value):
        raise Garbage(f"text of at most {LONGEST_TEXT} characters as {name}", shown(value))
    return value.strip() or None


def _texts(data: dict[str, Any], name: str) -> Sequence[str]:
    values = data.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or len(values) > MOST_WORDS:
        raise Garbage(f"a list of at most {MOST_WORDS} texts as {name}", shown(values))
    return [text for value in values if (text := read_text({name: value}, name))]


def hotwords(words: Sequence[str], tokenizer: Tokenizer, most: int) -> str | None:
    """Returns the first of some words, as many as are fewer than `most` tokens together; None where there are none.

    Home Assistant sends the names of all that it controls, and a model that reads too many of them refuses them all.
    """
    kept = ""
    for word in words[:most]:  # each has a token at least
        longer = f"{kept}, {word}" if kept else word
        if len(tokenizer.encode(f" {longer}")) >= most:
            break
        kept = longer
    return kept or None
