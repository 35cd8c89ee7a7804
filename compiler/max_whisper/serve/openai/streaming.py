"""Sends the text of a recording as it comes: server-sent events, as OpenAI's clients read them.

A delta is sent when its window is accepted: until then, a retry at a higher temperature may take back any token of it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse

from max_whisper.runtime.results import TranscriptionResult, Window
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.serve.answers import answer_to
from max_whisper.serve.http import IDLE_SECONDS, STREAM_HEADERS
from max_whisper.serve.openai.logprobs import all_logprobs
from max_whisper.serve.text_stream import TextStream
from max_whisper.serve.work import Work

Give = Callable[[bytes], None]
PING = b": ping\n\n"
"""A comment, which clients leave out."""
POSITIONS_PER_SECOND = 50
"""The positions of the encoder for a second of sound, which `usage` counts as the tokens that were read."""


def deltas(
    transcribe: Callable[[Callable[[Transcriber, Window], None]], TranscriptionResult],
    stream: TextStream,
    logprobs: bool,
) -> Callable[[Give], None]:
    """Returns a function that transcribes, and gives each event of the stream as soon as it is known.

    The last one may be large, with all tokens of hours: it is written here, in the request's thread.

    Args:
        transcribe: Transcribes a recording and calls a function with each window.
        stream: An empty text of the model's tokenizer.
        logprobs: Whether events list the log-probabilities of their tokens.
    """

    def run(give: Give) -> None:
        pending: list[Window] = []

        def add(transcriber: Transcriber, window: Window) -> None:
            pending.append(window)
            send(stream.add(window.segments))

        def send(delta: str) -> None:
            if delta:
                listed = {"logprobs": all_logprobs(pending, stream.tokenizer)} if logprobs else {}
                give(_event({"type": "transcript.text.delta", "delta": delta, **listed}))
                pending.clear()

        result = transcribe(add)
        send(stream.rest(result.text.strip()))
        listed = {"logprobs": all_logprobs(result.windows, stream.tokenizer)} if logprobs else {}
        done = {"type": "transcript.text.done", "text": result.text.strip(), "languages": [{"code": result.language}]}
        give(_event({**done, **listed, "usage": token_usage(result)}))

    return run


def token_usage(result: TranscriptionResult) -> dict[str, Any]:
    """Returns the usage of a request by tokens: positions of the encoder, and tokens that were written."""
    heard = round(result.duration * POSITIONS_PER_SECOND)
    written = sum(len(window.result.tokens) for window in result.windows)
    return {
        "type": "tokens",
        "input_tokens": heard,
        "input_token_details": {"audio_tokens": heard, "text_tokens": 0},
        "output_tokens": written,
        "total_tokens": heard + written,
    }


def event_stream(work: Work, run: Callable[[Give], None]) -> StreamingResponse:
    """Returns the response that sends what a function gives, as server-sent events.

    An error after the first byte cannot change the status, and is an event of its own, at which clients raise.
    """

    async def events() -> AsyncIterator[bytes]:
        try:
            async with aclosing(work.stream(run, IDLE_SECONDS)) as items:
                async for item in items:
                    yield PING if item is None else item
            yield b"data: [DONE]\n\n"
        except Exception as error:
            yield _event(answer_to(error, work.job.name).body())

    return StreamingResponse(events(), media_type="text/event-stream", headers=STREAM_HEADERS)


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()  # all ASCII: some clients end a line at U+2028 or U+0085
