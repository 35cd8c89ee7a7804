"""Which segments have a warning that their text was probably invented."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import max_whisper
import numpy as np
import pytest
from max_whisper import Segment, SegmentWarning, Word, render
from max_whisper.runtime.audio.mel import LogMel
from max_whisper.runtime.transcription import transcriber, warnings
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.warnings import SIGNALS, Hearing, with_warnings
from support.command import run
from support.sounds import noise, silence

ROOT = Path(__file__).parents[2]

SOUND = np.concatenate([noise(5.0), silence(5.0)])
"""Ten seconds, of which the second half is silent."""
SPOKEN = Segment(0, 1.0, 4.0, " Nobody doubts this sentence.", [], 0.0, -0.3, 1.2, 0.1)


def found(
    *segments: Segment, earlier: Sequence[str] = (), min_logprob: float | None = -1.0, end: float = 10.0
) -> list[list[str]]:
    """Returns the kinds of warnings of each segment."""
    hearing = Hearing(LogMel(SOUND, 80, padding=16000), TranscribeOptions(logprob_threshold=min_logprob))
    return [[warning.kind for warning in one.warnings] for one in with_warnings(segments, earlier, hearing, end)]


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


def test_a_clip_ends_like_a_recording() -> None:
    """What the model writes of the time behind a clip, it has not heard, though there may be sound."""
    assert found(SPOKEN, end=3.0) == [[]]
    assert found(SPOKEN, end=2.0) == [["behind_end"]]
    assert found(SPOKEN, end=1.0) == [["silence", "behind_end", "too_fast"]]


def test_a_loop_is_found_at_its_third_turn() -> None:
    assert found(SPOKEN, SPOKEN, SPOKEN, SPOKEN) == [[], [], ["repetition"], ["repetition"]]
    other = replace(SPOKEN, text=" Something else.")
    assert found(SPOKEN, SPOKEN, other, SPOKEN) == [[], [], [], []]


def test_a_loop_goes_through_windows() -> None:
    text = SPOKEN.text.strip()
    assert found(SPOKEN, earlier=["Hello.", text, text]) == [["repetition"]]
    assert found(SPOKEN, earlier=[text, text, "Hello."]) == [[]]


def test_every_probability_is_good_enough_without_a_threshold() -> None:
    assert found(replace(SPOKEN, avg_logprob=-9.0, no_speech_prob=0.9), min_logprob=None) == [[]]


def test_suspect_segments_are_left_out(nano: max_whisper.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = max_whisper.load_audio(ROOT / "examples" / "audio" / "spelling.flac")
    plain = nano.transcribe(recording)
    assert not any(segment.warnings for segment in plain.segments)
    assert nano.transcribe(recording, drop_suspect=True) == plain

    def marked(segments: Sequence[Segment], earlier: Sequence[str], hearing: Hearing, end: float) -> list[Segment]:
        warning = SegmentWarning("too_fast", "99 characters a second")
        return [replace(one, warnings=[warning] if "delta" in one.text else []) for one in segments]

    monkeypatch.setattr(transcriber, "with_warnings", marked)
    warned = nano.transcribe(recording)
    assert [bool(segment.warnings) for segment in warned.segments] == ["delta" in one.text for one in plain.segments]
    assert warned.text == plain.text
    left = nano.transcribe(recording, drop_suspect=True)
    assert left.text == plain.text.replace(" delta echo foxtrot", "")
    assert [segment for window in left.windows for segment in window.dropped] == [warned.segments[1]]
    written = json.loads(render(left, "json"))
    assert [segment["text"] for segment in written["dropped"]] == [" delta echo foxtrot"]
    assert written["dropped"][0]["warnings"] == [{"kind": "too_fast", "reason": "99 characters a second"}]
    assert "dropped" not in json.loads(render(plain, "json"))
    assert json.loads(render(warned, "json"))["segments"][1]["warnings"] == written["dropped"][0]["warnings"]


def test_the_command_says_so(nano_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "MAX_RATE", 12.0)
    arguments = ("transcribe", ROOT / "examples" / "audio" / "spelling.flac", "--model", nano_artifact)
    plain, left = run(*arguments), run(*arguments, "--drop-suspect")
    assert ' segments were probably invented, for example "' in plain.invented[0]
    assert "characters a second; --drop-suspect leaves out such text" in plain.invented[0]
    assert " left out as probably invented, for example " in left.invented[0] and len(left.stdout) < len(plain.stdout)
    assert "too_fast)" in run(*arguments, "--explain").stderr
    lines = run(*arguments, "--explain", "--drop-suspect").stderr
    assert lines.count("    left out: [") == len(plain.stdout.splitlines()) - len(left.stdout.splitlines())
