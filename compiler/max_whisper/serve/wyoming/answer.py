"""Transcribes the sound of a request, and sends its text as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.event import Event

from max_whisper.runtime.results import Window
from max_whisper.runtime.transcription.options import TranscribeKeywords
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.serve.jobs import gone
from max_whisper.serve.text_stream import TextStream
from max_whisper.serve.transcribing import Task
from max_whisper.serve.work import Work
from max_whisper.serve.wyoming.fields import Asked, hotwords
from max_whisper.serve.wyoming.sound import Sound


async def answer(task: Task, sound: Sound, asked: Asked) -> AsyncGenerator[Event, None]:
    """Yields the events of an answer.

    These are `transcript-start`, `transcript-chunk` for the text of each window once it is accepted, `transcript` with
    all of it, and `transcript-stop`. Clients that do not know the others read `transcript` alone.
    """
    watching = asyncio.ensure_future(_cancel_when_gone(task.work))
    try:
        async with aclosing(task.work.stream(lambda give: _transcribe(task, sound, asked, give))) as events:
            async for event in events:
                yield event
    finally:
        watching.cancel()


def _transcribe(task: Task, sound: Sound, asked: Asked, give: Callable[[Any], None]) -> None:
    """Gives each event when it is known; runs in the request's thread."""
    model = task.model
    options: TranscribeKeywords = {}
    if asked.language:
        options["language"] = asked.language
    if words := hotwords(asked.words, model.tokenizer, model.manifest.dims["n_text_ctx"] // 2):
        options["hotwords"] = words
    task.check(options)
    text, started = TextStream(model.tokenizer), False

    def on_window(transcriber: Transcriber, window: Window) -> None:
        nonlocal started
        if not started:
            started = True
            give(TranscriptStart(language=transcriber.language).event())
        if delta := text.add(window.segments):
            give(TranscriptChunk(delta).event())

    result = task.transcribe(sound.recording(task), options, on_window)
    if rest := text.rest(result.text.strip()):
        give(TranscriptChunk(rest).event())
    give(Transcript(result.text.strip(), language=result.language).event())
    give(TranscriptStop().event())


async def _cancel_when_gone(work: Work) -> None:
    await work.gone()
    work.job.cancel(gone)
