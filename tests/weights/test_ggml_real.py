"""OpenAI's own weights in ggml's format: whisper.cpp and our artifact hear the same words (`pytest -m real`)."""

from __future__ import annotations

from pathlib import Path

import max_whisper
import pytest
from pywhispercpp.model import Model
from support import ggml
from test_real import PACKAGES, SPEECH, fetch, words


@pytest.mark.real
@pytest.mark.parametrize("kind", ["q5_0", "q8_0"])
def test_whisper_cpp_hears_the_same_words(tmp_path: Path, kind: str) -> None:
    package = PACKAGES["tiny.en"]
    recordings = [SPEECH / name for name in package.texts if (SPEECH / name).is_file()]
    if not recordings:
        pytest.skip(f"there are no recordings in {SPEECH}")
    file = ggml.write_ggml(tmp_path / "model.bin", "tiny.en", fetch(package, tmp_path), kind)
    ours = max_whisper.load(max_whisper.build("tiny.en", weights=file, out=tmp_path / "artifact"))
    theirs = Model(str(file), redirect_whispercpp_logs_to=None, print_progress=False)
    for recording in recordings:
        segments = theirs.transcribe(max_whisper.load_audio(recording))
        text = ours.transcribe(recording).text
        assert words(text) == words(" ".join(segment.text for segment in segments)) != ""
