"""Begins a stream with the options of a caller."""

from __future__ import annotations

import time
from collections.abc import Callable

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.runtime.decoding.languages import language_code
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.streaming.options import CheckedOptions
from max_whisper.runtime.streaming.recognizer import Recognizer
from max_whisper.runtime.streaming.stream import Stream
from max_whisper.runtime.transcription.scheduler import Scheduler
from max_whisper.runtime.vad.detector import VoiceDetector


def open_stream(
    scheduler: Scheduler,
    manifest: WhisperManifest,
    tokenizer: Tokenizer,
    detector: VoiceDetector | None,
    options: CheckedOptions,
    sample_rate: int,
    clock: Callable[[], float] = time.monotonic,
) -> Stream:
    """Returns a stream of a model; `Model.stream` makes one.

    detector: hears where phrases end; None where the caller says it. options: those that `checked_stream_options`
    returned. sample_rate: the samples of a second of what the stream is fed. clock: returns the time in seconds, by
    which the stream finds out what one look at a phrase costs.
    """
    streaming, transcribe, decoding = options
    language = decoding.language or ("" if tokenizer.multilingual else "en")  # "" is to be detected
    if language:
        language = language_code(language, manifest.tokens.languages or ("en",))
    recognizer = Recognizer(scheduler, manifest, tokenizer, transcribe, decoding, language)
    return Stream(recognizer, detector, streaming, sample_rate, clock)
