"""Long recordings against what openai/whisper's `transcribe` made of them (see make_golden_transcribe.py)."""

from __future__ import annotations

import json
from pathlib import Path

import max_whisper
import pytest
from support.transcribe_cases import FAMILIES, GOLDEN, OPTIONS, checkpoint, options_of, sounds

CASES = json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def models(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, max_whisper.Model]:
    home = tmp_path_factory.mktemp("transcribe")
    return {
        family: max_whisper.load(
            max_whisper.build(
                spec, weights=checkpoint(home / f"{family}-weights", family), dtype="float32", out=home / family
            )
        )
        for family in FAMILIES
    }


@pytest.mark.parametrize("case", CASES)
def test_segments_are_those_of_openai_whisper(case: str, models: dict[str, max_whisper.Model]) -> None:
    family, sound, name = case.split(", ", 2)
    expected = CASES[case]
    given = options_of(family, name)
    given["max_new_tokens"] = given.pop("sample_len", None)
    result = models[family].transcribe(sounds()[sound], **given)
    assert result.language == expected["language"]
    found = [[s.seek, s.start, s.end, s.tokens] for s in result.segments]
    assert found == [
        [seek, pytest.approx(start), pytest.approx(end), tokens]
        for seek, start, end, tokens, *_ in expected["segments"]
    ]
    for segment, (*_, avg_logprob, no_speech_prob, words) in zip(result.segments, expected["segments"], strict=True):
        assert (segment.words is None) == (words is None)
        assert [[w.word, w.start, w.end, w.probability] for w in segment.words or ()] == [
            [word, pytest.approx(start), pytest.approx(end), pytest.approx(probability, rel=1e-3, abs=1e-6)]
            for word, start, end, probability in words or ()
        ]
        assert segment.avg_logprob == pytest.approx(avg_logprob, abs=1e-4)
        assert segment.no_speech_prob == pytest.approx(no_speech_prob, rel=1e-3)
    assert result.text == expected["text"]


def test_every_option_is_covered() -> None:
    assert {case.split(", ", 2)[2] for case in CASES} == set(OPTIONS)
