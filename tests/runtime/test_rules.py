"""Decoding rules: on the host as in the compiled graphs, each beside a restatement, and one of the user's own."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, make_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import max_whisper
import numpy as np
import pytest
from max_whisper import Model
from max_whisper.errors import Cancelled, UserError
from max_whisper.option_kinds import Flag
from max_whisper.runtime.decoding import rule
from max_whisper.runtime.decoding.greedy import choose
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.rule import (
    CompiledForm,
    Floats,
    History,
    LogitRule,
    active_rules,
    compiled_form,
    processed,
    register,
    rules,
)
from max_whisper.runtime.decoding.rules.no_repeat_ngram import NoRepeatNgram
from max_whisper.runtime.decoding.rules.repetition_penalty import RepetitionPenalty
from max_whisper.runtime.results import DecodingResult
from support.decoding_rules import Restated
from support.sounds import noise, sweep
from support.transcribe_cases import checkpoint
from support.windows import Windows

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-rule.md").read_text()
OPTION, OWN, COMPILED = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
FIELD = re.fullmatch(r" {4}no_digits: (.*) = (.*)\n", OPTION).groups()  # type: ignore[union-attr]
MODELS = ["model", "english", "lively", "batched"]


@pytest.fixture(scope="module")
def lively(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that writes timestamps and ends its texts."""
    home = tmp_path_factory.mktemp("lively")
    weights = checkpoint(home / "weights", "multilingual")
    return max_whisper.load(max_whisper.build(spec, weights=weights, dtype="float32", out=home / "artifact"))


def windows(model: Model) -> Windows:
    """One window, or of a model that computes three at once two, so that a row is not used."""
    return Windows(model, *[sweep(2.0), noise(2.0, seed=1)][: max(1, model.manifest.plan.batch - 1)])


def decoded(model: Model, **options: Any) -> list[DecodingResult]:
    return windows(model).decode(DecodingOptions(**options))


# --- on the host as in the graphs


@dataclass(frozen=True)
class Nothing(LogitRule):
    """A rule without a compiled form that changes nothing, so that tokens are chosen on the host."""

    @classmethod
    def of(cls, options: Any, manifest: Any, tokenizer: Any) -> Nothing:
        return cls()

    def apply(self, logits: Floats, history: History) -> None:
        assert logits.dtype == np.float32 and logits.ndim == 1


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers a rule for one test."""
    rules()
    others = {name: each for name, each in rule._rules.items() if each.order != 50}  # the page's example has 50
    monkeypatch.setattr(rule, "_rules", others)
    return lambda cls, name="own", order=50: register(name, order=order)(cls)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"without_timestamps": True, "max_new_tokens": 40},
        {"suppress_blank": False, "suppress_tokens": "", "max_new_tokens": 30},
        {"max_initial_timestamp": 0.1, "prefix": "the weather", "prompt": "the cat"},
        {"temperature": 0.7, "seed": 3, "best_of": 2},
        {"temperature": 1.5, "seed": 1, "without_timestamps": True},
        {"prompt": list(range(300)), "max_new_tokens": 400},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", MODELS)
def test_the_host_chooses_as_the_graphs_do(
    name: str, options: dict[str, Any], request: pytest.FixtureRequest, registered: Callable[..., None]
) -> None:
    model: Model = request.getfixturevalue(name)
    expected = decoded(model, **options)
    registered(Nothing)
    found = decoded(model, **options)
    for one, other in zip(found, expected, strict=True):
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-5)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-6)
        assert replace(one, avg_logprob=0, no_speech_prob=0) == replace(other, avg_logprob=0, no_speech_prob=0)


def test_rules_of_the_graphs_stay_in_the_graphs(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_host(*args: Any, **keywords: Any) -> Any:
        raise AssertionError("chosen on the host")

    monkeypatch.setattr("max_whisper.runtime.decoding.window_decoder.generate_on_host", on_host)
    decoded(model, max_new_tokens=3)
    decoded(model, max_new_tokens=3, temperature=1.0, without_timestamps=True, suppress_blank=False)
    with pytest.raises(AssertionError, match="chosen on the host"):
        decoded(model, max_new_tokens=3, no_repeat_ngram_size=1)


# --- each new rule


TEXTS: list[list[int]] = [[], [3], [3, 3], [3, 4, 3], [3, 4, 5, 3, 4], [3, 4, 5, 3, 4, 6, 3, 4], [7] * 6]


@pytest.mark.parametrize("text", TEXTS, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_no_run_is_repeated(size: int, text: list[int]) -> None:
    logits = np.ones(9, np.float32)
    NoRepeatNgram(size).apply(logits, History(prompt=[8, *text, 8], prefix=text[:2], sampled=text[2:]))
    runs = {tuple(text[i : i + size]) for i in range(len(text) - size + 1)}
    for token in range(9):
        repeated = len(text) >= size - 1 and (*text[len(text) - size + 1 :], token) in runs
        assert logits[token] == (-np.inf if repeated else 1)


@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
def test_a_penalty_counts_once_and_always_lowers(penalty: float) -> None:
    logits = np.array([2, -2, 3, -3, 0, -np.inf], np.float32)
    RepetitionPenalty(penalty).apply(logits, History(prompt=[3], prefix=[0], sampled=[1, 5, 1, 1, 4]))
    expected = np.array([2 / penalty, -2 * penalty, 3, -3, 0, -np.inf], np.float32)
    assert logits.dtype == np.float32 and np.array_equal(logits, expected)


RULED: list[dict[str, Any]] = [
    {"no_repeat_ngram_size": 1, "max_new_tokens": 40},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3, "without_timestamps": True},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 1.05, "no_repeat_ngram_size": 2, "prefix": "the weather the", "prompt": "the cat"},
    {"repetition_penalty": 0.7, "without_timestamps": True, "suppress_tokens": "", "suppress_blank": False},
]


def restated(windows: Windows, options: DecodingOptions, rng: np.random.Generator | None = None) -> list[list[int]]:
    """The tokens of each window, one after the other by the restated rules and whole teacher-forced passes."""
    model = windows.model
    rules_of, tokens = Restated.of(model, options), model.manifest.tokens
    prompt, _ = options.prompt_tokens("en", model.manifest, model.tokenizer)
    prefix = options.prefix_tokens(model.manifest, model.tokenizer)
    limit = min(options.limit(model.manifest), model.manifest.dims["n_text_ctx"] + 1 - len(prompt))
    rows: list[list[int]] = [[] for _ in windows.features]
    for _ in range(limit):
        if all(row[-1:] == [tokens.eot] for row in rows):
            break
        logits = windows.logits([[*prompt, *row] for row in rows])[:, -1]
        sample = np.zeros(logits.shape[1]) if rng is None else gumbel(rng, logits.shape[1]) * options.temperature
        for row, raw in zip(rows, logits, strict=True):
            ended = tokens.eot in row
            row.append(tokens.eot if ended else int((rules_of(raw, row, prefix)[0] + sample).argmax()))
    return [row[: row.index(tokens.eot)] if tokens.eot in row else row for row in rows]


def gumbel(rng: np.random.Generator, n: int) -> np.ndarray:
    return -np.log(np.maximum(rng.standard_exponential(n, np.float32), np.finfo(np.float32).tiny))


@pytest.mark.parametrize("options", RULED, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_greedy_follows_the_rules(name: str, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    given, sounds = DecodingOptions(**{"max_new_tokens": 60, **options}), windows(model)
    assert [result.tokens for result in sounds.decode(given)] == restated(sounds, given)


@pytest.mark.parametrize("options", RULED, ids=str)
@pytest.mark.parametrize("name", ["lively", "batched"])
def test_samples_follow_the_rules(name: str, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    given = DecodingOptions(**{**options, "max_new_tokens": 25, "temperature": 0.8, "seed": 5})
    sounds = windows(model)
    found = [result.tokens for result in sounds.decode(given)]
    assert found == restated(sounds, given, np.random.default_rng([5, 0]))


def beams(window: Windows, options: DecodingOptions) -> list[int]:
    """The best text of one window by a plain beam search: lists of tokens, sorted anew at each step, no caches."""
    model = window.model
    rules_of, eot, size = Restated.of(model, options), model.manifest.tokens.eot, options.beam_size or 1
    prompt, _ = options.prompt_tokens("en", model.manifest, model.tokenizer)
    prefix = options.prefix_tokens(model.manifest, model.tokenizer)
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for _ in range(options.limit(model.manifest)):
        candidates = []
        for total, text in alive:
            scores, _ = rules_of(window.logits([[*prompt, *text]])[0, -1], text, prefix)
            logprobs = scores - np.logaddexp.reduce(scores)
            best = np.argsort(-logprobs, kind="stable")[: size + 1]
            candidates += [(total + logprobs[token], [*text, int(token)]) for token in best]
        alive, ended = [], []
        for candidate in sorted(candidates, key=lambda pair: -pair[0]):
            if candidate[1][-1] == eot:
                ended.append(candidate)
            elif len(alive) < size:
                alive.append(candidate)
            if len(alive) == size:
                break
        finished += ended[: size - len(finished)]
        if len(finished) >= size:
            break
    for total, text in alive:
        if len(finished) < size:
            finished.append((total, [*text, eot]))
    return max(finished, key=lambda pair: pair[0] / max(len(pair[1]) - 1, 1))[1][:-1]


@pytest.mark.parametrize("options", RULED, ids=str)
@pytest.mark.parametrize("name", ["model", "lively"])
def test_beams_follow_the_rules(name: str, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    given, window = DecodingOptions(**{**options, "max_new_tokens": 20, "beam_size": 3}), windows(model)
    (result,) = window.decode(given)
    assert result.tokens == beams(window, given)


def test_the_rules_change_the_text(model: Model) -> None:
    """Otherwise the tests above compare what no rule has touched."""
    plain = decoded(model, max_new_tokens=60)[0].tokens
    for options in ({"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.3}):
        assert decoded(model, max_new_tokens=60, **options)[0].tokens != plain
    found = decoded(model, max_new_tokens=60, no_repeat_ngram_size=2)[0].tokens
    runs = [*pairwise(found)]
    assert len({*runs}) == len(runs)


# --- the registry


def test_the_order_is_that_of_the_references() -> None:
    names = ["repetition_penalty", "no_repeat_ngram_size", "suppress_blank", "suppress_tokens", "timestamps"]
    found = [each.name for each in rules()]
    assert [name for name in found if name in names] == names and found[-1] == "timestamps"


def test_names_and_orders_are_unique(registered: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match="two classes for the decoding rule 'timestamps': TimestampRules and Nothing"):
        registered(Nothing, "timestamps", 7)
    with pytest.raises(ValueError, match="decoding rules 'suppress_blank' and 'own' have the same order 30"):
        registered(Nothing, "own", 30)
    assert "own" not in rule._rules


def test_two_rules_with_ranges_are_for_the_host(model: Model) -> None:
    (*_, timestamps) = active_rules(DecodingOptions(), model.manifest, model.tokenizer)
    assert compiled_form([timestamps]) == CompiledForm(ranges=timestamps)
    assert compiled_form([timestamps, timestamps]) is None
    assert compiled_form([]) == CompiledForm()


def test_rules_that_leave_nothing_are_an_error(model: Model) -> None:
    everything = list(range(model.manifest.dims["n_vocab"]))
    with pytest.raises(UserError, match=r"no_repeat_ngram_size.*suppress_tokens.*mask every token after the first 0"):
        decoded(model, suppress_tokens=everything, no_repeat_ngram_size=1)


def test_the_choice_has_its_own_probability() -> None:
    scores = np.array([1, 3, -np.inf, 2], np.float32)
    logprobs = scores - np.logaddexp.reduce(scores)
    for added, token in ((None, 1), (np.array([0, 0, 99, 5], np.float32), 3)):
        assert choose(scores, added) == (token, pytest.approx(logprobs[token]))
    assert processed([], scores, History()) is not scores


# --- one's own, as docs/adding-a-rule.md has it


def with_the_option() -> Any:
    """The option class of the package after the page's first step."""
    names = {"Annotated": Annotated, "Flag": Flag}
    kind, default = (eval(text, names) for text in FIELD)
    return make_dataclass("WithOption", [("no_digits", kind, default)], bases=(DecodingOptions,), frozen=True)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: Callable[..., None]) -> Iterator[Path]:
    """A file that is in no package, which a test writes and imports as `rule_of_mine`."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "rule_of_mine.py"
    sys.modules.pop("rule_of_mine", None)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"beam_size": 2}], ids=str)
@pytest.mark.parametrize("added", ["", COMPILED])
def test_a_rule_is_one_file_and_one_option(model: Model, file: Path, added: str, options: dict[str, Any]) -> None:
    file.write_text(OWN + added)
    importlib.import_module("rule_of_mine")
    with_option = with_the_option()
    off, on = (with_option(**options, max_new_tokens=40, no_digits=value) for value in (False, True))
    window = windows(model)
    (plain,), (result,) = window.decode(off), window.decode(on)
    assert re.search(r"\d", plain.text) and not re.search(r"\d", result.text)
    (found,) = window.explain([result], on)
    assert "no_digits: the token has a digit in it" in {one.reason for one in found}
    forms = [compiled_form(active_rules(each, model.manifest, model.tokenizer)) for each in (off, on)]
    assert [form is not None for form in forms] == [True, added != ""]


def test_a_rule_outside_of_the_package_needs_no_option(model: Model, file: Path) -> None:
    file.write_text(OWN.replace(" if options.no_digits else None", ""))
    assert "no_digits else" not in file.read_text()
    assert re.search(r"\d", decoded(model, max_new_tokens=40)[0].text)
    importlib.import_module("rule_of_mine")
    assert not re.search(r"\d", decoded(model, max_new_tokens=40)[0].text)


def test_the_page_lists_all_rules() -> None:
    listed = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert [(int(order), name) for order, name in listed] == [(each.order, each.name) for each in rules()]


# --- cancelling


class Counted:
    """A stop that counts how often it was asked, and says yes after some times."""

    def __init__(self, after: int) -> None:
        self.after, self.asked = after, 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self.after


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"no_repeat_ngram_size": 50}, {"beam_size": 2}], ids=str)
def test_a_decoder_stops_at_a_token(model: Model, options: dict[str, Any]) -> None:
    given, window, patient = DecodingOptions(max_new_tokens=9, **options), windows(model), Counted(after=1000)
    (expected,) = window.decode(given, stop=patient)
    assert len(expected.tokens) == 9 == patient.asked
    for after in (0, 4, 8):
        stop = Counted(after)
        with pytest.raises(Cancelled, match=r"^the work was cancelled before its end"):
            window.decode(given, stop=stop)
        assert stop.asked == after + 1
    assert window.decode(given) == [expected]
