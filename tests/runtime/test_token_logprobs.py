"""Tests the option `token_logprobs`: the log-probability of each token, after the rules of the decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from max_whisper import Model, load_audio

COMMANDS = ROOT / "examples" / "audio" / "commands.flac"


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7, "seed": 3}, {"beam_size": 2}, {"prefix": "hello"}], ids=str
)
def test_their_mean_is_the_average(nano: Model, ending: Model, options: dict[str, float]) -> None:
    for one in (nano, ending):
        language = {"language": "en"} if one.multilingual else {}
        result = one.transcribe(load_audio(COMMANDS), token_logprobs=True, **language, **options)
        assert result.windows
        for window in result.windows:
            tokens, logprobs = window.result.tokens, window.logprobs
            assert logprobs is not None
            assert len(logprobs) == len(tokens) + 1  # that of end-of-text
            assert max(logprobs) <= 0
            assert np.mean(logprobs) == pytest.approx(window.result.avg_logprob, abs=2e-3)


def test_a_text_that_does_not_end_has_none_of_the_end(model: Model) -> None:
    result = model.transcribe(load_audio(COMMANDS), token_logprobs=True, language="en", temperature=0, max_new_tokens=9)
    for window in result.windows:
        assert window.logprobs is not None
        assert len(window.logprobs) == len(window.result.tokens) == 9
        assert sum(window.logprobs) / 10 == pytest.approx(window.result.avg_logprob, abs=2e-3)


def test_they_are_not_there_unless_asked_for(nano: Model) -> None:
    assert all(window.logprobs is None for window in nano.transcribe(COMMANDS).windows)


def test_the_text_is_the_same(nano: Model, tmp_path: Path) -> None:
    assert nano.transcribe(COMMANDS, token_logprobs=True).text == nano.transcribe(COMMANDS).text
