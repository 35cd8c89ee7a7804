"""What a loaded model gives: shapes, the rules of greedy decoding, and what it refuses.

Numbers against an independent implementation are the business of the parity tests; here results are checked against
each other and against numpy.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import max_whisper
import msgspec
import numpy as np
import pytest
from max_whisper import DecodingResult, Model
from max_whisper.errors import AudioError, UserError
from max_whisper.runtime.features import Features
from max_whisper.runtime.transcription.requests import Align
from support.artifacts import copy, reseal
from support.models.small import SMALL, TOKENS
from support.models.vocabulary import LANGUAGES
from support.sounds import noise, silence, sweep, write_wav

SPECIAL = TOKENS.special


@pytest.fixture(scope="module")
def mel(model: Model) -> np.ndarray:
    """Three windows: a tone, noise and silence, float32 [3, 80, 200]."""
    return np.stack([model.log_mel(sound) for sound in (sweep(2.0), noise(2.0), silence(2.0))])


@pytest.fixture(scope="module")
def features(model: Model, mel: np.ndarray) -> Features:
    return model.encode(mel)


def decode(model: Model, features: Any, **options: Any) -> list[DecodingResult]:
    """Text alone."""
    return model.decode(features, without_timestamps=True, **options)


# --- shapes


def test_log_mel(model: Model) -> None:
    assert model.log_mel(sweep(2.0)).shape == (80, 200)
    assert model.log_mel(sweep(2.0), padding=1600).shape == (80, 210)
    assert model.log_mel(sweep(2.0).tolist()).dtype == np.float32
    with pytest.raises(AudioError, match="NaN"):
        model.log_mel(np.full(16000, np.nan, np.float32))


def test_windows(model: Model) -> None:
    waveform = noise(5.0)
    windows = model.windows(waveform)
    assert windows.shape == (3, 80, 200) and windows.dtype == np.float32
    whole = model.log_mel(waveform, padding=2 * 16000)
    assert np.array_equal(np.concatenate([*windows], axis=1)[:, :600], whole[:, :600])
    assert np.array_equal(np.asarray(model.encode(windows)), np.asarray(model.encode(np.array([*windows]))))


def test_the_tail_of_the_last_window_is_silence(model: Model) -> None:
    (window,) = model.windows(noise(1.0))
    assert np.ptp(window[:, 102:]) == 0 and window[0, 102] == window.min() < window[:, :98].max()
    assert np.array_equal(window, model.log_mel(np.concatenate([noise(1.0), silence(1.0)])))


@pytest.mark.parametrize(("seconds", "count"), [(0.001, 1), (0.5, 1), (2.0, 1), (2.005, 1), (2.01, 2), (4.0, 2)])
def test_how_many_windows_there_are(model: Model, seconds: float, count: int) -> None:
    assert model.windows(noise(seconds)).shape == (count, 80, 200)


def test_windows_of_a_file(model: Model, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "noise.wav", noise(3.0))
    waveform = max_whisper.load_audio(path)
    assert np.array_equal(model.windows(path), model.windows(waveform))
    with pytest.raises(UserError, match="audio_track"):
        model.windows(waveform, audio_track=1)
    with pytest.raises(AudioError, match="no-such"):
        model.windows("no-such.wav")


def test_encode(model: Model, features: Features, mel: np.ndarray) -> None:
    assert features.shape == (3, 100, 64) and len(features) == 3
    array = np.asarray(features)
    assert array.shape == (3, 100, 64) and array.dtype == np.float32
    assert np.isfinite(array).all()
    assert np.abs(array[0] - array[1]).max() > 0.1
    np.testing.assert_array_equal(np.array(features, dtype=np.float64), array)
    np.testing.assert_array_equal(np.asarray(model.encode(mel[1:2]))[0], array[1])


@pytest.mark.parametrize("change", [np.float64, np.asfortranarray, lambda mel: np.repeat(mel, 2, axis=0)[::2]])
def test_encode_takes_any_floats_in_any_layout(model: Model, mel: np.ndarray, features: Features, change: Any) -> None:
    np.testing.assert_array_equal(np.asarray(model.encode(change(mel))), np.asarray(features))


def test_logits(model: Model, features: Features) -> None:
    tokens = [[1, 2, 3, 4]] * 3
    logits = model.logits(features, tokens)
    assert logits.shape == (3, 4, SMALL["n_vocab"]) and logits.dtype == np.float32
    np.testing.assert_array_equal(model.logits(np.asarray(features), np.array(tokens, np.int32)), logits)
    # The past alone matters: other tokens behind do not.
    np.testing.assert_allclose(model.logits(features, [[1, 2, 9]] * 3)[:, :2], logits[:, :2], atol=1e-4)
    assert np.abs(model.logits(features, [[5, 2, 3, 4]] * 3)[:, 3] - logits[:, 3]).max() > 0.01
    # So does the audio.
    assert np.abs(logits[0] - logits[1]).max() > 0.01


def test_decode(model: Model, features: Features) -> None:
    results = decode(model, features, language="en", max_new_tokens=20)
    assert [len(result.tokens) for result in results] == [20, 20, 20]
    assert results[0].tokens != results[1].tokens
    for result in results:
        assert result.language == "en"
        assert result.text == model.tokenizer.decode(result.tokens).strip()
        assert all(type(token) is int for token in result.tokens)


def test_decode_of_an_array_is_that_of_features(model: Model, features: Features) -> None:
    results = decode(model, features, language="en", max_new_tokens=20)
    assert decode(model, np.asarray(features), language="en", max_new_tokens=20) == results
    assert decode(model, features, language="en", max_new_tokens=20) == results


# --- greedy decoding against logits


def masked(model: Model, logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of the tokens after the prompt, [new, n_vocab], by the rules."""
    tokens = model.manifest.tokens
    scores = logits.astype(np.float64)
    scores[:, tokens.suppress] = -np.inf
    scores[0, tokens.begin_suppress] = -np.inf
    scores -= scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def check_greedy(model: Model, features: Features, count: int) -> list[int]:
    """Checks each token and the average of their log-probabilities against one teacher-forced pass."""
    lengths = []
    eot = model.manifest.tokens.eot
    language = "en" if model.multilingual else None
    prompt = model.tokenizer.prompt(language, without_timestamps=True)
    for i, result in enumerate(decode(model, features, language=language, max_new_tokens=count)):
        window = np.asarray(features)[i : i + 1]
        ended = len(result.tokens) < count
        sampled = [*result.tokens, eot] if ended else result.tokens
        scores = masked(model, model.logits(window, [[*prompt, *sampled]])[0, len(prompt) - 1 : -1])
        assert scores.argmax(1).tolist() == sampled
        total = scores[np.arange(len(sampled)), sampled].sum()
        assert result.avg_logprob == pytest.approx(total / (len(result.tokens) + 1), abs=1e-4)
        lengths.append(len(result.tokens))
    return lengths


def test_greedy_tokens_are_the_best_ones(model: Model, features: Features) -> None:
    assert check_greedy(model, features, 40) == [40, 40, 40]


def test_greedy_tokens_of_an_english_model(english: Model, mel: np.ndarray) -> None:
    assert check_greedy(english, english.encode(mel), 40) == [40, 40, 40]


def test_decoding_ends_at_end_of_text(ending: Model, mel: np.ndarray) -> None:
    lengths = check_greedy(ending, ending.encode(mel), 100)
    assert all(0 < length < 100 for length in lengths)


def test_suppressed_tokens(model: Model, features: Features) -> None:
    """Without the lists the model would choose some of them."""
    tokens = model.manifest.tokens
    prompt = model.tokenizer.prompt("en", without_timestamps=True)
    results = decode(model, features, language="en", max_new_tokens=200)
    chosen = {token for result in results for token in result.tokens}
    assert not chosen & set(tokens.suppress)
    assert not {result.tokens[0] for result in results} & set(tokens.begin_suppress)
    sampled = [[*prompt, *result.tokens] for result in results]
    assert set(model.logits(features, sampled)[:, len(prompt) - 1 : -1].argmax(2).ravel()) & set(tokens.suppress)


def test_suppression_at_the_beginning(model: Model, artifact: Path, features: Features, tmp_path: Path) -> None:
    """Tokens that came first are forbidden there: others come first, and the same ones later."""
    firsts = {result.tokens[0] for result in decode(model, features, language="en", max_new_tokens=1)}
    tokens = msgspec.structs.replace(model.manifest.tokens, begin_suppress=sorted(firsts))
    folder = copy(artifact, tmp_path / "changed")
    reseal(folder, tokens=tokens)
    results = decode(max_whisper.load(folder), features, language="en", max_new_tokens=200)
    assert not {result.tokens[0] for result in results} & firsts
    assert {token for result in results for token in result.tokens} & firsts


# --- limits


def test_max_new_tokens(model: Model, features: Features) -> None:
    long = decode(model, features, language="en", max_new_tokens=30)
    short = decode(model, features, language="en", max_new_tokens=1)
    assert [result.tokens for result in short] == [result.tokens[:1] for result in long]
    default = decode(model, np.asarray(features)[:1], language="en")
    assert len(default[0].tokens) == SMALL["n_text_ctx"] // 2


def test_text_context_is_the_limit(model: Model, features: Features) -> None:
    window = np.asarray(features)[:1]
    (result,) = decode(model, window, language="en", max_new_tokens=10_000)
    prompt = model.tokenizer.prompt("en", without_timestamps=True)
    assert len(prompt) + len(result.tokens) == SMALL["n_text_ctx"] + 1  # the last is written, but not read again
    scores = masked(model, model.logits(window, [[*prompt, *result.tokens[:-1]]])[0, len(prompt) - 1 :])
    assert scores.argmax(1).tolist() == result.tokens


# --- languages and tasks


def test_language_detection(model: Model, features: Features) -> None:
    logits = model.logits(features, [[SPECIAL["<|startoftranscript|>"]]] * 3)[:, 0].astype(np.float64)
    shares = np.exp(logits[:, [TOKENS.languages[f"<|{code}|>"] for code in LANGUAGES]])
    shares /= shares.sum(1, keepdims=True)
    detected = model.detect_language(features)
    for found, expected in zip(detected, shares, strict=True):
        assert list(found.values()) == sorted(found.values(), reverse=True)
        for code, share in zip(LANGUAGES, expected, strict=True):
            assert found[code] == pytest.approx(share, abs=1e-5)
    results = decode(model, features, max_new_tokens=5)
    for i, result in enumerate(results):
        assert result.language == next(iter(detected[i]))
        window = np.asarray(features)[i : i + 1]
        (told,) = decode(model, window, language=result.language, max_new_tokens=5)
        assert told == result


def test_prompts(model: Model, english: Model) -> None:
    def ids(*names: str) -> list[int]:
        return [SPECIAL[f"<|{name}|>"] for name in names]

    begin, end = "startoftranscript", "notimestamps"
    assert model.tokenizer.prompt("de", "transcribe", True) == ids(begin, "de", "transcribe", end)
    assert model.tokenizer.prompt("german", "translate", True) == ids(begin, "de", "translate", end)
    tokens = english.manifest.tokens
    assert english.tokenizer.prompt(None, without_timestamps=True) == [tokens.sot, tokens.notimestamps]
    assert model.prompt(language="German", without_timestamps=True) == ids(begin, "de", "transcribe", end)
    assert model.prompt(language="de", task="translate") == ids(begin, "de", "translate")
    assert english.prompt() == english.prompt(language="en") == [tokens.sot]
    before = [SPECIAL["<|startofprev|>"], *model.tokenizer.encode(" so far")]
    prompt = model.prompt(language="de", prompt="so far", prefix=[1, 2])
    assert prompt == [*before, *ids(begin, "de", "transcribe"), 1, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no language given"),
        ({"language": "xx"}, "unknown language 'xx'"),
        ({"language": "de", "task": "sing"}, "task: expected transcribe or translate, got 'sing'"),
        ({"language": "de", "prefix": [10**6]}, "expected token ids below"),
        ({"language": "de", "beam_size": 2}, "unknown option 'beam_size'"),
    ],
)
def test_wrong_prompts(model: Model, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        model.prompt(**options)
    assert said in str(raised.value)


def test_the_prompt_is_what_decode_begins_with(model: Model, features: Features) -> None:
    options: dict[str, Any] = {"language": "de", "prompt": "so far", "prefix": "and now"}
    (result, *_) = decode(model, features, max_new_tokens=3, **options)
    prompt = model.prompt(without_timestamps=True, **options)
    logits = model.logits(np.asarray(features)[:1], [[*prompt, *result.tokens[:-1]]])[0, len(prompt) - 1 :]
    assert masked(model, logits).argmax(1).tolist() == result.tokens


def test_task_and_language_reach_the_decoder(model: Model, features: Features) -> None:
    for options in ({"language": "en"}, {"language": "de"}, {"language": "de", "task": "translate"}):
        prompt = model.tokenizer.prompt(options["language"], options.get("task", "transcribe"), True)
        first = masked(model, model.logits(features, [prompt] * 3)[0, -1:])
        result = decode(model, features, max_new_tokens=1, **options)[0]
        assert result.tokens == first.argmax(1).tolist()
        assert result.avg_logprob == pytest.approx(first.max() / 2, abs=1e-4)


def test_english_model(english: Model, mel: np.ndarray) -> None:
    assert not english.multilingual
    features = english.encode(mel)
    results = decode(english, features, max_new_tokens=5)
    assert decode(english, features, language="English", max_new_tokens=5) == results
    assert {result.language for result in results} == {"en"}
    with pytest.raises(UserError, match="no languages to detect"):
        english.detect_language(features)
    with pytest.raises(UserError, match="does not know the language 'de'"):
        english.decode(features, language="de")
    with pytest.raises(UserError, match="cannot translate"):
        english.decode(features, task="translate")
    assert english.transcribe(sweep(2.0), max_new_tokens=5).language == "en"


# --- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"language": "xx"}, "unknown language 'xx'"),
        ({"language": ""}, "unknown language ''"),
        ({"language": "grman"}, "did you mean 'german'"),
        ({"language": "fr"}, "does not know the language 'fr' (French)"),
        ({"task": "sing"}, "task: expected transcribe or translate, got 'sing'"),
        ({"task": "translat"}, "did you mean 'translate'"),
        ({"max_new_tokens": 0}, "max_new_tokens: expected 1 to 100000, or none, got 0"),
        ({"best_of": 0, "temperature": 1.0}, "best_of: expected 1 to 100, or none, got 0"),
        ({"length_penalty": 2.0}, "length_penalty: expected 0 to 1, or none, got 2.0"),
        ({"suppress_tokens": "1,a"}, "suppress_tokens: expected ids with commas between them, or none, got '1,a'"),
        ({"suppress_tokens": [1811]}, "suppress_tokens: expected ids below 1811, got 1811"),
        ({"max_initial_timestamp": 3.0}, "max_initial_timestamp: expected 0 to 2 seconds, got 3"),
        ({"temprature": 1.0}, "unknown option 'temprature'; did you mean 'temperature'?"),
    ],
)
def test_wrong_options(model: Model, features: Features, options: dict[str, Any], said: str) -> None:
    for call in (lambda: model.decode(features, **options), lambda: model.transcribe("no-such-file.wav", **options)):
        with pytest.raises(UserError) as raised:
            call()
        assert said in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"best_of": 5}, "best_of: with temperature 0 every sample is the same"),
        ({"beam_size": 5, "temperature": 0.5}, "beam_size: a search takes no samples"),
        ({"beam_size": 0}, "beam_size: expected 1 to 100, or none, got 0"),
        ({"patience": 2.0}, "patience: is for a beam search, give beam_size too"),
        ({"patience": 0.2, "beam_size": 2}, "patience: 0.2 times a beam_size of 2 is less than one finished text"),
        ({"patience": 0.0, "beam_size": 2}, "patience: expected 0.01 to 100, or none, got 0.0"),
        ({"prefix": [1] * 500}, "prefix: expected a prompt of at most 448 tokens with it, got 503"),
        ({"prompt": [1811]}, "prompt and prefix: expected token ids below 1811, got"),
        ({"prefix": [-1]}, "prefix: expected text or token ids, each 0 to 2147483647, or none, got -1"),
        ({"prompt": "text", "initial_prompt": "text"}, "unknown option 'initial_prompt'"),
    ],
)
def test_wrong_options_of_a_window(model: Model, features: Features, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        model.decode(features, **options)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": ()}, "temperature: expected at least one"),
        ({"temperature": (0, -0.5)}, "temperature: expected 0 to 10, got -0.5"),
        (
            {"clip_timestamps": "1,x"},
            "clip_timestamps: expected seconds with commas between them, each 0 to 86400, got '1,x'",
        ),
        ({"clip_timestamps": "2,1"}, "clip_timestamps: expected seconds in order"),
        ({"clip_timestamps": [-1]}, "clip_timestamps: expected 0 to 86400 seconds, got -1"),
        ({"clip_timestamps": [float("nan")]}, "clip_timestamps: expected 0 to 86400 seconds, got nan"),
        ({"clip_timestamps": "5"}, "expected times within the 2 seconds of the recording, got 5"),
        ({"prompt": "text"}, "give the text before the recording as initial_prompt"),
        ({"initial_promt": "text"}, "unknown option 'initial_promt'; did you mean 'initial_prompt'?"),
        ({"seed": -1}, "seed: expected 0 to 9223372036854775807, got -1"),
    ],
)
def test_wrong_options_of_a_transcription(model: Model, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        model.transcribe(sweep(2.0), **options)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((80, 200), np.float32),
        np.zeros((1, 80, 199), np.float32),
        np.zeros((1, 128, 200), np.float32),
        np.zeros((1, 200, 80), np.float32),
        np.zeros((0, 80, 200), np.float32),
        np.zeros((1, 80, 200), np.int64),
        np.zeros((1, 80, 200), np.complex64),
        np.zeros((), np.float32),
        [["text"]],
    ],
    ids=lambda wrong: f"{np.asarray(wrong).dtype} {np.asarray(wrong).shape}",
)
def test_wrong_mel(model: Model, wrong: Any) -> None:
    with pytest.raises(UserError, match=r"mel: expected float32 \[windows, n_mels, n_frames\] = \[n, 80, 200\], got"):
        model.encode(wrong)


def test_wrong_numbers(model: Model, mel: np.ndarray, features: Features) -> None:
    for number in (np.nan, np.inf):
        broken, broken_features = mel.copy(), np.asarray(features).copy()
        broken[1, 5, 5] = broken_features[1, 5, 5] = number
        with pytest.raises(UserError, match="mel: expected finite numbers"):
            model.encode(broken)
        with pytest.raises(UserError, match="features: expected finite numbers"):
            model.decode(broken_features)


def test_numbers_are_cast_before_they_are_checked(model: Model, mel: np.ndarray) -> None:
    """1e300 is finite until it is float32."""
    huge = mel.astype(np.float64)
    huge[0, 3, 3] = 1e300
    with pytest.raises(UserError, match="mel: expected finite numbers"):
        model.encode(huge)
    with pytest.raises(UserError, match="features: expected finite numbers"):
        model.decode(np.full((1, 100, 64), -1e300))


def test_features_that_are_not_finite_are_refused(model: Model) -> None:
    """A mel of finite numbers that the encoder's own arithmetic makes infinite."""
    with pytest.raises(UserError, match="mel: the encoder gave NaN or infinity for numbers of up to 3e\\+38"):
        model.encode(np.full((1, 80, 200), 3e38, np.float32))


def test_logits_that_are_not_finite_are_refused(model: Model) -> None:
    huge = np.full((1, 100, 64), 3e38, np.float32)
    with pytest.raises(UserError, match="logits: expected finite numbers"):
        model.logits(huge, [[1, 2]])
    for options in ({}, {"beam_size": 2}, {"temperature": 1.0}):
        with pytest.raises(UserError, match="features: the decoder gave logits that are not finite"):
            model.decode(huge, language="en", max_new_tokens=3, **options)


@pytest.mark.parametrize("ragged", [[[1], [1, 2]], [[1, 2], 3], object()])
def test_what_is_no_array_is_refused(model: Model, features: Features, ragged: Any) -> None:
    calls = {
        "mel": lambda: model.encode(ragged),
        "features": lambda: model.decode(ragged),
        "tokens": lambda: model.logits(features, ragged),
        "waveform": lambda: model.log_mel(ragged),
    }
    for name, call in calls.items():
        with pytest.raises(UserError, match=name):
            call()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tokens": [1811]}, "tokens: expected ids below"),
        ({"tokens": [-1]}, "tokens: expected ids below"),
        ({"tokens": [1.5]}, "tokens: expected integers"),
        ({"tokens": [[1]]}, "tokens: expected integers"),
        ({"tokens": "text"}, "tokens: expected integers"),
        ({"n_frames": -1}, "n_frames: expected 0 to 200, got -1"),
        ({"n_frames": 10**9}, "n_frames: expected 0 to 200, got 1000000000"),
        ({"n_frames": None}, "n_frames: expected an integer, 0 to 200, got None"),
        ({"language": "xx"}, "unknown language 'xx'"),
        ({"language": None}, "language: expected a code or an English name, got None"),
        ({"task": "sing"}, "task: expected transcribe or translate, got 'sing'"),
    ],
)
def test_wrong_alignments(model: Model, features: Features, arguments: dict[str, Any], said: str) -> None:
    fitting = {"tokens": [1, 2], "language": "en", "task": "transcribe", "n_frames": 200}
    with pytest.raises(UserError) as raised:
        model.scheduler.ask([Align(features.windows[0], **fitting | arguments)])
    assert said in str(raised.value)


@pytest.mark.parametrize("audios", [None, 3, "talk.wav", b"x", Path("talk.wav"), np.float32(0)])
def test_what_is_no_list_of_recordings(model: Model, audios: Any) -> None:
    with pytest.raises(UserError, match="audios: expected a list of recordings"):
        model.transcribe_batch(audios)


def test_progress_is_checked_before_the_work(model: Model) -> None:
    for call in (
        lambda: model.transcribe("no-such.wav", progress=None),
        lambda: model.transcribe_batch([], progress=3),
    ):
        with pytest.raises(UserError, match="progress: expected a function"):
            call()


@pytest.mark.parametrize("padding", [-1, 10**12, 1.5, float("nan"), None, "many"])
def test_wrong_padding(model: Model, padding: Any) -> None:
    with pytest.raises(UserError, match="padding: expected"):
        model.log_mel(np.zeros(400, np.float32), padding=padding)


def test_wrong_features(model: Model) -> None:
    for shape in ((100, 64), (1, 100, 63), (1, 99, 64), (0, 100, 64)):
        with pytest.raises(UserError, match=r"features: expected float32 \[windows, n_audio_ctx, d_model\]"):
            model.decode(np.zeros(shape, np.float32))


def test_features_of_another_model(model: Model, batched: Model, mel: np.ndarray) -> None:
    with pytest.raises(UserError, match="of another model"):
        model.decode(batched.encode(mel))


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([[1, 2]], "expected integers [3, length], got int64 [1, 2]"),
        ([1, 2, 3], "expected integers [3, length], got int64 [3]"),
        ([[1.0]] * 3, "got float64 [3, 1]"),
        ([[True]] * 3, "got bool"),
        ([[]] * 3, "expected integers"),
        (np.zeros((3, 0), np.int64), "expected 1 to 448 for each window, got 0"),
        (np.zeros((3, 449), np.int64), "expected 1 to 448 for each window, got 449"),
        ([[-1]] * 3, "expected ids below 1811, got -1 to -1"),
        ([[0], [0], [1811]], "got 0 to 1811"),
        (np.full((3, 1), 2**63, np.uint64), "expected ids below 1811"),
    ],
)
def test_wrong_tokens(model: Model, features: Features, tokens: Any, said: str) -> None:
    with pytest.raises(UserError) as raised:
        model.logits(features, tokens)
    assert said in str(raised.value)


def test_longest_tokens(model: Model, features: Features) -> None:
    logits = model.logits(features, np.full((3, 448), SMALL["n_vocab"] - 1))
    assert logits.shape == (3, 448, SMALL["n_vocab"]) and np.isfinite(logits).all()


# --- threads


@pytest.mark.skipif(sys.platform != "linux", reason="the policies of threads are Linux's")
@pytest.mark.parametrize("first", ["model.encode(mel)", "model.decode(features, language='en', max_new_tokens=1)"])
def test_what_wakes_all_the_time_does_not_interrupt(artifact: Path, first: str) -> None:
    """The thread of MAX's log, which the first graph starts. Its own process: MAX does that once."""
    program = f"""
        import os, numpy as np, max_whisper
        model = max_whisper.load({str(artifact)!r})
        mel, features = np.zeros((1, 80, 200), np.float32), np.zeros((1, 100, 64), np.float32)
        before = set(os.listdir("/proc/self/task"))
        {first}
        started = set(os.listdir("/proc/self/task")) - before
        print([os.sched_getscheduler(int(thread)) == os.SCHED_BATCH for thread in started])
        print([os.sched_getscheduler(int(thread)) == os.SCHED_OTHER for thread in before])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    started, before = done.stdout.splitlines()
    assert started == "[True]"
    assert "False" not in before


def test_a_waveform_needs_no_ffmpeg(artifact: Path) -> None:
    program = f"""
        import sys, numpy as np, max_whisper
        max_whisper.load({str(artifact)!r}).transcribe(np.zeros(32000, np.float32), language="en", max_new_tokens=2)
        print("av" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
