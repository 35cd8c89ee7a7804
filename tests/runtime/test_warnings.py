"""Which segments have a warning that their text was probably invented."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from max_whisper import Segment, Word
from max_whisper.runtime.audio.mel import LogMel
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.warnings import SIGNALS, Suspicions
from support.sounds import noise, silence

SOUND = np.concatenate([noise(5.0), silence(5.0)])
"""Ten seconds, of which the second half is silent."""
SPOKEN = Segment(0, 1.0, 4.0, " Nobody doubts this sentence.", [], 0.0, -0.3, 1.2, 0.1)


def found(*segments: Segment, **options: Any) -> list[list[str]]:
    suspicions = Suspicions(LogMel(SOUND, 80, padding=16000), TranscribeOptions(logprob_threshold=-1.0, **options))
    kept, _ = suspicions.sorted(segments)
    return [[warning.kind for warning in segment.warnings] for segment in kept]


def words(*times: tuple[float, float]) -> list[Word]:
    return [Word(" word", start, end, 0.9) for start, end in times]


def test_an_ordinary_segment_has_none() -> None:
    assert found(SPOKEN, SPOKEN) == [[], []]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"compression_ratio": 2.5}, "repetition"),
        ({"start": 6.0, "end": 9.0}, "silence"),
        ({"start": 4.0, "end": 7.0, "words": words((4.2, 4.8), (5.5, 6.0), (6.0, 7.0))}, "silence"),
        ({"start": 4.0, "end": 17.0}, "behind_end"),
        ({"avg_logprob": -1.1, "no_speech_prob": 0.3}, "no_speech"),
        ({"end": 1.9}, "too_fast"),
    ],
)
def test_signals(change: dict[str, Any], kind: str) -> None:
    assert found(replace(SPOKEN, **change)) == [[kind]]
    assert kind in SIGNALS


@pytest.mark.parametrize(
    "change",
    [
        {"compression_ratio": 2.4},
        {"start": 4.0, "end": 9.0},
        {"start": 4.0, "end": 6.0, "words": words((4.2, 4.4), (4.4, 4.8), (5.5, 6.0))},
        {"start": 1.0, "end": 16.0},
        {"avg_logprob": -1.1, "no_speech_prob": 0.1},
        {"avg_logprob": -0.9, "no_speech_prob": 0.9},
        {"end": 2.0},
    ],
)
def test_what_is_no_signal(change: dict[str, Any]) -> None:
    assert found(replace(SPOKEN, **change)) == [[]]


def test_the_part_behind_the_end_has_no_time_for_words() -> None:
    """The sentence that base invents after `en_lucier_room.mp3`: 2.7 s of sound, and 10 s for 128 characters."""
    text = "I am going to play this activity not so much as a demonstration of my speech with perhaps the exception"
    assert found(replace(SPOKEN, start=7.3, end=17.3, text=text)) == [["silence", "behind_end", "too_fast"]]
    assert found(replace(SPOKEN, start=11.0, end=12.0)) == [["silence", "behind_end", "too_fast"]]


def test_a_loop_is_found_at_its_third_turn() -> None:
    assert found(SPOKEN, SPOKEN, SPOKEN, SPOKEN) == [[], [], ["repetition"], ["repetition"]]
    other = replace(SPOKEN, text=" Something else.")
    assert found(SPOKEN, SPOKEN, other, SPOKEN) == [[], [], [], []]


def test_every_probability_is_good_enough_without_a_threshold() -> None:
    suspicions = Suspicions(LogMel(SOUND, 80, padding=16000), TranscribeOptions(logprob_threshold=None))
    kept, _ = suspicions.sorted([replace(SPOKEN, avg_logprob=-9.0, no_speech_prob=0.9)])
    assert kept[0].warnings == []


def test_suspect_segments_are_left_out() -> None:
    suspicions = Suspicions(
        LogMel(SOUND, 80, padding=16000), TranscribeOptions(logprob_threshold=-1.0, drop_suspect=True)
    )
    late = replace(SPOKEN, start=6.0, end=9.0)
    kept, dropped = suspicions.sorted([SPOKEN, late])
    assert kept == [SPOKEN]
    assert [(segment.start, segment.warnings[0].kind) for segment in dropped] == [(6.0, "silence")]
