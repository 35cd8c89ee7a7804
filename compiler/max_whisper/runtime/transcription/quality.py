"""Judges the text of a window: whether it is good enough, and whether the window is silence (as openai/whisper)."""

from __future__ import annotations

from max_whisper.runtime.results import DecodingResult
from max_whisper.runtime.transcription.options import TranscribeOptions


def rejection(result: DecodingResult, options: TranscribeOptions) -> str:
    """Returns why a text is not good enough, so that the next temperature is tried; "" if it is, or for silence."""
    reasons = []
    min_logprob = options.min_logprob
    if is_repetitive(result, options):
        reasons.append(f"compression ratio {result.compression_ratio:.2f} > {options.compression_ratio_threshold:g}")
    if min_logprob is not None and result.avg_logprob < min_logprob:
        reasons.append(f"average log-probability {result.avg_logprob:.2f} < {min_logprob:g}")
        if options.no_speech_threshold is not None and result.no_speech_prob > options.no_speech_threshold:
            return ""
    return ", ".join(reasons)


def is_repetitive(result: DecodingResult, options: TranscribeOptions) -> bool:
    """Returns whether a text repeats itself: zlib makes it smaller by more than the options allow."""
    max_ratio = options.compression_ratio_threshold
    return max_ratio is not None and result.compression_ratio > max_ratio


def is_silence(result: DecodingResult, options: TranscribeOptions) -> bool:
    """Returns whether a window is taken for silence: no speech is probable, and its text is improbable."""
    if options.no_speech_threshold is None or result.no_speech_prob <= options.no_speech_threshold:
        return False
    return options.min_logprob is None or result.avg_logprob <= options.min_logprob
