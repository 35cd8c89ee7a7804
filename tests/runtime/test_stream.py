"""Streams: what is told while somebody speaks, and that the final texts are those of `decode`."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import max_whisper
import numpy as np
import pytest
from max_whisper.errors import AudioError, Cancelled, UserError
from max_whisper.runtime.features import Features
from max_whisper.runtime.streaming.stream import Stream
from max_whisper.runtime.transcription.requests import Decode, Encode, Request
from max_whisper.runtime.transcription.scheduler import Scheduler
from support.sounds import int16, noise, silence

AUDIO = Path(__file__).parents[2] / "examples" / "audio"
RATE = 16000


def sound(name: str) -> np.ndarray:
    """Returns a recording that the nano model understands, with a pause behind it."""
    return np.concatenate([max_whisper.load_audio(AUDIO / f"{name}.flac"), silence(1.0)])


@pytest.fixture(scope="module")
def commands() -> np.ndarray:
    return sound("commands")


def chunks(samples: Any, size: int) -> Iterator[Any]:
    return (samples[first : first + size] for first in range(0, len(samples), size))


def told(stream: Stream, pieces: Iterator[Any] | Sequence[Any]) -> list[max_whisper.StreamEvent]:
    return [event for piece in pieces for event in stream.feed(piece)] + stream.finish()


def finals(events: Sequence[max_whisper.StreamEvent]) -> list[max_whisper.StreamEvent]:
    return [event for event in events if event.kind == "final"]


def text(events: Sequence[max_whisper.StreamEvent]) -> str:
    return "".join(event.text for event in finals(events))


@pytest.mark.parametrize("name", ["commands", "spelling"])
def test_the_words_are_those_of_the_whole_recording(nano: max_whisper.Model, silero: Path, name: str) -> None:
    samples = sound(name)
    events = told(nano.stream(), chunks(samples, 1600))
    assert text(events).split() == (AUDIO / f"{name}.txt").read_text().split()


def test_the_order_of_events(nano: max_whisper.Model, silero: Path, commands: np.ndarray) -> None:
    events = told(nano.stream(), chunks(commands, 800))
    for number in {event.phrase for event in events}:
        kinds = [event.kind for event in events if event.phrase == number]
        assert kinds[0] == "speech_started" and kinds[-2:] == ["speech_stopped", "final"]
        assert {*kinds[1:-2]} <= {"confirmed", "hypothesis"}
    assert [event.phrase for event in events] == sorted(event.phrase for event in events)
    assert any(event.kind == "confirmed" for event in events) and any(event.kind == "hypothesis" for event in events)


def test_words_have_times(nano: max_whisper.Model, silero: Path, commands: np.ndarray) -> None:
    whole = nano.transcribe(commands, word_timestamps=True)
    expected = [(word.word.strip(), word.start) for segment in whole.segments for word in segment.words or ()]
    events = told(nano.stream(), chunks(commands, 1600))
    found = [(word.word.strip(), word.start) for event in finals(events) for word in event.words]
    assert [word for word, _ in found] == [word for word, _ in expected]
    assert found[0][1] == pytest.approx(expected[0][1], abs=0.3)
    assert found == sorted(found, key=lambda word: word[1])
    for event in events:
        assert event.text == "".join(word.word for word in event.words)
        for word in event.words:
            assert 0 <= word.start <= word.end <= len(commands) / RATE
        if event.kind == "final" and event.segment is not None:
            assert (event.segment.text, event.segment.words) == (event.text, event.words)
            assert event.start - 0.01 <= event.segment.start <= event.segment.end <= event.end + 0.01


def tokens_of(events: Sequence[max_whisper.StreamEvent]) -> list[int]:
    return [token for event in events if event.segment is not None for token in event.segment.tokens]


class Spy:
    """A scheduler that notes the texts that were decoded, with their windows."""

    def __init__(self, scheduler: Scheduler, change: Callable[[Any], Any] = lambda result: result) -> None:
        self._scheduler = scheduler
        self._change = change  # of what is decoded
        self._mel: dict[int, np.ndarray] = {}
        self.decoded: list[tuple[np.ndarray, Decode, list[int]]] = []

    def ask(self, requests: Sequence[Request[Any]], caller: Any = None) -> list[Any]:
        answers = self._scheduler.ask(requests, caller)
        for i, request in enumerate(requests):
            if isinstance(request, Encode):
                self._mel = {id(answers[i]): request.mel}
            elif isinstance(request, Decode):
                self.decoded.append((self._mel[id(request.features)], request, answers[i].tokens))
                answers[i] = self._change(answers[i])
        return answers

    def cancel(self, caller: Any) -> None:
        self._scheduler.cancel(caller)


def test_the_final_text_is_that_of_decode(
    nano: max_whisper.Model, silero: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens are equal to those that `Model.decode` finds in the sound of the window after the text before it."""
    samples = np.concatenate([sound("spelling"), sound("commands"), sound("countdown")])
    spy = Spy(nano.scheduler)
    monkeypatch.setattr(nano, "scheduler", spy)
    stream = nano.stream()
    monkeypatch.undo()
    events = told(stream, chunks(samples, 1600))
    with_context = 0
    for event in finals(events):
        assert event.segment is not None
        first = event.segment.seek * 160 / RATE  # of the window, in whole frames
        earlier = [one for one in finals(events) if one.phrase < event.phrase and one.start > first - 0.01]
        prefix, prompt = tokens_of(earlier), tokens_of(finals(events)[: event.phrase - len(earlier)])
        window = samples[round((earlier or [event])[0].start * RATE) : round(event.end * RATE)]
        heard = nano.log_mel(window, padding=nano.n_frames * 160)[:, : nano.n_frames]
        assert any(
            np.array_equal(mel, heard)
            and ([*(asked.options.prefix or ())], [*(asked.options.prompt or ())]) == (prefix, prompt)
            and found == event.segment.tokens
            for mel, asked, found in spy.decoded
        )
        features: Features = nano.encode(heard[None])
        (alone,) = nano.decode(
            features, language="en", prefix=prefix or None, prompt=prompt or None, without_timestamps=True
        )
        assert alone.tokens == event.segment.tokens
        with_context += bool(prefix)
    assert with_context >= 3


@pytest.mark.parametrize("size", [1, 511, 513, 16001, 10**7])
def test_the_size_of_chunks_does_not_matter(
    nano: max_whisper.Model, silero: Path, commands: np.ndarray, size: int
) -> None:
    part = commands[: 4 * RATE] if size == 1 else commands
    expected = finals(told(nano.stream(), chunks(part, 1600)))
    assert finals(told(nano.stream(), chunks(part, size))) == expected and len(expected) > 1


def test_bytes_are_samples(nano: max_whisper.Model, silero: Path, commands: np.ndarray) -> None:
    integers = (commands * 32768).astype("<i2")
    expected = finals(told(nano.stream(), chunks(integers, 1600)))
    assert expected
    assert finals(told(nano.stream(), chunks(integers.tobytes(), 3333))) == expected
    assert finals(told(nano.stream(), [bytearray(integers.tobytes())])) == expected


@pytest.mark.parametrize("rate", [24000, 44100])
def test_other_rates(nano: max_whisper.Model, silero: Path, commands: np.ndarray, rate: int) -> None:
    times = np.arange(round(len(commands) * rate / RATE)) / rate
    other = np.interp(times, np.arange(len(commands)) / RATE, commands).astype(np.float32)
    stream = nano.stream(sample_rate=rate)
    events = told(stream, chunks(other, rate // 10))
    assert text(events).split() == text(told(nano.stream(), chunks(commands, 1600))).split()
    assert stream.seconds == pytest.approx(len(commands) / RATE, abs=0.01)


def test_the_caller_ends_phrases(nano: max_whisper.Model, commands: np.ndarray) -> None:
    stream, part = nano.stream(endpoints="none"), commands[: 7 * RATE]
    events = [event for piece in chunks(part, 1600) for event in stream.feed(piece)]
    assert not finals(events)
    committed = stream.commit()
    assert [event.kind for event in committed] == ["speech_stopped", "final"]
    assert committed[-1].text == nano.transcribe(part, without_timestamps=True).text
    assert stream.commit() == [] and stream.finish() == []
    assert (committed[-1].start, committed[-1].end) == (0, 7)


def test_a_stream_may_end_within_a_word(nano: max_whisper.Model, silero: Path, commands: np.ndarray) -> None:
    stream = nano.stream()
    events = told(stream, chunks(commands[: int(2.65 * RATE)], 1600))
    assert text(events).split()[:2] == ["hello", "open"]
    assert finals(events)[-1].end <= 2.65


def test_long_speech_is_cut_between_words(nano: max_whisper.Model) -> None:
    samples = np.concatenate([sound("spelling")] * 3)
    events = told(nano.stream(endpoints="none"), chunks(samples, 1600))
    ends = finals(events)
    assert len(ends) >= 2 and all(event.end - event.start <= 8.1 for event in ends)
    for event, following in pairwise(ends):
        assert following.start == event.end  # no sound is left out
        words = [word for one in events if one.kind == "confirmed" and one.phrase == event.phrase for word in one.words]
        assert words[-1].end == pytest.approx(event.end, abs=0.01)


def test_what_follows_a_cut_is_not_lost(nano: max_whisper.Model) -> None:
    """The sound ends when the phrase is cut: the words behind the cut are a phrase of their own."""
    samples = sound("spelling")[: 8 * RATE]
    stream = nano.stream(endpoints="none")
    events = [event for piece in chunks(samples, 1600) for event in stream.feed(piece)]
    cut = finals(events)[-1]
    assert stream.seconds == 8 and cut.end < 8
    rest = stream.finish()
    assert finals(rest)[0].start == cut.end and finals(rest)[0].end == 8
    words = text([*events, *rest]).split()
    assert words[:11] == (AUDIO / "spelling.txt").read_text().split()[:11]


def test_timestamps_in_a_text_leave_no_hole(
    nano: max_whisper.Model, silero: Path, commands: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing forbids timestamps where none are asked for: they do not count as text before the next phrase."""
    begin = nano.manifest.tokens.timestamp_begin
    spy = Spy(nano.scheduler, change=lambda result: replace(result, tokens=[*result.tokens, begin + 20, begin + 30]))
    monkeypatch.setattr(nano, "scheduler", spy)
    stream = nano.stream()
    monkeypatch.undo()
    events = told(stream, chunks(commands, 1600))
    assert len(finals(events)) > 2
    for event in finals(events):
        assert event.segment is not None
        assert "".join(word.word for word in event.words) == nano.tokenizer.decode(event.segment.tokens)


@pytest.mark.parametrize(("repetitive", "taken"), [((), 0.0), ((0.0,), 0.2)])
def test_of_texts_that_are_all_refused_the_most_probable_is_taken(
    nano: max_whisper.Model,
    silero: Path,
    commands: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    repetitive: Sequence[float],
    taken: float,
) -> None:
    """A text at a high temperature is invented; the last one that repeats itself is not taken either."""

    def refused(result: Any) -> Any:
        ratio = 10.0 if result.temperature in repetitive else 1.0
        return replace(result, avg_logprob=-1.5 - result.temperature, compression_ratio=ratio)

    monkeypatch.setattr(nano, "scheduler", Spy(nano.scheduler, refused))
    stream = nano.stream()
    monkeypatch.undo()
    ends = [event for event in told(stream, chunks(commands, 1600)) if event.kind == "final"]
    assert ends
    assert {event.segment.temperature for event in ends if event.segment is not None} == {taken}


def test_what_was_found_before_an_error_is_told_later(
    nano: max_whisper.Model, silero: Path, commands: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = finals(told(nano.stream(), chunks(commands, 1600)))
    fails = iter([False, False, True])

    def sometimes(result: Any) -> Any:
        if next(fails, False):
            raise OSError("it went wrong")
        return result

    monkeypatch.setattr(nano, "scheduler", Spy(nano.scheduler, change=sometimes))
    stream = nano.stream()
    monkeypatch.undo()
    with pytest.raises(OSError, match="it went wrong"):
        stream.feed(commands[: 5 * RATE])
    assert finals(stream.feed(b""))[0] == expected[0]


@pytest.mark.parametrize("failing", [{0}, {2}, {3, 4}])
def test_nothing_is_lost_by_an_error(
    nano: max_whisper.Model, silero: Path, commands: np.ndarray, monkeypatch: pytest.MonkeyPatch, failing: set[int]
) -> None:
    """The sound that came in one chunk is heard to its end by the calls that follow, `finish` among them."""
    expected = finals(told(nano.stream(), [commands]))
    calls = iter(range(1000))

    def sometimes(result: Any) -> Any:
        if next(calls) in failing:
            raise MemoryError
        return result

    monkeypatch.setattr(nano, "scheduler", Spy(nano.scheduler, change=sometimes))
    stream = nano.stream()
    monkeypatch.undo()
    events: list[max_whisper.StreamEvent] = []
    for call in (lambda: stream.feed(commands), *[stream.finish] * 4):
        try:
            events += call()
        except MemoryError:
            assert stream.seconds == len(commands) / RATE
            events += stream.told()
    assert finals(events) == expected
    assert stream.finish() == [] and stream.told() == []


def test_a_phrase_may_end_within_a_sample(nano: max_whisper.Model, commands: np.ndarray) -> None:
    """Its other byte comes with the next chunk."""
    data = int16(commands).tobytes()
    stream, whole = nano.stream(endpoints="none"), nano.stream(endpoints="none")
    events = [*stream.feed(data[:80_001]), *stream.commit(), *stream.feed(data[80_001:]), *stream.finish()]
    expected = [*whole.feed(data[:80_000]), *whole.commit(), *whole.feed(data[80_000:]), *whole.finish()]
    assert text(events) == text(expected) != ""


def test_it_is_cancelled_while_it_computes(
    nano: max_whisper.Model, commands: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel(result: Any) -> Any:
        stream.cancel()
        return result

    spy = Spy(nano.scheduler, change=cancel)
    monkeypatch.setattr(nano, "scheduler", spy)
    stream = nano.stream(endpoints="none")
    monkeypatch.undo()
    with pytest.raises(Cancelled):
        stream.feed(commands[: 2 * RATE])
    assert len(spy.decoded) == 1


def test_sound_that_is_too_short_has_no_text(nano: max_whisper.Model, commands: np.ndarray) -> None:
    stream = nano.stream(endpoints="none")
    stream.feed(commands[:1000])
    (final,) = finals(stream.commit())
    assert (final.segment, final.text) == (None, "")


def test_local_agreement(nano: max_whisper.Model, silero: Path, commands: np.ndarray) -> None:
    events = told(nano.stream(policy="local_agreement", step=0.2), chunks(commands, 800))
    assert text(events) == text(told(nano.stream(), chunks(commands, 1600)))
    confirmed = [event.text for event in events if event.kind == "confirmed"]
    assert confirmed and {*"".join(confirmed).split()} <= {*text(events).split()}


def test_the_language_is_detected(model: max_whisper.Model) -> None:
    stream = model.stream(endpoints="none", language_detection_threshold=0.0)
    assert stream.language == ""
    samples = noise(model.n_frames / 200, seed=1)
    events = told(stream, chunks(samples, 8000))
    windows = model.log_mel(samples, padding=model.n_frames * 160)[None, :, : model.n_frames]
    (expected,) = model.detect_language(model.encode(windows))
    assert finals(events)[0].language == stream.language == next(iter(expected))


def test_silence_and_noise_have_no_text(nano: max_whisper.Model, silero: Path) -> None:
    hiss = noise(10.0, seed=3) * 0.02
    stream = nano.stream()
    assert told(stream, chunks(np.concatenate([silence(60.0), hiss]), 16000)) == []
    assert len(stream._sound._kept) < 40 * RATE  # what nobody needs any more is forgotten


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (np.full(1600, np.nan, np.float32), "not finite"),
        (np.full(1600, 3000.0, np.float32), "full scale 1.0"),
        (np.zeros((2, 1600), np.float32), "mix the channels"),
        (np.zeros(1600, np.int32), "type int32"),
    ],
)
def test_a_wrong_chunk_is_left_out(
    nano: max_whisper.Model, silero: Path, commands: np.ndarray, chunk: np.ndarray, said: str
) -> None:
    stream = nano.stream()
    events = [event for piece in chunks(commands[:40000], 1600) for event in stream.feed(piece)]
    with pytest.raises(AudioError, match=said):
        stream.feed(chunk)
    events += told(stream, chunks(commands[40000:], 1600))
    assert finals(events) == finals(told(nano.stream(), chunks(commands, 1600)))


def test_a_detector_that_cannot_be_compiled(
    nano: max_whisper.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"could not be compiled .* vad_model, or end phrases .* endpoints none"):
        nano.stream()


def test_what_is_no_sound(nano: max_whisper.Model) -> None:
    stream = nano.stream(endpoints="none")
    with pytest.raises(UserError, match="expected an array or bytes of s16le, got a str"):
        stream.feed("sound")  # type: ignore[arg-type]
    assert stream.feed(np.zeros(0, np.float32)) == [] and stream.feed(b"") == []
    stream.finish()
    with pytest.raises(UserError, match="finished"):
        stream.feed(b"")


def test_it_is_cancelled_from_another_thread(nano: max_whisper.Model, commands: np.ndarray) -> None:
    stream = nano.stream(endpoints="none")
    stream.feed(commands[: 2 * RATE])
    thread = threading.Thread(target=stream.cancel)
    thread.start()
    thread.join()
    with pytest.raises(Cancelled):
        stream.feed(commands[2 * RATE : 3 * RATE])


def test_several_streams_at_once(nano: max_whisper.Model, silero: Path) -> None:
    names = ["commands", "countdown", "spelling"]
    alone = [finals(told(nano.stream(), chunks(sound(name), 1600))) for name in names]
    with ThreadPoolExecutor(3) as threads:
        together = [*threads.map(lambda name: finals(told(nano.stream(), chunks(sound(name), 1600))), names)]
    assert together == alone


def test_one_that_is_left_open_keeps_nothing(nano: max_whisper.Model, commands: np.ndarray) -> None:
    stream = nano.stream(endpoints="none")
    stream.feed(commands[: 2 * RATE])
    left = weakref.ref(stream)
    del stream
    gc.collect()
    assert left() is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beam_size": 5}, "beam_size: is for recordings, not for streams; leave it out"),
        ({"max_new_tokens": 3}, "max_new_tokens: is for recordings"),
        ({"word_timestamps": True}, "word_timestamps: is for recordings"),
        ({"step": 0.01}, "step: expected 0.1 to 10 seconds, got 0.01"),
        ({"sample_rate": 100}, "sample_rate: expected 1000 to 768000, got 100"),
        ({"polycy": "alignatt"}, "unknown option 'polycy'; did you mean 'policy'"),
        ({"language": "klingon"}, "klingon"),
        ({"vad_model": "/nowhere"}, "vad_model: there is no folder"),
    ],
)
def test_wrong_options(nano: max_whisper.Model, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        nano.stream(**options)
    assert said in str(raised.value)
