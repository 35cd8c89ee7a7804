"""Decodes a window again at higher temperatures, until its text is good enough (openai/whisper, transcribe.py)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.features import WindowFeatures
from max_whisper.runtime.results import Attempt, DecodingResult
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.quality import is_repetitive, rejection
from max_whisper.runtime.transcription.requests import Decode, Request, ask


def with_retries(
    features: WindowFeatures, options: TranscribeOptions, decoding_at: Callable[[float], DecodingOptions]
) -> Generator[Request[Any], Any, tuple[list[DecodingResult], list[Attempt]]]:
    """Returns the texts of all attempts, and the attempts; the last text is good enough, unless none is.

    features: those of the window. options: the temperatures, and what is good enough. decoding_at: returns the options
    of the attempt at a temperature.
    """
    results: list[DecodingResult] = []
    attempts: list[Attempt] = []
    for temperature in options.temperatures:
        results.append((yield from ask(Decode(features, decoding_at(temperature)))))
        attempts.append(Attempt(temperature, rejection(results[-1], options)))
        if not attempts[-1].rejected:
            break
    return results, attempts


def most_credible(results: Sequence[DecodingResult], options: TranscribeOptions) -> DecodingResult:
    """Returns the most probable of texts that were all refused; one that repeats itself only where all do.

    The last one, which openai/whisper takes, has the highest temperature: it makes sentences of a cough.
    """
    return max(results, key=lambda result: (not is_repetitive(result, options), result.avg_logprob))
