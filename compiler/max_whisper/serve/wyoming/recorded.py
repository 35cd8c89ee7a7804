"""Transcribes a recording that is complete, window by window."""

from __future__ import annotations

from max_whisper.runtime.results import Window
from max_whisper.runtime.transcription.options import TranscribeKeywords
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.serve.text_stream import TextStream
from max_whisper.serve.transcribing import Task
from max_whisper.serve.wyoming.answer import Answer, Give
from max_whisper.serve.wyoming.fields import Asked
from max_whisper.serve.wyoming.sound import Sound


def transcribe_recorded(task: Task, sound: Sound, asked: Asked, give: Give) -> None:
    """Gives the events of an answer, a chunk for each window once it is accepted; runs in the request's thread."""
    options: TranscribeKeywords = {"language": asked.language, "hotwords": asked.hotwords(task.model)}
    task.check(options)
    text, answer = TextStream(task.model.tokenizer), Answer(give)

    def on_window(transcriber: Transcriber, window: Window) -> None:
        answer.add(text.add(window.segments), transcriber.language)

    result = task.transcribe(sound.recording(task), options, on_window)
    answer.add(text.rest(result.text.strip()), result.language)
    answer.end(result.text.strip(), result.language)
