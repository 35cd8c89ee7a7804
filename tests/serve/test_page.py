"""The page of the server, in headless Chromium. It is skipped, with the reason, where there is none."""

from __future__ import annotations

import base64
import difflib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from max_whisper import Model, TranscriptionResult, load_audio, render
from support.browser import DROP, Open, chromium, drop, poor_contrasts, wait_until_done
from support.server import Server, server
from support.server_fixtures import COMMANDS
from support.sounds import write_wav


@pytest.fixture(scope="module")
def browse() -> Iterator[Open]:
    """Returns a function that opens pages. It ends with the module: playwright's loop would disturb other tests."""
    with chromium() as open_page:
        yield open_page


@pytest.fixture(scope="module")
def expected(nano: Model) -> TranscriptionResult:
    return nano.transcribe(COMMANDS, word_timestamps=True)


@pytest.fixture
def page(browse: Open, shared: Server) -> Iterator[Any]:
    """Returns the page before anything was done."""
    opened = browse(shared.url)
    opened.locator("#models input").first.wait_for()
    yield opened
    opened.context.close()


@pytest.fixture
def done(page: Any) -> Any:
    """Returns the page with the words of COMMANDS."""
    drop(page, COMMANDS)
    wait_until_done(page)
    return page


def words_of(result: TranscriptionResult) -> list[Any]:
    return [word for segment in result.segments for word in segment.words or ()]


def seconds(page: Any) -> float:
    minutes, rest = page.locator("#clock").text_content().split(" / ")[0].split(":")
    return 60 * int(minutes) + float(rest)


def is_wide(page: Any) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_a_dropped_file_becomes_words(done: Any, expected: TranscriptionResult) -> None:
    assert done.locator("#transcript .word").all_text_contents() == [word.word.strip() for word in words_of(expected)]
    assert done.locator("#transcript .segment").count() == len(expected.segments)
    assert "English" in done.locator("#summary").text_content()
    levels = done.locator("#transcript .word").evaluate_all("(words) => words.map((word) => word.className)")
    for word, level in zip(words_of(expected), levels, strict=True):
        p = word.probability
        assert level.split()[1:] == ([] if p >= 0.9 else ["p3"] if p >= 0.7 else ["p2"] if p >= 0.4 else ["p1"])


def test_a_click_on_a_word_seeks(done: Any, expected: TranscriptionResult) -> None:
    done.locator("#play:enabled").wait_for()
    for index in (3, 1):
        done.locator("#transcript .word").nth(index).click()
        assert seconds(done) == pytest.approx(words_of(expected)[index].start, abs=0.11)
        assert done.locator(".now").all_text_contents() == [words_of(expected)[index].word.strip()]


def test_the_text_goes_to_where_a_click_on_the_waveform_seeks(page: Any, tmp_path: Path) -> None:
    """Also while nothing plays, and in a pause, where no word is said."""
    drop(page, write_wav(tmp_path / "minutes.wav", np.tile(load_audio(COMMANDS), 20)))
    wait_until_done(page)
    page.locator("#play:enabled").wait_for()
    seen = """(index) => {
      const box = document.getElementById("transcript").getBoundingClientRect();
      const word = [...document.querySelectorAll("#transcript .word")].at(index).getBoundingClientRect();
      return word.top >= box.top && word.bottom <= box.bottom;
    }"""
    assert page.evaluate(seen, 0) and not page.evaluate(seen, -1)
    page.locator("#seek").focus()
    page.keyboard.press("End")
    page.wait_for_function(seen, arg=-1)
    assert page.locator("#transcript .now").count() == 0
    page.locator("#overview").click(position={"x": 1, "y": 10})
    page.wait_for_function(seen, arg=0)


def test_the_keyboard_is_enough(done: Any, expected: TranscriptionResult) -> None:
    done.locator("#play:enabled").wait_for()
    done.evaluate("document.activeElement.blur()")
    done.keyboard.press("Space")
    done.locator("#play", has_text="Pause").wait_for()
    done.locator(".now").first.wait_for()  # the words follow the sound
    done.keyboard.press("Space")
    done.locator("#play", has_text="Play").wait_for()
    done.locator("#seek").focus()
    done.keyboard.press("Home")
    assert seconds(done) == 0
    done.keyboard.press("ArrowRight")
    assert seconds(done) == pytest.approx(5, abs=0.11)
    done.locator('#transcript .word[tabindex="0"]').focus()
    done.keyboard.press("ArrowRight")
    done.keyboard.press("Enter")
    done.locator("#play", has_text="Pause").wait_for()
    assert seconds(done) >= words_of(expected)[1].start - 0.11
    assert done.locator('#transcript .word[tabindex="0"]').count() == 1


def test_everything_that_is_reached_by_tab_is_seen(done: Any) -> None:
    reached = []
    done.evaluate("document.activeElement.blur()")
    for _ in range(14):
        done.keyboard.press("Tab")
        reached.append(done.evaluate("document.activeElement.id || document.activeElement.className"))
    order = ["language", "file", "again", "play", "seek"]
    assert [name for name in reached if name in order] == order


def test_the_waveform_is_drawn(done: Any) -> None:
    for name in ("overview", "strip"):
        done.wait_for_function(f"""() => {{
          const canvas = document.getElementById("{name}");
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          return pixels.filter((value, i) => i % 4 === 3 && value > 0).length > 2000;
        }}""")
    assert done.locator("#sound-about").is_hidden()
    done.locator("#overview").click(position={"x": 600, "y": 10})
    assert seconds(done) > 1


@pytest.mark.parametrize("form", ["txt", "srt", "vtt", "tsv", "json"])
def test_downloads(done: Any, expected: TranscriptionResult, form: str) -> None:
    with done.expect_download() as started:
        done.locator(f'a[download="commands.{form}"]').click()
    assert started.value.suggested_filename == f"commands.{form}"
    content = Path(started.value.path()).read_text()
    assert (
        json.loads(content) == json.loads(render(expected, form))
        if form == "json"
        else content == render(expected, form)
    )


def test_models_side_by_side(page: Any) -> None:
    for name in ("nano", "multilingual"):
        page.locator(f'#models input[value="{name}"]').check()
    drop(page, COMMANDS)
    wait_until_done(page)
    assert page.locator("#columns article h3").all_text_contents() == ["nano", "multilingual"]
    assert page.locator("#bars .bar").count() == 4
    assert all(
        "real-time factor" in text for text in page.locator(".bars").first.locator(".number").all_text_contents()
    )
    widths = page.locator("#bars .fill").evaluate_all("(bars) => bars.map((bar) => bar.getBoundingClientRect().width)")
    assert all(width > 0 for width in widths)
    assert page.locator("#columns mark, #columns ins, #columns del").count() > 0
    before = page.locator("#transcript").text_content()
    page.locator('#shown input[value="multilingual"]').check()
    assert page.locator("#transcript").text_content() != before
    page.locator("#reference").select_option("multilingual")
    assert page.locator("#columns article h3").all_text_contents() == ["multilingual", "nano"]
    page.locator("#columns article").last.locator("[data-at]").last.click()
    assert seconds(page) > 0


def test_suspect_segments_are_marked(page: Any, model: Model) -> None:
    """Random weights repeat themselves."""
    result = model.transcribe(COMMANDS, word_timestamps=True)
    reasons = [segment.warnings[0].reason for segment in result.segments if segment.warnings]
    assert reasons
    page.locator('#models input[value="nano"]').uncheck()
    page.locator('#models input[value="multilingual"]').check()
    drop(page, COMMANDS)
    wait_until_done(page)
    assert page.locator("#transcript .suspect").count() == len(reasons)
    assert reasons[0] in page.locator("#transcript .suspect").first.text_content()


def test_one_model_of_several_can_fail(page: Any) -> None:
    page.locator('#models input[value="english"]').check()
    page.locator("#language").select_option("de")
    drop(page, COMMANDS)
    page.locator("#status", has_text="gave no text").wait_for()
    assert "knows English alone" in page.locator("#progress .failed").last.text_content()


def test_words_are_compared_as_difflib_finds_them(page: Any) -> None:
    """The marks turn one text into the other, with no more edits than difflib's."""
    generator = random.Random(1)
    compare = "([a, b]) => import('/page/diff.js').then((diff) => diff.compareWords(a, b))"
    for _ in range(20):
        a, b = ([generator.choice("abcd") for _ in range(generator.randrange(12))] for _ in range(2))
        chunks = page.evaluate(compare, [a, b])
        assert [i for chunk in chunks for i in chunk["before"]] == [*range(len(a))]
        assert [i for chunk in chunks for i in chunk["after"]] == [*range(len(b))]
        same = [chunk for chunk in chunks if chunk["kind"] == "equal"]
        equal = [pair for chunk in same for pair in zip(chunk["before"], chunk["after"], strict=True)]
        assert all(a[i] == b[j] for i, j in equal)
        blocks = difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
        assert len(equal) >= sum(block.size for block in blocks)
    assert [chunk["kind"] for chunk in page.evaluate(compare, [["And", " so,"], ["and", " SO"]])] == ["equal"]


def test_layers_are_listed(page: Any, shared: Server) -> None:
    page.locator("#layers-of").select_option("multilingual")
    report = shared.get("/page-data/models/multilingual/layers").json()
    page.locator("#layers-body", has_text=f"{report['parameters']:,} parameters").wait_for()
    assert page.locator("#layers-body tbody tr").count() == sum(map(len, report["parts"].values()))
    assert report["no_times"] in page.locator("#layers-body").text_content()


def test_a_key_is_asked_for(browse: Open, nano_artifact: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact, "--api-key", "a-secret") as running:
        page = browse(running.url)
        page.locator("#key-form").wait_for()
        assert page.locator("#error").is_hidden() and page.locator("#choose").is_hidden()
        page.locator("#key").fill("wrong")
        page.keyboard.press("Enter")
        page.locator("#error", has_text="the API key is missing or wrong").wait_for()
        page.locator("#key").fill("a-secret")
        page.keyboard.press("Enter")
        page.locator("#choose").wait_for()
        assert page.locator("#key-form").is_hidden() and page.locator("#error").is_hidden()
        drop(page, COMMANDS)
        wait_until_done(page)
        assert page.locator("#transcript .word").count() > 3
        for path in ("/page-data/models", "/page-data/models/nano/layers"):
            assert running.get(path).status_code == 401
        assert running.post("/page-data/transcriptions").status_code == 401
        page.context.close()


def test_errors_are_the_servers_sentences_and_no_html(page: Any, shared: Server, tmp_path: Path) -> None:
    name = "<img src=x id=planted>.wav"
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no sound at all" * 100)
    answer = shared.post("/page-data/transcriptions", files={"file": (name, garbage.read_bytes())})
    assert answer.status_code == 400
    drop(page, garbage, name)
    page.locator("#error:not([hidden])").wait_for()
    assert page.locator("#error").text_content() == answer.json()["error"]["message"]
    assert name in page.locator("#error").text_content()
    assert page.locator("#planted").count() == 0
    drop(page, COMMANDS)  # the page goes on
    wait_until_done(page)
    assert page.locator("#error").is_hidden()


def test_a_transcription_can_be_cancelled(page: Any, shared: Server, long_recording: Path) -> None:
    page.locator('#models input[value="multilingual"]').check()
    page.locator("#file").set_input_files(long_recording)
    page.locator("#transcript .word").first.wait_for()
    page.locator("#cancel").click()
    page.locator("#status", has_text="Cancelled.").wait_for()
    assert page.locator("#again").is_visible() and page.locator("#progress").is_hidden()
    shared.wait_until_idle()


def test_another_recording_takes_the_place_of_one_under_way(page: Any, shared: Server, long_recording: Path) -> None:
    page.locator("#file").set_input_files(long_recording)
    page.locator("#transcript .word").first.wait_for()
    drop(page, COMMANDS)
    wait_until_done(page)
    assert page.locator("#error").is_hidden()
    assert page.locator('a[download="commands.txt"]').is_visible()
    shared.wait_until_idle()


def test_of_several_quick_drops_the_last_one_counts(page: Any, shared: Server, long_recording: Path) -> None:
    begun: list[str] = []
    page.on("request", lambda asked: begun.append(asked.url) if asked.method == "POST" else None)
    page.locator("#file").set_input_files(long_recording)
    page.locator("#transcript .word").first.wait_for()
    content = base64.b64encode(COMMANDS.read_bytes()).decode()
    drops = [[f"{name}.flac", content] for name in ("first", "second", "third")]
    page.evaluate(f"(drops) => drops.forEach({DROP})", drops)
    page.locator("#file-about", has_text="third.flac").wait_for()
    wait_until_done(page)
    assert page.locator('a[download="third.txt"]').is_visible()
    assert page.locator("#error").is_hidden()
    assert len(begun) == 2
    shared.wait_until_idle()


def test_texts_of_the_recording_before_are_not_offered(page: Any, shared: Server, long_recording: Path) -> None:
    for name in ("nano", "multilingual"):
        page.locator(f'#models input[value="{name}"]').check()
    drop(page, COMMANDS)
    wait_until_done(page)
    assert page.locator("#shown input").count() == 2
    page.locator('#models input[value="multilingual"]').uncheck()
    page.locator("#file").set_input_files(long_recording)
    page.locator("#transcript .word").first.wait_for()
    assert page.locator("#shown").is_hidden() and page.locator("#shown input").count() == 0
    page.locator("#cancel").click()
    page.locator("#status", has_text="Cancelled.").wait_for()
    shared.wait_until_idle()


def test_without_a_model_the_recording_before_stays(page: Any, tmp_path: Path) -> None:
    """Its text and its sound belong together; the new one is transcribed once a model is ticked."""
    drop(page, COMMANDS)
    wait_until_done(page)
    page.locator("#play:enabled").wait_for()
    clock, words = page.locator("#clock").text_content(), page.locator("#transcript").text_content()
    for box in page.locator("#models input:checked").all():
        box.uncheck()
    other = write_wav(tmp_path / "other.wav", np.zeros(5 * 16000, np.float32))
    drop(page, other)
    page.locator("#error", has_text="No model is ticked").wait_for()
    page.wait_for_timeout(300)
    assert page.locator("#clock").text_content() == clock
    assert page.locator("#transcript").text_content() == words
    page.locator('#models input[value="nano"]').check()
    page.locator("#again").click()
    wait_until_done(page)
    assert page.locator("#clock").text_content().endswith("0:05.0")
    assert page.locator('a[download="other.txt"]').is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_widths_and_colors(browse: Open, shared: Server, scheme: str, width: int) -> None:
    page = browse(shared.url, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    for name in ("nano", "multilingual"):
        page.locator(f'#models input[value="{name}"]').check()
    assert not is_wide(page)
    drop(page, COMMANDS)
    wait_until_done(page)
    page.locator("#layers-body table").first.wait_for()
    assert not is_wide(page)
    assert poor_contrasts(page) == []
    light = int(re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[0]) > 128
    assert light == (scheme == "light")
    page.context.close()


def test_what_has_a_role_has_a_name(done: Any) -> None:
    unnamed = """() => [...document.querySelectorAll("button, input, select, progress, [role], canvas, [tabindex='0']")]
      .filter((node) => node.checkVisibility() && !node.closest("[aria-hidden]") && node.id !== "overview")
      .filter((node) => !(node.ariaLabel || node.labels?.length || node.textContent.trim() || node.role === "status"))
      .map((node) => node.outerHTML.slice(0, 80))"""
    assert done.evaluate(unnamed) == []
    assert done.locator("h1").count() == 1


def test_the_files_of_the_page(shared: Server) -> None:
    """This needs no browser."""
    index = shared.get("/")
    assert index.status_code == 200 and index.headers["content-type"].startswith("text/html")
    policy = index.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    names = {*re.findall(r'"(/page/[^"]+)"', index.text)}
    assert {"/page/main.js", "/page/base.css"} <= names
    for name in names:
        assert shared.get(name).status_code == 200
        assert shared.get(name).headers["content-security-policy"] == policy
    for name in ("nothing.js", "..%2ffiles.py", "%2e%2e/files.py", "../files.py"):
        assert shared.get(f"/page/{name}").status_code == 404
    assert not re.search(r"\son\w+=|\sstyle=|<script>|<style", index.text)


def test_wrong_fields_are_refused(shared: Server) -> None:
    """This needs no browser."""

    def sentence(status: int, **fields: object) -> str:
        answer = shared.post("/page-data/transcriptions", files={"file": COMMANDS.read_bytes()}, data=fields)
        assert answer.status_code == status
        return answer.json()["error"]["message"]

    assert "expected the code of a language" in sentence(400, language="klingon")
    assert "unknown field 'modle'; did you mean 'model'?" in sentence(400, modle="nano")
    assert "language: expected one value, got 2" in sentence(400, language=["e", "n"])
    assert "does not exist" in sentence(404, model="other")
    assert shared.get("/page-data/models/other/layers").status_code == 404
