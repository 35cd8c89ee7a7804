"""The options of `DecodingOptions` as keywords of methods, for type checkers and editors.

Types of keywords cannot be derived from a class; tests/test_options.py checks that these are the same.
"""

from collections.abc import Sequence
from typing import TypedDict


class PromptKeywords(TypedDict, total=False):
    """The options of `Model.prompt`, for type checkers and editors."""

    language: str | None
    task: str
    without_timestamps: bool
    prompt: str | Sequence[int] | None
    prefix: str | Sequence[int] | None


PROMPT_OPTIONS = frozenset(PromptKeywords.__annotations__)
"""The names of the options of `Model.prompt`."""


class TextKeywords(TypedDict, total=False):
    """The options of `DecodingOptions` that `Model.transcribe` takes as well, for type checkers and editors."""

    task: str
    language: str | None
    max_new_tokens: int | None
    best_of: int | None
    beam_size: int | None
    patience: float | None
    length_penalty: float | None
    prefix: str | Sequence[int] | None
    draft: str | Sequence[int] | None
    suppress_tokens: str | Sequence[int] | None
    suppress_blank: bool
    no_repeat_ngram_size: int
    repetition_penalty: float
    without_timestamps: bool
    max_initial_timestamp: float | None
    seed: int


class DecodingKeywords(TextKeywords, total=False):
    """The options of `Model.decode`, for type checkers and editors."""

    temperature: float
    prompt: str | Sequence[int] | None
