"""Which rule kept the decoder from the argmax token, beside openai/whisper's filters applied one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import max_whisper
import numpy as np
import pytest
from max_whisper import DecodingResult, Features, Model
from max_whisper.runtime.decoding import explanation, rules
from max_whisper.runtime.decoding.explanation import SEARCH, TIE, overrides, summary
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.rules import TimestampRules
from max_whisper.runtime.results import Override
from max_whisper.runtime.transcription.requests import Decode, Explain
from max_whisper.tokens import Tokens
from support.sounds import noise, silence, sweep
from support.transcribe_cases import checkpoint, sounds

OF_TIMESTAMPS = {
    rules.NO_NOTIMESTAMPS,
    rules.STAMP_FIRST,
    rules.MAX_INITIAL,
    rules.PAIRS,
    rules.NEVER_BACK,
    explanation.TOGETHER,
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"without_timestamps": True},
    {"suppress_blank": False, "suppress_tokens": ""},
    {"max_initial_timestamp": 0.02},
    {"prefix": "the weather", "prompt": "the cat"},
    {"max_new_tokens": 5},
]


@pytest.fixture(scope="module")
def lively(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that writes timestamps and ends its texts."""
    home = tmp_path_factory.mktemp("lively")
    weights = checkpoint(home / "weights", "multilingual")
    return max_whisper.load(max_whisper.build(spec, weights=weights, out=home / "artifact"))


def filtered(
    logits: np.ndarray,
    sampled: list[int],
    tokens: Tokens,
    first: list[int],
    always: list[int],
    max_initial: int | None,
) -> tuple[np.ndarray, str]:
    """Logits [n_vocab] after the filters of openai/whisper (decoding.py), and which of them masked the largest.

    max_initial: None is without timestamps.
    """
    argmax, logits = logits.argmax(), logits.astype(np.float64)
    masked_by: list[str] = []

    def mask(rule: str, ids: Any) -> None:
        logits[ids] = -np.inf
        if np.isneginf(logits[argmax]):
            masked_by.append(rule)

    if not sampled:
        mask(explanation.BLANK, list(first))
    mask(explanation.SUPPRESSED, list(always))
    if max_initial is not None:
        begin, end = tokens.timestamp_begin, tokens.timestamp_begin + tokens.n_timestamps
        mask(rules.NO_NOTIMESTAMPS, tokens.notimestamps)
        mask(rules.NO_TOKEN, slice(end, None))
        last_was = bool(sampled) and sampled[-1] >= begin
        penultimate_was = len(sampled) < 2 or sampled[-2] >= begin
        if last_was:
            mask(rules.PAIRS, slice(begin, None) if penultimate_was else slice(tokens.eot))
        if stamps := [token for token in sampled if token >= begin]:
            mask(rules.NEVER_BACK, slice(begin, stamps[-1] + (0 if last_was and not penultimate_was else 1)))
        if not sampled:
            mask(rules.STAMP_FIRST, slice(begin))
            mask(rules.MAX_INITIAL, slice(begin + max_initial + 1, None))
        together = np.logaddexp.reduce(logits[begin:])
        if together > logits[:begin].max():
            mask(explanation.TOGETHER, slice(begin))
    return logits, masked_by[0] if masked_by else ""


def explain(model: Model, features: Features, result: DecodingResult, options: DecodingOptions) -> list[Override]:
    (found,) = model.scheduler.ask([Explain(features.windows[0], result, options)])
    return found


def check(found: list[Override], raw: np.ndarray, chosen: list[int], **given: Any) -> None:
    """That what was found is what masked each token, at every step whose largest logit was not taken."""
    by_step = {one.step: one for one in found}
    for step, (row, token) in enumerate(zip(raw, chosen, strict=True)):
        scores, reason = filtered(row, chosen[:step], **given)
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
    timestamps = not given.without_timestamps
    latest = tokens.max_initial_timestamp if given.max_initial_timestamp is None else 1
    seen: set[str] = set()
    for sound in (sweep(2.0), noise(2.0), silence(2.0)):
        features = model.encode(model.log_mel(sound)[None])
        (result,) = model.scheduler.ask([Decode(features.windows[0], given)])
        prompt, _ = given.prompt_tokens("en", model.manifest, model.tokenizer)
        ended = len(result.tokens) < given.limit(model.manifest)
        chosen = [*result.tokens, tokens.eot] if ended else result.tokens
        found = explain(model, features, result, given)
        check(
            found,
            model.logits(features, [[*prompt, *chosen]])[0, len(prompt) - 1 : -1],
            chosen,
            tokens=tokens,
            first=tokens.begin_suppress if given.suppress_blank else [],
            always=given.suppressed(model.manifest),
            max_initial=latest if timestamps else None,
        )
        seen |= {one.reason for one in found}
    assert TIE not in seen
    assert not seen & OF_TIMESTAMPS or timestamps


@pytest.mark.parametrize(("name", "padding"), [("model", set()), ("english", {rules.NO_TOKEN})])
def test_every_rule_is_found(name: str, padding: set[str], request: pytest.FixtureRequest) -> None:
    """Scores by chance, in which each kind of token wins now and then, and the texts that the filters make of them."""
    model: Model = request.getfixturevalue(name)
    tokens, n_vocab, rng = model.manifest.tokens, model.manifest.dims["n_vocab"], np.random.default_rng(0)
    first, always = tokens.begin_suppress, tokens.suppress
    begin, end = tokens.timestamp_begin, tokens.timestamp_begin + tokens.n_timestamps
    kinds = [[tokens.eot], [tokens.notimestamps], first, always, range(begin), range(begin, end), range(end, n_vocab)]
    given: dict[str, Any] = {"tokens": tokens, "first": first, "always": always, "max_initial": 50}
    seen: set[str] = set()
    for _ in range(40):
        raw = rng.standard_normal((30, n_vocab)).astype(np.float32)
        chosen: list[int] = []
        for row in raw:
            row[list(kinds[rng.integers(len(kinds))])] += rng.uniform(0, 8)
            chosen.append(int(filtered(row, chosen, **given)[0].argmax()))
        found = overrides(
            raw, chosen, first=first, always=always, rules=TimestampRules(tokens, max_initial=50), otherwise=TIE
        )
        check(found, raw, chosen, **given)
        seen |= {one.reason for one in found}
    assert seen == OF_TIMESTAMPS | {explanation.BLANK, explanation.SUPPRESSED} | padding


def test_a_search_is_not_called_a_rule(lively: Model) -> None:
    given = DecodingOptions(
        language="en", beam_size=3, without_timestamps=True, suppress_tokens="", suppress_blank=False
    )
    reasons = set()
    for seed in range(3):
        features = lively.encode(lively.log_mel(noise(2.0, seed=seed))[None])
        (result,) = lively.scheduler.ask([Decode(features.windows[0], given)])
        reasons |= {one.reason for one in explain(lively, features, result, given)}
    assert reasons == {SEARCH}


def test_a_sample_is_not_called_a_rule(lively: Model) -> None:
    given = DecodingOptions(language="en", temperature=1.0)
    features = lively.encode(lively.log_mel(noise(2.0))[None])
    (result,) = lively.scheduler.ask([Decode(features.windows[0], given)])
    (greedy,) = lively.scheduler.ask([Decode(features.windows[0], DecodingOptions(language="en"))])
    found = explain(lively, features, result, given)
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
    found = [Override(step, 260, begin + step, rules.PAIRS) for step in range(200)]
    found.append(Override(200, model.manifest.tokens.eot, 270, explanation.SUPPRESSED))
    texts = [repr(model.tokenizer.decode([token])) for token in (260, 270)]
    assert summary(found, model.tokenizer) == [
        f"200 x timestamps come in pairs: token 0 <0.00>, not {texts[0]}; token 1 <0.02>, not {texts[0]}; "
        f"token 2 <0.04>, not {texts[0]}; and 197 more",
        f"1 x suppress_tokens: token 200 {texts[1]}, not end of text",
    ]
    assert summary([], model.tokenizer) == []


def test_several_windows_at_once(batched: Model) -> None:
    """Texts of several lengths, and options that have nothing in common."""
    features = batched.encode(np.stack([batched.log_mel(noise(2.0, seed=seed)) for seed in range(3)]))
    options = [
        DecodingOptions(language="en", max_new_tokens=9),
        DecodingOptions(language="de", prompt="the cat", without_timestamps=True, max_new_tokens=30),
        DecodingOptions(language="en", suppress_blank=False, suppress_tokens="", max_new_tokens=3),
    ]
    alone = [batched.encode(batched.log_mel(noise(2.0, seed=seed))[None]) for seed in range(3)]
    requests = [Decode(one.windows[0], given) for one, given in zip(alone, options, strict=True)]
    results = batched.scheduler.ask(requests)
    together = batched.scheduler.ask(
        [Explain(*request) for request in zip(features.windows, results, options, strict=True)]
    )
    assert together == [explain(batched, *request) for request in zip(alone, results, options, strict=True)]
    assert all(together) and len({len(result.tokens) for result in results}) == 3
