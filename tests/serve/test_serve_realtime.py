"""Live transcription at /v1/realtime, with OpenAI's client as the judge."""

from __future__ import annotations

import contextlib
import difflib
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from max_whisper import Model, load_audio
from max_whisper.serve.live.formats import A_LAW, MU_LAW, SoundFormat
from support.realtime import (
    COMPLETED,
    DELTA,
    INTENT,
    completed,
    events_until,
    g711,
    kinds,
    pcm24,
    raw,
    sound_input,
    speak,
    texts,
)
from support.server import Server
from support.server_fixtures import COMMANDS

pytestmark = pytest.mark.usefixtures("silero")
MANUAL = sound_input(turn_detection=None)


@pytest.fixture(scope="module")
def sound() -> bytes:
    return pcm24(COMMANDS)


@pytest.fixture(scope="module")
def expected(nano: Model, sound: bytes) -> list[str]:
    """Returns the text of each phrase."""
    phrases = texts(nano, sound)
    assert len(phrases) > 3
    return phrases


def test_a_session_of_the_official_client(client: openai.OpenAI, sound: bytes, expected: list[str]) -> None:
    with client.realtime.connect(extra_query=INTENT) as connection:
        created = connection.recv()
        assert created.type == "session.created"
        assert created.session.type == "transcription"
        assert created.session.audio.input.turn_detection.type == "server_vad"
        connection.session.update(session=sound_input(transcription={"model": "whisper-1", "language": "en"}))
        updated = connection.recv()
        assert updated.type == "session.updated"
        assert updated.session.audio.input.transcription.language == "en"
        assert updated.session.audio.input.format.rate == 24000
        thread = speak(connection, sound)
        events = events_until(connection, completed(len(expected)))
        thread.join()
    by_item: dict[str, list] = {}
    for event in events:
        by_item.setdefault(getattr(event, "item_id", None) or event.item.id, []).append(event)
    assert len(by_item) == len(expected)
    before, end = None, 0
    for (item, told), text in zip(by_item.items(), expected, strict=True):
        names = [name for name in kinds(told) if not name.endswith("delta")]
        assert names == [
            "speech_started",
            "speech_stopped",
            "committed",
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.completed",
        ]
        started, stopped = told[0], next(event for event in told if event.type.endswith("stopped"))
        assert end <= started.audio_start_ms < stopped.audio_end_ms <= 1000 * len(sound) / 48000
        committed = next(event for event in told if event.type.endswith("committed"))
        assert committed.previous_item_id == before
        assert told[-1].transcript == text == "".join(event.delta for event in told if event.type == DELTA)
        assert told[-1].usage.type == "duration"
        assert 0 < told[-1].usage.seconds < 3
        assert told[-1].languages[0].code == "en"
        before, end = item, stopped.audio_end_ms
    assert len({event.event_id for event in events}) == len(events)


def test_deltas_come_while_somebody_speaks(client: openai.OpenAI, sound: bytes, expected: list[str]) -> None:
    with client.realtime.connect(extra_query=INTENT) as connection:
        connection.recv()
        thread = speak(connection, sound, pause=0.1)
        names = kinds(events_until(connection, completed(len(expected))))
        thread.join()
    early = [i for i, name in enumerate(names) if name.endswith("delta") and "speech_stopped" in names[i + 1 : i + 4]]
    assert early


def test_manual_commits(client: openai.OpenAI, nano: Model, sound: bytes) -> None:
    half = len(sound) // 4 * 2
    with client.realtime.connect(extra_query=INTENT) as connection:
        connection.recv()
        connection.session.update(session=MANUAL)
        assert connection.recv().session.audio.input.turn_detection is None
        expected = nano.stream(sample_rate=24_000, endpoints="none")
        for part in (sound[:half], sound[half:]):
            speak(connection, part).join()
            connection.input_audio_buffer.commit(event_id="mine")
            events = events_until(connection, completed(1))
            assert [name for name in kinds(events) if not name.endswith("delta")] == [
                "committed",
                "conversation.item.added",
                "conversation.item.done",
                "conversation.item.completed",
            ]
            found = [*expected.feed(part), *expected.commit()]
            assert events[-1].transcript == "".join(e.text for e in found if e.kind == "final").strip() != ""
            assert events[-1].usage.seconds == pytest.approx(len(part) / 48000, abs=0.1)


def test_long_items_are_one(client: openai.OpenAI, sound: bytes, expected: list[str]) -> None:
    longer = sound * 5  # longer than a phrase can be; where it is cut, depends on when it is heard
    with client.realtime.connect(extra_query=INTENT) as connection:
        connection.recv()
        connection.session.update(session=MANUAL)
        thread = speak(connection, longer, size=480_000)
        thread.join()
        connection.input_audio_buffer.commit()
        events = events_until(connection, completed(1))
    words, said = events[-1].transcript.split(), " ".join(expected * 5).split()
    assert difflib.SequenceMatcher(None, words, said).ratio() > 0.8
    assert events[-1].usage.seconds == pytest.approx(len(longer) / 48000, abs=0.1)


def test_clear_throws_away(shared: Server, sound: bytes, expected: list[str]) -> None:
    with raw(shared) as connection:
        connection.append(sound[:60_000])  # in the middle of the first phrase
        connection.send({"type": "input_audio_buffer.clear"})
        connection.until("input_audio_buffer.cleared")
        connection.append(sound)
        started = connection.until("input_audio_buffer.speech_started")
        assert started["audio_start_ms"] > 1000 * 60_000 / 48_000
        assert connection.until(COMPLETED)["transcript"] == expected[0]


def test_clear_within_a_sample(shared: Server, sound: bytes, expected: list[str]) -> None:
    """The other byte of that sample comes with the next sound, and belongs to nothing."""
    with raw(shared) as connection:
        connection.append(sound[:60_001])
        connection.send({"type": "input_audio_buffer.clear"})
        connection.until("input_audio_buffer.cleared")
        connection.append(b"\x07" + sound)
        assert connection.until(COMPLETED)["transcript"] == expected[0]


@pytest.mark.parametrize(("kind", "codec"), [(MU_LAW, "pcm_mulaw"), (A_LAW, "pcm_alaw")])
def test_g711(shared: Server, nano: Model, kind: str, codec: str) -> None:
    sound = g711(load_audio(COMMANDS), codec)
    stream = nano.stream(sample_rate=8000, endpoints="none")
    found = [*stream.feed(SoundFormat(kind, 8000).chunk(sound)), *stream.commit()]
    with raw(shared) as connection:
        connection.update(sound_input(format={"type": kind}, turn_detection=None))
        assert connection.next()["session"]["audio"]["input"]["format"] == {"type": kind}
        connection.append(sound)
        connection.send({"type": "input_audio_buffer.commit"})
        text = connection.until(COMPLETED)["transcript"]
    assert text == "".join(event.text for event in found if event.kind == "final").strip()
    assert "hello" in text


@pytest.mark.parametrize(("kind", "codec"), [(MU_LAW, "pcm_mulaw"), (A_LAW, "pcm_alaw")])
def test_the_tables_of_g711_are_those_of_ffmpeg(kind: str, codec: str) -> None:
    import av

    context = av.CodecContext.create(codec, "r")
    context.sample_rate, context.layout = 8000, "mono"
    (frame,) = context.decode(av.Packet(bytes(range(256))))
    assert frame.to_ndarray().ravel().tolist() == SoundFormat(kind, 8000).chunk(bytes(range(256))).tolist()


def test_other_rates_and_hypotheses(shared: Server, expected: list[str], sound: bytes) -> None:
    with raw(shared) as connection:
        session = sound_input(format={"type": "audio/pcm", "rate": 16000})
        connection.update({**session, "include": ["max_whisper.hypothesis"]})
        assert connection.next()["session"]["include"] == ["max_whisper.hypothesis"]
        samples = load_audio(COMMANDS)
        half = (samples * 32767).astype("<i2").tobytes() + bytes(32000)
        told = set()
        for first in range(0, len(half), 1601):  # also half of a sample
            connection.append(half[first : first + 1601])
            time.sleep(0.03)  # what comes at once is heard at once
        done = 0
        while done < len(expected):
            event = connection.next()
            told.add(event["type"])
            done += event["type"] == COMPLETED
        assert "max_whisper.hypothesis" in told


def test_the_model_of_a_session(shared: Server) -> None:
    with raw(shared, "?intent=transcription&model=english") as connection:
        connection.update(MANUAL)
        assert connection.next()["session"]["audio"]["input"]["transcription"]["model"] == "english"
        connection.update(sound_input(transcription={"model": "multilingual", "language": "de", "prompt": "Hallo"}))
        transcription = connection.next()["session"]["audio"]["input"]["transcription"]
        assert transcription == {"model": "multilingual", "language": "de", "prompt": "Hallo"}
        connection.update(sound_input(transcription={"prompt": None}))
        assert connection.next()["session"]["audio"]["input"]["transcription"] == {**transcription, "prompt": None}


@pytest.mark.parametrize(
    "session",
    [
        sound_input(  # as LiveKit's plugin asks
            format={"type": "audio/pcm", "rate": 24000},
            noise_reduction=None,
            transcription={"model": "whisper-1", "prompt": "", "language": "en"},
            turn_detection={
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 600,
                "silence_duration_ms": 350,
            },
        ),
        sound_input(  # as Pipecat's service asks, which finds the ends of phrases itself
            format={"type": "audio/pcm", "rate": 24000},
            transcription={"model": "gpt-realtime-whisper", "language": "en"},
            turn_detection=None,
        ),
        sound_input(turn_detection={"type": "server_vad", "create_response": False, "idle_timeout_ms": None}),
        {"type": "transcription", "include": []},
    ],
)
def test_sessions_of_others(client: openai.OpenAI, session: Any) -> None:
    with client.realtime.connect(extra_query=INTENT) as connection:
        connection.recv()
        connection.session.update(session=session)
        assert connection.recv().type == "session.updated"


def test_silence_is_no_phrase(shared: Server) -> None:
    with raw(shared) as connection:
        connection.append(bytes(48_000 * 60))
        connection.send({"type": "input_audio_buffer.commit"})
        assert connection.next()["type"] == "input_audio_buffer.committed"
        assert connection.until(COMPLETED)["transcript"] == ""
        connection.send({"type": "input_audio_buffer.commit", "event_id": "twice"})
        error = connection.error()
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "twice")


def test_a_phrase_that_is_over_is_committed(shared: Server, sound: bytes, expected: list[str]) -> None:
    """After it, a commit has nothing to do, and the session can be set."""
    with raw(shared) as connection:
        connection.append(sound)
        assert [connection.until(COMPLETED)["transcript"] for _ in expected] == expected
        connection.send({"type": "input_audio_buffer.commit"})
        assert connection.error()["code"] == "input_audio_buffer_commit_empty"
        connection.update(sound_input(transcription={"language": "en"}))
        assert connection.next()["type"] == "session.updated"


def test_a_commit_while_somebody_speaks(shared: Server, sound: bytes) -> None:
    with raw(shared) as connection:
        connection.append(sound[:60_000])
        connection.until("input_audio_buffer.speech_started")
        connection.send({"type": "input_audio_buffer.commit"})
        told = []
        while (event := connection.next())["type"] != COMPLETED:
            told.append(event["type"])
        assert "input_audio_buffer.speech_stopped" not in told
        assert event["transcript"]


def test_many_sessions_at_once(shared: Server, sound: bytes, expected: list[str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(_: int) -> list[str]:
        with raw(shared) as connection:
            connection.append(sound)
            return [connection.until(COMPLETED)["transcript"] for _ in expected]

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(one, range(4))] == [expected] * 4


def test_it_is_counted(shared: Server, sound: bytes) -> None:
    before = shared.metric("max_whisper_audio_seconds_total", model="nano")
    with raw(shared) as connection:
        assert shared.metric("max_whisper_streams_running") == 1
        connection.append(sound)
        connection.until(COMPLETED)
    shared.wait_until_idle()
    assert shared.metric("max_whisper_streams_running") == 0
    assert shared.metric("max_whisper_audio_seconds_total", model="nano") - before > 3
    assert shared.metric("max_whisper_stream_lag_seconds_count") > 0
    assert shared.metric("max_whisper_cancelled_total", code="session_ended") > 0
    assert shared.metric("max_whisper_requests_total", path="/v1/realtime", status="200") > 0


def test_files_and_streams_share_the_model(
    shared: Server, client: openai.OpenAI, sound: bytes, long_recording: Path
) -> None:
    import threading

    done = threading.Event()

    def transcribe() -> None:
        with contextlib.suppress(openai.APITimeoutError):
            client.with_options(timeout=8).audio.transcriptions.create(file=long_recording, model="nano")
        done.set()

    thread = threading.Thread(target=transcribe)
    thread.start()
    shared.wait_for(1)
    with raw(shared) as connection:
        connection.append(sound)
        assert connection.until(COMPLETED)["transcript"]
        assert not done.is_set()
    thread.join()
    shared.wait_until_idle()
