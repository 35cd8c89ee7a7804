"""Several tokens or texts in one step: the same bits as one after the other, whatever the draft."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import max_whisper
import numpy as np
import pytest
from max_whisper import Model
from max_whisper.errors import Cancelled, UserError
from max_whisper.runtime.decoding.beam import most_probable
from max_whisper.runtime.decoding.drafts import Draft
from support.sounds import noise, sweep
from support.transcribe_cases import checkpoint

TIMESTAMPS = 100
DTYPES = ["float32", "bfloat16", "int8"]


@pytest.fixture(scope="module", params=DTYPES)
def lively(spec: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Model:
    """A model that writes timestamps and ends its texts."""
    home = tmp_path_factory.mktemp("lively")
    weights = checkpoint(home / "weights", "multilingual")
    return max_whisper.load(max_whisper.build(spec, weights=weights, dtype=request.param, out=home / "artifact"))


def one_by_one(model: Model) -> Model:
    """Returns the same model, but that it takes one token of one text in a step."""
    other = max_whisper.load(model._artifact.folder)
    other._executor._decoder.most_texts = 1
    return other


def proposals(draft: list[int], chosen: list[int], most: int = 3) -> list[list[int]]:
    """What is proposed before each chosen token, and after the last."""
    follow = Draft(draft, TIMESTAMPS)
    found = [[*follow.proposed(most)]]
    for token in chosen:
        follow.follow(token)
        found.append([*follow.proposed(most)])
    return found


def test_what_follows_is_proposed() -> None:
    assert proposals([1, 2, 3, 4], [1, 2, 3, 4]) == [[1, 2, 3], [2, 3, 4], [3, 4], [4], []]


def test_nothing_is_proposed_until_two_tokens_are_found_again() -> None:
    draft = [1, 2, 3, 4, 5, 6]
    assert proposals(draft, [1, 9, 3, 4, 5]) == [[1, 2, 3], [2, 3, 4], [], [], [5, 6], [6]]
    assert proposals([*draft, 7, 8], [1, 9, 2, 3, 4], most=9)[2:] == [[], [], [4, 5], [5, 6, 7]]
    assert proposals(draft, [8, 9]) == [[1, 2, 3], [], []]


def test_of_several_places_the_next_one_is_taken() -> None:
    draft = [1, 2, 3, 7, 1, 2, 4, 1, 2, 5]
    assert proposals(draft, [1, 2, 3, 9, 1, 2])[-1] == [4, 1]
    assert proposals(draft, [8, 1, 2])[-1] == [3, 7]
    assert proposals(draft, [1, 2, 3, 7, 1, 2, 4, 1, 2, 5, 6, 1, 2])[-1] == [3, 7]  # from the beginning again


def test_timestamps_need_not_be_those_of_the_draft() -> None:
    assert proposals([1, 2], [100, 1, 107, 2])[1:] == [[1, 2], [2], [2], []]
    assert proposals([100, 1, 2, 107, 107, 3], [1, 2, 3])[1:] == [[2, 107, 107], [107, 107, 3], []]
    assert proposals([100, 1, 107, 107, 2], [102, 1, 105, 106, 2])[1:-1] == [
        [1, 107, 107],
        [107, 107, 2],
        [107, 2],
        [2],
    ]


def test_an_empty_draft_proposes_nothing() -> None:
    assert proposals([], [1, 2, 100]) == [[], [], [], []]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"without_timestamps": True, "max_new_tokens": 40},
    {"prompt": list(range(300)), "max_new_tokens": 400},
    {"suppress_blank": False, "suppress_tokens": "", "max_initial_timestamp": 0.1, "max_new_tokens": 7},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_draft_changes_no_bit(lively: Model, options: dict[str, Any]) -> None:
    rng, options = random.Random(3), {"language": "en", **options}
    for sound in (sweep(2.0), noise(2.0, seed=1)):
        features = lively.encode(lively.log_mel(sound)[None])
        expected = lively.decode(features, **options)
        tokens = expected[0].tokens
        assert len(tokens) > 5
        without = [token for token in tokens if token < lively.manifest.tokens.timestamp_begin]
        changed = [rng.randrange(300) if rng.random() < 0.2 else token for token in tokens]
        fewer = [token for token in tokens if rng.random() < 0.8]
        several = [
            tokens,
            without,
            tokens[3:],
            tokens * 3,
            changed,
            fewer,
            [5] * 50,
            [],
            tokens[::-1],
            expected[0].text,
        ]
        for draft in several:
            assert lively.decode(features, draft=draft, **options) == expected


def test_a_right_draft_saves_steps(lively: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    features = lively.encode(lively.log_mel(sweep(2.0))[None])
    decoder, lengths = lively._executor._decoder, []
    graph = decoder.step

    class Counting:
        def execute(self, *inputs: Any) -> Any:
            lengths.append(inputs[0].shape)
            return graph.execute(*inputs)

    monkeypatch.setattr(decoder, "step", Counting())
    tokens = lively.decode(features, language="en", max_new_tokens=50)[0].tokens
    assert len(lengths) >= len(tokens) - 1 and {*lengths} == {(1, 1)}
    lengths.clear()
    assert lively.decode(features, language="en", max_new_tokens=50, draft=tokens)[0].tokens == tokens
    assert len(lengths) <= len(tokens) / 7 + 2 and (1, 7) in lengths


def test_a_transcription_takes_a_draft_of_all_windows(lively: Model) -> None:
    sound, clips = noise(6.0, seed=2), [0, 2, 2, 4, 4, 6]
    options = {"language": "en", "temperature": (0.0, 0.4), "seed": 1, "clip_timestamps": clips}
    expected = lively.transcribe(sound, **options)
    assert len(expected.windows) == 3
    assert lively.transcribe(sound, draft=expected.text, **options) == expected


@pytest.mark.parametrize("number", [2, 5, 9])
@pytest.mark.parametrize("sound", [sweep(2.0), noise(2.0, seed=1)], ids=["sweep", "noise"])
def test_samples_are_those_of_one_after_the_other(lively: Model, number: int, sound: Any) -> None:
    features = lively.encode(lively.log_mel(sound)[None])
    options = {"language": "en", "best_of": number, "seed": 4, "max_new_tokens": 30}
    given = [{**options, "temperature": 0.3}, {**options, "temperature": 1.1, "prompt": [*range(40)]}]
    together = [lively.decode(features, **options) for options in given]
    model = one_by_one(lively)
    assert [model.decode(features, **options) for options in given] == together


@pytest.mark.parametrize("number", [2, 5, 9])
@pytest.mark.parametrize("sound", [sweep(2.0), noise(2.0, seed=1)], ids=["sweep", "noise"])
def test_beams_are_those_of_one_after_the_other(lively: Model, number: int, sound: Any) -> None:
    features = lively.encode(lively.log_mel(sound)[None])
    options = {"language": "en", "beam_size": number, "max_new_tokens": 30}
    together = lively.decode(features, **options)
    assert one_by_one(lively).decode(features, **options) == together


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.5}, "draft: is for temperature 0"),
        ({"beam_size": 2}, "draft: cannot be verified with beam_size"),
        ({"no_repeat_ngram_size": 2}, "draft: cannot be verified with no_repeat_ngram_size"),
        ({"repetition_penalty": 1.1}, "draft: cannot be verified with repetition_penalty"),
        ({"draft": [1, 99_999]}, "draft: expected ids below 1811, got 99999"),
        ({"draft": [-1]}, "draft: expected text or token ids"),
        ({"draft": 3}, "draft: expected text or token ids"),
    ],
)
def test_drafts_that_are_refused(model: Model, options: dict[str, Any], said: str) -> None:
    features = model.encode(model.log_mel(sweep(2.0))[None])
    with pytest.raises(UserError, match=said):
        model.decode(features, language="en", **{"draft": "some text", **options})


@pytest.mark.parametrize("name", ["batched", "max_model"])
def test_artifacts_that_take_no_draft(name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    features = model.encode(model.log_mel(sweep(2.0))[None])
    for call in (model.decode, model.transcribe):
        with pytest.raises(UserError, match="draft: needs an artifact for a CPU, of batch 1 and with kernels ours"):
            call(features if call == model.decode else sweep(2.0), language="en", draft="some text")


@pytest.fixture
def max_model(max_artifact: Path) -> Model:
    return max_whisper.load(max_artifact)


def test_a_transcription_without_temperature_0_takes_no_draft(model: Model) -> None:
    with pytest.raises(UserError, match="draft: is for temperature 0, which is not asked for"):
        model.transcribe(sweep(2.0), language="en", temperature=(0.2, 0.4), draft="some text")


@pytest.mark.parametrize("most", [1, 3, 6, 50])
def test_the_most_probable_tokens_are_those_of_a_stable_sort(most: int) -> None:
    rng = np.random.default_rng(most)
    for numbers in (rng.standard_normal(40), rng.integers(0, 3, 40), np.full(40, -np.inf), np.full(40, np.nan)):
        logprobs = numbers.astype(np.float32)
        assert most_probable(logprobs, most) == np.argsort(-logprobs, kind="stable")[:most].tolist()


def test_a_draft_can_be_cancelled(model: Model) -> None:
    transcriber = model.transcriber(noise(4.0), language="en", draft="some text")
    transcriber.cancel()
    with pytest.raises(Cancelled):
        list(transcriber)
