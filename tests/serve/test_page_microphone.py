"""The page's microphone in headless Chromium, which hears a recording in the place of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from max_whisper import load_audio
from support.browser import Open, chromium, poor_contrasts
from support.realtime import COMPLETED
from support.server import Server, server, until
from support.server_fixtures import COMMANDS
from support.sounds import write_wav

pytestmark = pytest.mark.usefixtures("silero")


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Returns a function that opens pages in a browser whose microphone says COMMANDS again and again."""
    said = np.concatenate([np.zeros(8000, np.float32), load_audio(COMMANDS), np.zeros(8000, np.float32)])
    file = write_wav(tmp_path_factory.mktemp("microphone") / "said.wav", said)
    fake = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    with chromium(*fake, f"--use-file-for-fake-audio-capture={file}") as open_page:
        yield open_page


@pytest.fixture
def speaking(microphone: Open, shared: Server) -> Iterator[Any]:
    """Returns a page that hears the microphone."""
    page = microphone(shared.url)
    page.locator("#speak").click()
    yield page
    page.context.close()


BLOCK = 4411  # samples
FAKE_SERVER = """() => {
  const events = (window.events = []);
  const blocks = (window.blocks = []);
  class Socket {
    static OPEN = 1;
    readyState = 1;
    bufferedAmount = 0;
    constructor() {
      window.socket = this;
      setTimeout(() => this.tell("session.created"));
    }
    tell(type, fields) { this.onmessage?.({ data: JSON.stringify({ type, ...fields }) }); }
    send(text) {
      const { type, audio } = JSON.parse(text);
      events.push(type);
      if (audio) blocks.push(atob(audio).length);
      this.bufferedAmount += text.length;
    }
    close() { this.readyState = 3; }
  }
  window.WebSocket = Socket;
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (asked) => (window.stream = await open(asked));
  window.AudioContext = class extends AudioContext {
    constructor() {
      super({ sampleRate: 44110 });
      window.context = this;
    }
  };
}"""
"""Puts what a test says in the place of the server; nothing that is sent leaves the browser.

The microphone is kept, and has a rate at which no BLOCK ends with one of the browser's, which have 128 samples, in the
first 12 seconds."""


def tell(page: Any, kind: str, **fields: object) -> None:
    """Tells the page an event as the server does."""
    page.evaluate("([type, fields]) => window.socket.tell(type, fields)", [kind, fields])


def wait_for_event(page: Any, kind: str, count: int = 1) -> None:
    """Waits until the page has sent some events of a type."""
    until(lambda: page.evaluate("window.events").count(kind) >= count)


@pytest.fixture
def alone(microphone: Open, shared: Server) -> Iterator[Any]:
    """Returns a page that hears the microphone, and whose server is the test."""
    page = microphone(shared.url)
    page.evaluate(FAKE_SERVER)
    page.locator("#speak").click()
    wait_for_event(page, "session.update")
    yield page
    page.context.close()


def captions(page: Any) -> str:
    return " ".join(page.locator("#captions p").all_text_contents())


def test_what_is_said_is_written(speaking: Any, shared: Server) -> None:
    speaking.locator("#captions p", has_text="open door").wait_for()
    assert speaking.locator("#speak").text_content() == "Stop"
    speaking.locator("#captions p", has_text="thanks").wait_for()
    speaking.locator("#speak").click()
    speaking.locator("#speak", has_text="Speak").wait_for()
    text = captions(speaking)
    assert "hello open door stop go left thanks" in f"{text} {text}"  # where it began, the browser chooses
    assert not speaking.locator("#captions .unsure").all_text_contents()[-1]
    assert not speaking.locator("#error").is_visible()
    shared.wait_until_idle()
    speaking.locator("#speak").click()  # another session, which begins anew
    speaking.locator("#captions p").first.wait_for()
    assert len(captions(speaking)) < len(text)


def test_two_phrases_around_stop(alone: Any) -> None:
    """The text of a phrase that was over before does not end the session: that of the last one is still to come."""
    tell(alone, "session.updated")
    wait_for_event(alone, "input_audio_buffer.append")
    alone.locator("#speak").click()
    wait_for_event(alone, "input_audio_buffer.commit")
    tell(alone, COMPLETED, item_id="a", transcript="before the pause")
    assert alone.locator("#speak").text_content() == "Stop"
    tell(alone, COMPLETED, item_id="b", transcript="behind it")
    assert alone.evaluate("window.events.slice(-2)") == ["input_audio_buffer.commit", "session.update"]
    tell(alone, "session.updated")
    alone.locator("#speak", has_text="Speak").wait_for()
    assert captions(alone) == "before the pause behind it"


def test_the_last_sound_before_stop_is_sent(alone: Any) -> None:
    tell(alone, "session.updated")
    wait_for_event(alone, "input_audio_buffer.append", 2)
    alone.locator("#speak").click()
    wait_for_event(alone, "session.update", 2)
    assert alone.evaluate("window.events.slice(-2)") == ["input_audio_buffer.commit", "session.update"]
    *full, last = alone.evaluate("window.blocks")
    assert {*full} == {2 * BLOCK} and 0 < last < 2 * BLOCK


GONE = {
    "unplugged": "void window.stream.getTracks()[0].dispatchEvent(new Event('ended'))",
    "stopped by the browser": "window.context.suspend()",
}


@pytest.mark.parametrize("way", GONE)
def test_a_microphone_that_goes_away(alone: Any, way: str) -> None:
    """What was said gets its text, and that stays."""
    tell(alone, "session.updated")
    wait_for_event(alone, "input_audio_buffer.append")
    tell(alone, COMPLETED, item_id="a", transcript="before the pause")
    alone.evaluate(GONE[way])
    alone.locator("#error", has_text="The microphone brings no more sound").wait_for()
    wait_for_event(alone, "input_audio_buffer.commit")
    tell(alone, COMPLETED, item_id="b", transcript="behind it")
    tell(alone, "session.updated")
    alone.locator("#speak", has_text="Speak").wait_for()
    assert captions(alone) == "before the pause behind it"
    assert alone.locator("#live-status").text_content() == ""
    assert alone.locator("#error").is_visible()


def test_a_microphone_that_goes_away_while_the_model_is_loaded(alone: Any) -> None:
    """What was said until then is sent when the model is there."""
    alone.wait_for_timeout(500)
    alone.evaluate(GONE["unplugged"])
    alone.locator("#error", has_text="The microphone brings no more sound").wait_for()
    tell(alone, "session.updated")
    wait_for_event(alone, "input_audio_buffer.commit")
    assert "input_audio_buffer.append" in alone.evaluate("window.events")
    tell(alone, "session.updated")
    alone.locator("#speak", has_text="Speak").wait_for()


def test_stop_while_the_model_is_loaded(alone: Any) -> None:
    """What was said meanwhile is sent when the model is there."""
    alone.wait_for_timeout(500)
    alone.locator("#speak").click()
    assert alone.locator("#speak").text_content() == "Stop"
    tell(alone, "session.updated")
    wait_for_event(alone, "input_audio_buffer.append", 2)
    tell(alone, COMPLETED, item_id="a", transcript="while it was loaded")
    tell(alone, "session.updated")
    alone.locator("#speak", has_text="Speak").wait_for()
    assert captions(alone) == "while it was loaded"
    assert not alone.locator("#error").is_visible()


def test_a_long_time_until_the_model_is_loaded(alone: Any) -> None:
    """What was said meanwhile may be much: the server does not hear too slowly because of that."""
    alone.evaluate("window.socket.bufferedAmount = 5e6")  # as if a minute was sent at once
    tell(alone, "session.updated")
    wait_for_event(alone, "input_audio_buffer.append", 5)
    assert alone.locator("#live-status").text_content().startswith("Listening.")
    alone.evaluate("window.socket.bufferedAmount += 5e6")
    alone.locator("#error", has_text="more slowly than you speak").wait_for()
    assert alone.locator("#live-status").text_content() == ""


def test_words_that_may_change_are_lighter(speaking: Any) -> None:
    """What is shown as unsure is told apart, also for those who see no colors."""
    speaking.locator("#captions .unsure:not(:empty)").first.wait_for()
    styles = speaking.evaluate(
        "() => ['span:not(.unsure)', '.unsure'].map((name) => {"
        "const style = getComputedStyle(document.querySelector(`#captions ${name}`));"
        "return [style.color, style.fontStyle]})"
    )
    assert styles[0][0] != styles[1][0]
    assert styles[0][1] != styles[1][1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_can_be_read(microphone: Open, shared: Server, scheme: str, width: int) -> None:
    page = microphone(shared.url, color_scheme=scheme, viewport={"width": width, "height": 900})
    page.locator("#speak").click()
    page.locator("#captions p", has_text="open door").wait_for()
    assert poor_contrasts(page) == []
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    page.context.close()


def test_a_telephone_shows_the_newest_line(microphone: Open, shared: Server) -> None:
    page = microphone(shared.url, viewport={"width": 390, "height": 900})
    page.locator("#speak").click()
    page.locator("#captions p").nth(3).wait_for()
    bottom = "document.querySelector('#captions p:last-child').getBoundingClientRect().bottom"
    until(lambda: page.evaluate(f"{bottom} <= innerHeight"))
    page.context.close()


def test_with_a_key(microphone: Open, nano_artifact: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact, "--api-key", "a/secret%41") as running:
        page = microphone(running.url)
        page.locator("#key").fill("a/secret%41")
        page.locator("#key-form button").click()
        page.locator("#speak").click()
        page.locator("#captions p", has_text="open door").wait_for()
        page.context.close()


def test_a_server_without_a_place(microphone: Open, nano_artifact: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact, "--max-streams", "0") as running:
        page = microphone(running.url)
        page.locator("#speak").click()
        page.locator("#error", has_text="as many as it takes").wait_for()
        assert page.locator("#speak").text_content() == "Speak"
        page.context.close()


def test_a_page_that_may_not_hear(microphone: Open, shared: Server) -> None:
    page = microphone(shared.url)
    refuse = "() => Promise.reject(new DOMException('no', 'NotAllowedError'))"
    page.evaluate(f"void (navigator.mediaDevices.getUserMedia = {refuse})")
    page.locator("#speak").click()
    page.locator("#error", has_text="may not use the microphone").wait_for()
    page.context.close()
