import errno
import importlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.output import files, writers
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.times import format_timestamp
from max_whisper.runtime.output.writers import known_formats, render, write
from max_whisper.runtime.results import Word
from support.command import run
from support.sounds import sweep, write_wav
from support.subtitle_cases import GOLDEN, OPTIONS, segment, spoken, transcription
from support.subtitle_cases import RESULT as SPOKEN

RESULT = transcription(
    " Hello --> you\t. naïve ♪",
    "en",
    [segment(0.0, 1.2345, " Hello --> you\t. "), segment(1.2345, 59.9996, " naïve ♪"), segment(3599.9, 7322.5, "")],
)
NOTHING = transcription("", "en", [])

# What openai/whisper writes.
EXPECTED = {
    "txt": "Hello --> you\t.\nnaïve ♪\n\n",
    "srt": "1\n00:00:00,000 --> 00:00:01,234\nHello -> you\t.\n\n"
    "2\n00:00:01,234 --> 00:01:00,000\nnaïve ♪\n\n"
    "3\n00:59:59,900 --> 02:02:02,500\n\n\n",
    "vtt": "WEBVTT\n\n00:00.000 --> 00:01.234\nHello -> you\t.\n\n"
    "00:01.234 --> 01:00.000\nnaïve ♪\n\n"
    "59:59.900 --> 02:02:02.500\n\n\n",
    "tsv": "start\tend\ttext\n0\t1234\tHello --> you .\n1234\t60000\tnaïve ♪\n3599900\t7322500\t\n",
}


def test_formats():
    names = [*known_formats()]
    assert names == sorted(names) and {"json", "srt", "tsv", "txt", "vtt"} <= {*names}


@pytest.mark.parametrize("format", EXPECTED)
def test_text_formats(format, tmp_path):
    assert render(RESULT, format) == EXPECTED[format]
    write(RESULT, format, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == EXPECTED[format].encode()


def test_json():
    assert json.loads(render(RESULT, "json")) == {
        "text": RESULT.text,
        "segments": [
            {
                "id": i,
                "seek": 300,
                "start": s.start,
                "end": s.end,
                "text": s.text,
                "tokens": [1, 2],
                "temperature": 0.2,
                "avg_logprob": -0.25,
                "compression_ratio": 1.5,
                "no_speech_prob": 0.125,
            }
            for i, s in enumerate(RESULT.segments)
        ],
        "language": "en",
    }
    assert render(RESULT, "json").isascii()


@pytest.mark.parametrize(("format", "expected"), [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n")])
def test_nothing_was_said(format, expected):
    assert render(NOTHING, format) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "00:00.000"), (0.0004, "00:00.000"), (59.9996, "01:00.000"), (3599.9996, "01:00:00.000"),
     (360000, "100:00:00.000")],
)  # fmt: skip
def test_timestamps(seconds, expected):
    assert format_timestamp(seconds) == expected


def test_stream_is_flushed_and_stays_open():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    write(RESULT, "txt", stream)
    assert stream.buffer.getvalue() == EXPECTED["txt"].encode()


def test_unknown_format(tmp_path):
    with pytest.raises(UserError, match=r"unknown output format 'stt': expected one of json, .*; did you mean"):
        write(RESULT, "stt", tmp_path / "a")
    with pytest.raises(UserError, match=r"did you mean 'json'\?"):
        render(RESULT, "JSON")
    assert not list(tmp_path.iterdir())


def test_existing_file_is_replaced_and_keeps_to_the_umask(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old" * 100)
    write(RESULT, "txt", str(file))
    assert file.read_text(encoding="utf-8") == EXPECTED["txt"]
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "plain"]


def test_long_names_are_fine(tmp_path):
    write(RESULT, "txt", tmp_path / ("x" * 250))


def test_wrong_places(tmp_path):
    with pytest.raises(UserError, match=r"is a folder, expected the name of a file"):
        write(RESULT, "txt", tmp_path)
    with pytest.raises(UserError, match=r"there is no folder .*none to write a\.txt into"):
        write(RESULT, "txt", tmp_path / "none" / "a.txt")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="there is no folder"):
        write(RESULT, "txt", tmp_path / "file" / "a.txt")
    with pytest.raises(UserError, match=r"cannot be written \(File name too long\)"):
        write(RESULT, "txt", tmp_path / ("x" * 300))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_no_permission(tmp_path, monkeypatch):
    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.Path, "open", deny)  # root may write everywhere
    with pytest.raises(UserError, match=r"a\.txt cannot be written \(Permission denied\)"):
        write(RESULT, "txt", tmp_path / "a.txt")


def test_no_space_left(tmp_path):
    """A limit on the size of files stands for a full disk: the first bytes are written, the rest fail."""
    pytest.importorskip("resource")
    (tmp_path / "a.json").write_text("old")
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support.subtitle_cases import transcription
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.output.writers import write
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    write(transcription("x" * 100_000, "en", []), "json", sys.argv[1])
except MaxWhisperError as e:
    print(type(e).__name__, e)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.json"], capture_output=True, check=True, text=True)
    assert done.stdout.startswith(f"MaxWhisperError {tmp_path / 'a.json'} cannot be written, there is no space left")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_devices_are_written_not_replaced():
    write(RESULT, "txt", os.devnull)
    assert not Path(os.devnull).is_file()
    with pytest.raises(MaxWhisperError, match="/dev/full cannot be written, there is no space left"):
        write(RESULT, "txt", "/dev/full")


def test_stream_without_space():
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MaxWhisperError, match="the output cannot be written, there is no space left"):
        write(RESULT, "txt", Full())


def test_closed_pipe_is_passed_on():
    class Pipe(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write(RESULT, "txt", Pipe())


SUBTITLES = json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("case", SUBTITLES)
def test_words_are_shown_as_by_openai_whisper(case: str):
    name, format = case.rsplit(", ", 1)
    assert render(SPOKEN, format, SubtitleOptions(**OPTIONS[name])) == SUBTITLES[case]


def test_an_arrow_among_the_words_does_not_end_the_times_of_a_cue():
    assert "one -> two" in render(spoken((0.0, "one --> two")), "srt")  # openai/whisper does so in segments only


def test_json_has_the_words():
    words = json.loads(render(SPOKEN, "json"))["segments"][1]["words"]
    assert [word["word"] for word in words] == [" Later", " rain."]
    assert words[0] == {"word": " Later", "start": 4.73, "end": 5.06, "probability": 0.5}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"highlight_words": True}, "give word_timestamps too"),
        ({"max_line_width": 0}, "max_line_width: expected 1 to 10000, or none, got 0"),
        ({"max_line_count": 2}, "max_line_count: needs max_line_width"),
        ({"max_line_width": 9, "max_words_per_line": 2}, "max_words_per_line: goes without max_line_width"),
    ],
)
def test_subtitle_options_that_make_no_sense(options: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):  # alone, or together
        SubtitleOptions(**options).check(word_timestamps="highlight_words" not in options)


# --- the end of the recording


LATE = transcription(
    " a b c", "en", [segment(90.0, 100.5, " a"), segment(100.5, 123.48, " b"), segment(123.48, 130.0, " c")], 100.8003
)


def test_nothing_is_shown_after_the_end_of_the_recording():
    assert render(LATE, "tsv").splitlines()[1:] == ["90000\t100500\ta", "100500\t100800\tb", "100799\t100800\tc"]
    assert "00:01:40,500 --> 00:01:40,800\nb\n\n3\n00:01:40,799 --> 00:01:40,800\nc\n" in render(LATE, "srt")
    assert "01:40.500 --> 01:40.800\nb\n\n01:40.799 --> 01:40.800\nc\n" in render(LATE, "vtt")
    assert [segment["end"] for segment in json.loads(render(LATE, "json"))["segments"]] == [100.5, 123.48, 130.0]
    assert render(LATE, "txt") == "a\nb\nc\n"


@pytest.mark.parametrize("duration", [0.0, 0.0004, 0.001, 3.0, 4.9995, 12.34567, 1e6])
@pytest.mark.parametrize("options", [{}, *OPTIONS.values()])
def test_words_end_with_the_recording(duration, options):
    result = transcription(SPOKEN.text, "en", SPOKEN.segments, duration)
    for format in ("srt", "vtt"):
        written = render(result, format, SubtitleOptions(**options))
        for line in written.splitlines():
            if "-->" in line:
                start, end = (_milliseconds(time) for time in line.split(" --> "))
                assert start <= end <= duration * 1000
                assert start < end or end == 0
        assert re.sub(r"\d.*-->.*\n", "", written) == re.sub(
            r"\d.*-->.*\n", "", render(SPOKEN, format, SubtitleOptions(**options))
        )


def _milliseconds(time: str) -> int:
    *hours, minutes, seconds = time.replace(",", ".").split(":")
    return 3_600_000 * int((hours or ["0"])[0]) + 60_000 * int(minutes) + round(1000 * float(seconds))


# --- text that is no text of the format

TRAPS = [
    "a --> b", "a ---> b", "-->", "a - -> b", "--", ">", "->", "-", "<b>x</b>", "AT&T &amp; <", "WEBVTT", "NOTE x",
    "STYLE", "1", "00:01.000 --> 00:02.000", "a\n\nb", "\n", "a\r\rb", "a\u2028\u2029b", "a\x85\x0b\x0cb", "a\x00b",
    "\x00", "\ufeff", "{\\an8}", "a\tb", "\u3000", "<u>",
]  # fmt: skip


@pytest.mark.parametrize("options", [None, *OPTIONS.values()])
def test_a_cue_is_a_cue_whatever_its_text(options):
    """Read as the standard says: blocks that are parted by blank lines, each with one arrow, in its first lines."""
    for first in TRAPS:
        for second in TRAPS:
            segments = []
            for i, texts in enumerate([(first, second), ("plain", first)]):
                words = [Word(text, 3.0 * i + k, 3.0 * i + k + 0.5, 0.5) for k, text in enumerate(texts)]
                segments.append(segment(3.0 * i, 3.0 * i + 2, "".join(texts), words=None if options is None else words))
            result = transcription(
                "", "en", [*segments, segment(9.0, 10.0, "end", words=[Word("end", 9.0, 10.0, 0.5)])]
            )
            for format in ("srt", "vtt"):
                written = render(result, format, SubtitleOptions(**(options or {})))
                body = written.removeprefix("WEBVTT\n\n")
                assert written.endswith("\n\n") and "\0" not in written and body.count("-->") == len(_times(body))
                assert all(len(re.split("[\r\n]", line)) == 1 for line in written.splitlines())
                assert [line for line in written.splitlines(keepends=True) if not line.endswith("\n")] == []
                if format == "vtt":
                    plain = re.sub("</?u>", "", body) if options and options.get("highlight_words") else body
                    assert "<" not in plain
                    assert re.search("&(?!amp;|lt;)", plain) is None
                blocks = [block for block in re.split(r"\n\n+", body) if block.strip("\n")]
                assert all("-->" in block.split("\n")[format == "srt"] for block in blocks), (first, second, written)
            rows = render(result, "tsv").split("\n")
            assert len(rows) == 5 and all(row.count("\t") == 2 for row in rows[:-1])


def _times(body: str) -> list[str]:
    return re.findall(r"^[\d:,.]+ --> [\d:,.]+$", body, flags=re.M)


def test_vtt_is_escaped_and_srt_is_not():
    words = [Word(" AT&T", 0.0, 0.5, 1.0), Word(" <b>", 0.5, 1.0, 1.0)]
    result = transcription("", "en", [segment(0.0, 1.0, " AT&T <b>", words=words)])
    highlighted = SubtitleOptions(highlight_words=True)
    assert "\n<u>AT&amp;T</u> &lt;b>\n" in render(result, "vtt", highlighted)
    assert "\n<u>AT&T</u> <b>\n" in render(result, "srt", highlighted)
    assert render(result, "txt") == "AT&T <b>\n"


# --- a format is one file, as docs/adding-a-writer.md has it

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-writer.md").read_text()
TEXTGRID, BY_HAND = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
HEADER = '"ooTextFile"\n"TextGrid"\n0 2.0\n<exists>\n1\n"TextTier" "text"\n0 2.0\n'


@pytest.fixture
def textgrid(tmp_path, monkeypatch):
    """The format, from one file that is in no package."""
    (tmp_path / "textgrid_of_mine.py").write_text(TEXTGRID)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(writers, "_writers", dict(known_formats()))
    importlib.import_module("textgrid_of_mine")
    yield
    del sys.modules["textgrid_of_mine"]


def test_a_format_of_ones_own(textgrid, tmp_path):
    assert "TextGrid" in known_formats()
    made = {}
    exec(BY_HAND, made)
    assert render(made["result"], "TextGrid") == f'{HEADER}1\n0.0 "a ""b"""\n'
    write(transcription("", "en", [], 2.0), "TextGrid", tmp_path / "a.TextGrid")
    assert (tmp_path / "a.TextGrid").read_text() == f"{HEADER}0\n"
    with pytest.raises(ValueError, match="two writers of the format 'TextGrid'"):
        writers.register("TextGrid")(lambda result, subtitles: "")


def test_the_command_line_has_a_format_of_ones_own(textgrid, artifact, tmp_path):
    talk = write_wav(tmp_path / "talk.wav", sweep(1.0))
    assert "TextGrid" in run("transcribe", "--help").stdout
    options = ("--model", artifact, "--max-new-tokens", "3", "--temperature-increment-on-fallback", "none")
    outcome = run("transcribe", talk, *options, "--output-format", "TextGrid")
    assert outcome.code == 0 and outcome.stdout.startswith('"ooTextFile"\n"TextGrid"\n0 1.0\n')
    outcome = run("transcribe", talk, *options, "--output-format", "all", "--output-dir", tmp_path / "out")
    assert outcome.code == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {f"talk.{name}" for name in known_formats()}


def test_a_format_that_is_not_registered_any_more_is_unknown():
    with pytest.raises(UserError, match="unknown output format 'TextGrid': expected one of json, "):
        render(RESULT, "TextGrid")
