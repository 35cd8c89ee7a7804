"""Lists the tokens of a text with their log-probabilities, as OpenAI's API has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.results import Window


def window_logprobs(window: Window, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Returns the tokens of the segments of a window, without timestamps.

    Each has its text, in which bytes that are no whole character are U+FFFD, its log-probability and its bytes. The
    window must have been transcribed with the option `token_logprobs`.
    """
    assert window.logprobs is not None
    chosen = [*zip(window.result.tokens, window.logprobs, strict=False)]  # that of end-of-text may follow them
    listed, position = [], 0
    for segment in window.segments:
        position = _find(segment.tokens, window.result.tokens, position)
        for token, logprob in chosen[position : position + len(segment.tokens)]:
            if token < tokenizer.tokens.eot:
                data = tokenizer.token_bytes(token)
                listed.append({"token": data.decode(errors="replace"), "logprob": logprob, "bytes": [*data]})
        position += len(segment.tokens)
    return listed


def all_logprobs(windows: Iterable[Window], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Returns the tokens of several windows, one after the other."""
    return [item for window in windows for item in window_logprobs(window, tokenizer)]


def _find(part: list[int], whole: list[int], start: int) -> int:
    """Returns the index at which `part` begins in `whole`, from `start` on: segments are cut out of a window's text."""
    return next((i for i in range(start, len(whole)) if whole[i : i + len(part)] == part), start)
