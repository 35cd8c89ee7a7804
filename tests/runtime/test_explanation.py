"""Which rule kept the decoder from the argmax token, beside openai/whisper's filters applied one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import max_whisper
import numpy as np
import pytest
from max_whisper import Model
from max_whisper.runtime.decoding import explanation
from max_whisper.runtime.decoding.explanation import SEARCH, TIE, overrides, summary
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.rule import History, active_rules
from max_whisper.runtime.decoding.rules import timestamps
from max_whisper.runtime.results import Override
from support.decoding_rules import Restated
from support.sounds import noise, silence, sweep
from support.transcribe_cases import checkpoint, sounds
from support.windows import Windows

OF_TIMESTAMPS = {
    f"timestamps: {part}"
    for part in (
        timestamps.NO_NOTIMESTAMPS,
        timestamps.FIRST,
        timestamps.MAX_INITIAL,
        timestamps.PAIRS,
        timestamps.NEVER_BACK,
        timestamps.TOGETHER,
    )
}
NO_TOKEN = f"timestamps: {timestamps.NO_TOKEN}"
OPTIONS: list[dict[str, Any]] = [
    {},
    {"without_timestamps": True},
    {"suppress_blank": False, "suppress_tokens": ""},
    {"max_initial_timestamp": 0.02},
    {"prefix": "the weather", "prompt": "the cat"},
    {"max_new_tokens": 5},
    {"no_repeat_ngram_size": 2, "without_timestamps": True},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8, "no_repeat_ngram_size": 3, "prefix": "the weather the weather"},
]


@pytest.fixture(scope="module")
def lively(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that writes timestamps and ends its texts."""
    home = tmp_path_factory.mktemp("lively")
    weights = checkpoint(home / "weights", "multilingual")
    return max_whisper.load(max_whisper.build(spec, weights=weights, dtype="float32", out=home / "artifact"))


def check(
    found: list[Override], raw: np.ndarray, chosen: list[int], restated: Restated, prefix: Sequence[int] = ()
) -> None:
    """That what was found is what the restated rules say, at every step whose largest logit was not taken."""
    by_step = {one.step: one for one in found}
    for step, (row, token) in enumerate(zip(raw, chosen, strict=True)):
        scores, reason = restated(row, chosen[:step], prefix)
        assert scores.argmax() == token
        if row.argmax() == token:
            assert step not in by_step
        else:
            assert by_step.pop(step) == Override(step, int(row.argmax()), token, reason)
    assert not by_step


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["model", "english", "lively"])
def test_the_rule_is_the_one_that_masks(name: str, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    tokens, given = model.manifest.tokens, DecodingOptions(**options, language="en")
    restated = Restated.of(model, given)
    prefix = given.prefix_tokens(model.manifest, model.tokenizer)
    seen: set[str] = set()
    for sound in (sweep(2.0), noise(2.0), silence(2.0)):
        window = Windows(model, sound)
        (result,) = window.decode(given)
        prompt, _ = given.prompt_tokens("en", model.manifest, model.tokenizer)
        ended = len(result.tokens) < given.limit(model.manifest)
        chosen = [*result.tokens, tokens.eot] if ended else result.tokens
        (found,) = window.explain([result], given)
        raw = window.logits([[*prompt, *chosen]])[0, len(prompt) - 1 : -1]
        check(found, raw, chosen, restated, prefix)
        seen |= {one.reason for one in found}
    assert TIE not in seen
    assert not seen & OF_TIMESTAMPS or not given.without_timestamps


@pytest.mark.parametrize(("name", "padding"), [("model", set()), ("english", {NO_TOKEN})])
def test_every_rule_is_found(name: str, padding: set[str], request: pytest.FixtureRequest) -> None:
    """Scores by chance, in which each kind of token wins now and then, and the texts that the filters make of them."""
    model: Model = request.getfixturevalue(name)
    tokens, n_vocab, rng = model.manifest.tokens, model.manifest.dims["n_vocab"], np.random.default_rng(0)
    first, always = tokens.begin_suppress, tokens.suppress
    begin, end = tokens.timestamp_begin, tokens.timestamp_begin + tokens.n_timestamps
    often = range(300, 303)
    kinds = [[tokens.eot], [tokens.notimestamps], first, always, range(begin), range(begin, end), range(end, n_vocab)]
    options = DecodingOptions(repetition_penalty=1.1, no_repeat_ngram_size=2, max_initial_timestamp=1.0)
    rules = active_rules(options, model.manifest, model.tokenizer)
    restated = Restated.of(model, options)
    seen: set[str] = set()
    for _ in range(40):
        raw = rng.standard_normal((30, n_vocab)).astype(np.float32)
        chosen: list[int] = []
        for row in raw:
            row[list([*kinds, often][rng.integers(len(kinds) + 1)])] += rng.uniform(0, 8)
            chosen.append(int(restated(row, chosen)[0].argmax()))
        found = overrides(raw, chosen, rules=rules, history=History(), otherwise=TIE)
        check(found, raw, chosen, restated)
        seen |= {one.reason for one in found}
    assert seen == OF_TIMESTAMPS | padding | {
        "repetition_penalty: the text has the token already",
        "no_repeat_ngram_size: the text has these 2 tokens already",
        "suppress_blank: the first token is no blank and no end",
        "suppress_tokens",
    }


def test_a_search_is_not_called_a_rule(lively: Model) -> None:
    given = DecodingOptions(
        language="en", beam_size=3, without_timestamps=True, suppress_tokens="", suppress_blank=False
    )
    reasons = set()
    for seed in range(3):
        window = Windows(lively, noise(2.0, seed=seed))
        reasons |= {one.reason for one in window.explain(window.decode(given), given)[0]}
    assert reasons == {SEARCH}


def test_a_sample_is_not_called_a_rule(lively: Model) -> None:
    given = DecodingOptions(language="en", temperature=1.0)
    window = Windows(lively, noise(2.0))
    (result,), (greedy,) = window.decode(given), window.decode(DecodingOptions())
    (found,) = window.explain([result], given)
    sampled = [one for one in found if one.reason == explanation.SAMPLE]
    assert sampled and len(sampled) < len(found)
    assert result.tokens != greedy.tokens


def test_of_a_whole_recording(lively: Model) -> None:
    sound = sounds()["mixed"]
    plain = lively.transcribe(sound, language="en", temperature=0)
    explained = lively.transcribe(sound, language="en", temperature=0, explain=True)
    assert explained.segments == plain.segments
    assert not any(window.overrides for window in plain.windows)
    assert all(window.overrides for window in explained.windows)
    for window in explained.windows:
        tokens = [*window.result.tokens, lively.manifest.tokens.eot]
        assert [one.chosen for one in window.overrides] == [tokens[one.step] for one in window.overrides]
        assert not {one.reason for one in window.overrides} & {TIE, SEARCH, explanation.SAMPLE}


def test_together_as_alone(batched: Model) -> None:
    recordings = [noise(3.0, seed=1), sweep(2.0), noise(4.0, seed=2)]
    options: dict[str, Any] = {"language": "en", "temperature": 0, "explain": True, "max_new_tokens": 30}
    together = batched.transcribe_batch(recordings, **options)
    assert together == [batched.transcribe(recording, **options) for recording in recordings]
    assert all(window.overrides for result in together for window in result.windows)


def test_a_summary_is_short(model: Model) -> None:
    begin = model.manifest.tokens.timestamp_begin
    found = [Override(step, 260, begin + step, f"timestamps: {timestamps.PAIRS}") for step in range(200)]
    found.append(Override(200, model.manifest.tokens.eot, 270, "suppress_tokens"))
    texts = [repr(model.tokenizer.decode([token])) for token in (260, 270)]
    assert summary(found, model.tokenizer) == [
        f"200 x timestamps: they come in pairs: token 0 <0.00>, not {texts[0]}; token 1 <0.02>, not {texts[0]}; "
        f"token 2 <0.04>, not {texts[0]}; and 197 more",
        f"1 x suppress_tokens: token 200 {texts[1]}, not end of text",
    ]
    assert summary([], model.tokenizer) == []


def test_several_windows_at_once(batched: Model) -> None:
    """Texts of several lengths, and options that have nothing in common."""
    sounds = [noise(2.0, seed=seed) for seed in range(3)]
    options = [
        DecodingOptions(language="en", max_new_tokens=9),
        DecodingOptions(language="de", prompt="the cat", without_timestamps=True, max_new_tokens=30),
        DecodingOptions(language="en", suppress_blank=False, suppress_tokens="", max_new_tokens=3),
    ]
    alone = [Windows(batched, sound) for sound in sounds]
    results = [window.decode(option)[0] for window, option in zip(alone, options, strict=True)]
    together = Windows(batched, *sounds).explain(results, *options)
    assert together == [
        window.explain([result], option)[0] for window, result, option in zip(alone, results, options, strict=True)
    ]
    assert all(together) and len({len(result.tokens) for result in results}) == 3
