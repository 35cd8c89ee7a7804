"""The smallest FastAPI app around faster-whisper, as its users write it; uvicorn runs it, in the peer's environment.

The endpoint is a plain `def`, which FastAPI runs in one of its 40 threads. There is one model with its default threads
and without a lock: CTranslate2 has a queue of its own, and computes one window at a time (num_workers=1).
"""

import os
from typing import Annotated

from fastapi import FastAPI, File, Form, UploadFile
from faster_whisper import WhisperModel

app = FastAPI()
model = WhisperModel(os.environ["MODEL"], device="cpu", compute_type="int8")


@app.post("/v1/audio/transcriptions")
def transcribe(file: Annotated[UploadFile, File()], language: Annotated[str | None, Form()] = None) -> dict[str, str]:
    """Returns the text of a recording."""
    segments, _ = model.transcribe(file.file, language=language, beam_size=1)
    return {"text": "".join(segment.text for segment in segments)}
