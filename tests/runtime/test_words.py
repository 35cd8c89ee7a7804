"""When words were said: what the golden files of test_transcribe_parity.py do not reach."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from max_whisper import Model
from max_whisper.errors import UserError, WeightsError
from max_whisper.runtime.results import Segment
from max_whisper.runtime.transcription.alignment import attention_to_sound, median_filtered, token_starts, warp
from max_whisper.runtime.transcription.words import Timing, assign_words, merge_punctuation, split_words
from max_whisper.weights.alignment import read_alignment_heads
from support.sounds import noise, sweep


def cheapest(costs: np.ndarray) -> float:
    """Of all paths, by the recurrence written down."""
    total = np.full((costs.shape[0] + 1, costs.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, j in np.ndindex(costs.shape):
        total[i + 1, j + 1] = costs[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return float(total[-1, -1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (4, 4), (7, 30), (30, 7)])
def test_the_path_is_the_cheapest_and_has_no_gaps(shape: tuple[int, int]):
    costs = np.random.default_rng(0).standard_normal(shape)
    rows, columns = warp(costs)
    assert costs[rows, columns].sum() == pytest.approx(cheapest(costs), abs=1e-5)
    assert (rows[0], columns[0]) == (0, 0)
    assert (rows[-1] + 1, columns[-1] + 1) == shape
    steps = np.diff(rows), np.diff(columns)
    assert set(zip(*(step.tolist() for step in steps), strict=True)) <= {(0, 1), (1, 0), (1, 1)}


def test_median_of_seven_neighbours():
    x = np.random.default_rng(0).standard_normal((2, 20)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (3, 3)), mode="reflect")
    expected = [[np.median(row[i : i + 7]) for i in range(20)] for row in padded]
    assert np.array_equal(median_filtered(x), np.array(expected, np.float32))
    assert np.array_equal(median_filtered(x[:, :3]), x[:, :3])


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_nan_comes_last_in_the_median(share: float):
    """Of a head that attends to a position alike from all tokens; both signs are what processors give."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 40)).astype(np.float32)
    x[rng.random(x.shape) < share] = np.nan
    x *= rng.choice([-1, 1], x.shape)
    padded = np.pad(x, ((0, 0), (3, 3)), mode="reflect")
    expected = [[sorted(row[i : i + 7], key=lambda y: (np.isnan(y), y))[3] for i in range(40)] for row in padded]
    assert np.array_equal(median_filtered(x), np.array(expected, np.float32), equal_nan=True)


def test_tokens_begin_where_the_heads_look():
    starts = [2, 10, 11, 30]
    scores = np.random.default_rng(0).standard_normal((2, 6, 40)).astype(np.float32) * 0.01
    for token, (first, last) in enumerate(zip([0, *starts], [*starts, 40], strict=True)):
        scores[:, token, first:last] += 9
    found = token_starts(attention_to_sound(scores, 0))
    assert np.abs(found - [0, *starts]).max() <= 3  # half of the median's width


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        (" the weather, and(rain)", "en", [" the", " weather", ",", " and", "(rain", ")"]),
        (" thus rained", "zh", None),
        (" naïve ♪", "en", [" naïve", " ♪"]),
    ],
)
def test_words(model: Model, text: str, language: str, words: list[str] | None):
    tokens = model.tokenizer.encode(text)
    eot = model.tokenizer.tokens.eot
    found = split_words([*tokens, eot], model.tokenizer, language)
    assert found[-1] == ("<|endoftext|>", [eot])
    assert [token for _, ids in found[:-1] for token in ids] == tokens
    assert "".join(word for word, _ in found[:-1]) == text
    if words is not None:
        assert [word for word, _ in found[:-1]] == words
    else:
        assert len(found) > len(split_words([*tokens, eot], model.tokenizer, "en"))


def test_bytes_that_are_no_character_stay_with_what_follows(model: Model):
    half = model.tokenizer.encode("é")[:1] if len(model.tokenizer.encode("é")) > 1 else [0xC3]
    eot = model.tokenizer.tokens.eot
    found = split_words([*half, eot], model.tokenizer, "en")
    assert [token for _, ids in found for token in ids] == [*half, eot]


def timing(word: str, start: float, end: float) -> Timing:
    return Timing(word, [len(word)], start, end, 0.5, start)


def test_punctuation_belongs_to_words():
    words = [timing(w, i, i + 1) for i, w in enumerate([' "', "Yes", ",", " no", "!", '"'])]
    merge_punctuation(words, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
    assert [word.word for word in words] == ["", ' "Yes,', "", ' no!"', "", ""]
    assert words[1].tokens == [2, 3, 1]
    assert (words[1].start, words[1].end) == (1, 2)


def segment(start: float, end: float, tokens: list[int]) -> Segment:
    return Segment(0, start, end, "text", tokens, 0.0, 0.0, 1.0, 0.0)


def test_a_first_word_after_a_pause_is_shortened_and_segments_follow_their_words():
    words = [timing(" a", 0.0, 6.0), timing(" b", 6.0, 6.4), timing(" c", 6.4, 6.8), timing(" d", 6.8, 7.2)]
    first, second = assign_words(
        [segment(100.0, 106.9, [1, 2, 999]), segment(106.9, 108.0, [3, 4])],
        words,
        eot=900,
        offset=100.0,
        last_speech=0.0,
    )
    assert [word.word for word in first.words] == [" a", " b"]
    assert first.start == first.words[0].start == pytest.approx(106.0 - 2 * 0.4)
    assert first.end == pytest.approx(106.4)
    assert (second.start, second.end) == (pytest.approx(106.4), pytest.approx(107.2))


def test_words_of_a_transcription(model: Model):
    sound = np.concatenate([sweep(2.0), noise(1.0)])
    plain = model.transcribe(sound, language="en", temperature=0, max_new_tokens=20, without_timestamps=True)
    assert all(s.words is None for s in plain.segments)
    result = model.transcribe(
        sound, language="en", temperature=0, max_new_tokens=20, without_timestamps=True, word_timestamps=True
    )
    words = [word for s in result.segments for word in s.words or ()]
    assert "".join(word.word for word in words) == result.text
    assert all(0 <= word.start <= word.end <= 3.0 and 0 <= word.probability <= 1 for word in words)
    assert all(a.end <= b.end for a, b in pairwise(words))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hallucination_silence_threshold": 1.0}, "hallucination_silence_threshold: needs the times of words"),
        (
            {"hallucination_silence_threshold": -1.0, "word_timestamps": True},
            "expected 0 to 86400 seconds, or none, got -1.0",
        ),
        ({"append_punctuations": "x"}, "prepend_punctuations, append_punctuations: are for words"),
    ],
)
def test_wrong_options(model: Model, options: dict, said: str):
    with pytest.raises(UserError, match=said):
        model.transcribe(noise(1.0), **options)


def heads(folder: Path, content: object, layers: list[int]) -> list[tuple[int, int]]:
    (folder / "generation_config.json").write_text(json.dumps(content))
    return read_alignment_heads(lambda name: folder / name, layers, 100).heads


def test_alignment_heads(tmp_path: Path):
    assert heads(tmp_path, {"alignment_heads": [[1, 1], [0, 1]]}, [2, 2]) == [(0, 1), (1, 1)]
    assert heads(tmp_path, {"alignment_heads": [[1, 1], [7, 0], [1, 9]]}, [2, 2]) == [(1, 1)]
    last_half = [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert heads(tmp_path, {"alignment_heads": [[7, 0]]}, [2, 2, 2]) == last_half
    assert heads(tmp_path, {}, [2, 2, 2]) == last_half
    assert read_alignment_heads(lambda name: None, [2, 2, 2], 100).heads == last_half


@pytest.mark.parametrize("listed", [7, [[1]], [[1, "2"]], [1, 2], [[1, 2, 3]]])
def test_wrong_alignment_heads(tmp_path: Path, listed: object):
    with pytest.raises(WeightsError, match=r"generation_config\.json: alignment_heads"):
        heads(tmp_path, {"alignment_heads": listed}, [2, 2])
