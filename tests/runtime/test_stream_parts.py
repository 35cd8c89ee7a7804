"""The parts of a stream, each alone: pauses, policies, chunks, the sound that is kept."""

from __future__ import annotations

import numpy as np
import pytest
from max_whisper.runtime.streaming.endpoints import Endpoints
from max_whisper.runtime.streaming.policies import LISTENING_SECONDS, AlignAtt, LocalAgreement
from max_whisper.runtime.streaming.resampling import Resampler
from max_whisper.runtime.streaming.sound import ChunkReader, Sound
from max_whisper.runtime.transcription.words import Timing
from max_whisper.runtime.vad.speech import SpeechSettings
from support.sounds import noise

CHUNK = 512
SETTINGS = SpeechSettings(threshold=0.5, min_silence_duration_ms=500)


def word(text: str, attended: float, probability: float = 0.9) -> Timing:
    return Timing(text, [hash(text) % 1000], attended - 0.2, attended, probability, attended)


def heard(*probabilities: tuple[float, int], longest: float = 28.0) -> tuple[Endpoints, int]:
    """Returns what hears chunks, so many of each probability, and the number of samples."""
    endpoints, now = Endpoints(SETTINGS, longest), 0
    for probability, count in probabilities:
        for _ in range(count):
            endpoints.hear(probability, now)
            now += CHUNK
    return endpoints, now


def test_speech_begins_at_the_threshold() -> None:
    endpoints, now = heard((0.49, 10), (0.5, 3))
    assert endpoints.began == 10 * CHUNK
    assert endpoints.spoken(now) == 3 * 32 and endpoints.silence(now) == 0


def test_speech_goes_on_between_the_thresholds() -> None:
    endpoints, now = heard((0.9, 10), (0.4, 100))
    assert endpoints.silent_since is None and not endpoints.ended(now)
    endpoints, now = heard((0.9, 10), (0.1, 1), (0.4, 15))  # and silence, too
    assert endpoints.silent_since == 10 * CHUNK and endpoints.ended(now)


def test_a_pause_of_half_a_second_ends_a_phrase() -> None:
    endpoints, now = heard((0.9, 10), (0.0, 15))
    assert not endpoints.ended(now)
    endpoints.hear(0.0, now)
    assert endpoints.ended(now + CHUNK) and endpoints.spoken(now + CHUNK) == 320
    endpoints.reset()
    assert (endpoints.began, endpoints.silent_since) == (None, None)


def test_a_pause_goes_on_behind_a_cut() -> None:
    endpoints, now = heard((0.9, 10), (0.0, 5))
    endpoints.cut(now - CHUNK)
    assert (endpoints.began, endpoints.silent_since) == (now - CHUNK, now - CHUNK)
    endpoints, now = heard((0.9, 10))
    endpoints.cut(3 * CHUNK)
    assert (endpoints.began, endpoints.silent_since) == (3 * CHUNK, None)


def test_a_word_ends_a_pause() -> None:
    endpoints, now = heard((0.9, 10), (0.0, 15), (0.9, 1), (0.0, 15))
    assert endpoints.silent_since == 26 * CHUNK and not endpoints.ended(now)


@pytest.mark.parametrize(("seconds", "pause"), [(13, 500), (21, 300), (28, 100), (40, 100)])
def test_long_phrases_end_at_shorter_pauses(seconds: int, pause: int) -> None:
    chunks = round(seconds * 16000 / CHUNK)
    endpoints, now = heard((0.9, chunks))
    silent = 0
    while not endpoints.ended(now):
        endpoints.hear(0.0, now)
        silent, now = silent + 32, now + CHUNK
    assert silent == pytest.approx(pause, abs=32)


def test_alignatt_holds_back_the_newest_sound() -> None:
    words = [word("one", 1.0), word("two", 2.0), word("three", 4.6), word("four", 3.0)]
    assert AlignAtt(0.5).confirmed(words, 5.0) == 2
    assert AlignAtt(0.3).confirmed(words, 5.0) == 4
    assert AlignAtt(0.5).confirmed([], 5.0) == 0


def test_alignatt_listens_first() -> None:
    assert AlignAtt(0.5).confirmed([word("one", 0.0)], LISTENING_SECONDS - 0.1) == 0
    assert AlignAtt(0.5).confirmed([word("one", 0.4)], LISTENING_SECONDS) == 1


def test_an_improbable_word_waits_for_the_next_hypothesis() -> None:
    policy = AlignAtt(0.5)
    words = [word("one", 1.0), word("to", 2.0, probability=0.2), word("three", 3.0)]
    assert policy.confirmed(words, 5.0) == 1
    assert policy.confirmed(words[1:], 5.5) == 2
    policy = AlignAtt(0.5)
    assert policy.confirmed(words, 5.0) == 1
    assert policy.confirmed([word("two", 2.0, probability=0.2), words[2]], 5.5) == 0


def test_local_agreement_wants_the_same_words_twice() -> None:
    policy = LocalAgreement()
    one, two, three, other = (word(text, 1.0) for text in ("one", "two", "three", "other"))
    assert policy.confirmed([one, two], 5.0) == 0
    assert policy.confirmed([one, other], 5.0) == 1
    assert policy.confirmed([other, three], 5.0) == 1  # "one" is not shown any more
    assert policy.confirmed([three], 5.0) == 1


def test_bytes_may_end_within_a_sample() -> None:
    samples = (noise(0.1) * 32767).astype("<i2")
    data, reader = samples.tobytes(), ChunkReader(16000)
    parts = [reader.read(data[first : first + 7]) for first in range(0, len(data), 7)]
    assert np.array_equal(np.concatenate(parts), samples / np.float32(32768))


@pytest.mark.parametrize("size", [1, 77, 10_000])
def test_a_resampler_does_not_know_of_chunks(size: int) -> None:
    sound = noise(0.3)
    whole, parts = Resampler(24000), Resampler(24000)
    expected = np.concatenate([whole.resampled(sound), whole.rest()])
    pieces = [parts.resampled(sound[first : first + size]) for first in range(0, len(sound), size)]
    assert np.allclose(np.concatenate([*pieces, parts.rest()]), expected, atol=1e-6)
    assert len(expected) == pytest.approx(len(sound) * 16000 / 24000, abs=32)


def test_the_rest_of_nothing_is_nothing() -> None:
    assert len(Resampler(8000).rest()) == 0
    assert len(ChunkReader(16000).rest()) == 0


def test_sound_is_numbered_and_forgotten() -> None:
    sound, whole = Sound(), noise(300.0)
    for first in range(0, len(whole), 4000):
        sound.append(whole[first : first + 4000])
        keep = max(0, sound.end - 5 * 16000)
        sound.forget(keep)
        assert np.array_equal(sound.part(keep, sound.end), whole[keep : sound.end])
    assert sound.end == len(whole)
    assert len(sound._kept) <= 4 * 5 * 16000
