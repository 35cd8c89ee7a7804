"""The report of an evaluation, put together from outcomes by hand, and how tables, page and JSON show it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from max_whisper.console import Table
from max_whisper.tools.eval.charts import rate_bar
from max_whisper.tools.eval.evaluate import scorable
from max_whisper.tools.eval.formatting import excerpt, notes, points, verdict
from max_whisper.tools.eval.intervals import FEWEST, Interval
from max_whisper.tools.eval.json_report import json_text
from max_whisper.tools.eval.manifest import Recording
from max_whisper.tools.eval.outcomes import Failure, Outcome, Run
from max_whisper.tools.eval.page import page
from max_whisper.tools.eval.report import Difference, Estimate, Report, make_report
from max_whisper.tools.eval.scoring import Chunk, Counts, score_texts
from max_whisper.tools.eval.tables import difference_table, model_table, rate_table, show, silence_table, worst_table
from rich.console import Console

Row = tuple[str, str, str, str, str]  # name, language, kind, text, recognized
CLEAN = [(f"clean{i:02}", "en", "clean", "the cat sat down", "the cat sat down") for i in range(FEWEST)]
ROWS: list[Row] = [
    *CLEAN,
    ("noisy", "en", "noisy", "so the cat sat", "the bat sat there"),
    ("french", "fr", "clean", "le chat dort", "le chat"),
    ("chinese", "zh", "clean", "你好", "你"),
    ("music", "zxx", "", "", "[Music] thank you"),
    ("birds", "zxx", "", "", " "),
]


def recording(row: Row) -> Recording:
    name, language, kind, text, _ = row
    return Recording(name, Path(name), language, text, kind)


def run_of(label: str, rows: Sequence[Row], failed: Sequence[Row] = (), skipped: Sequence[Row] = ()) -> Run:
    """Returns a run in which each recording of 10 s took 2 s."""
    outcomes = []
    for row in rows:
        (score,) = score_texts([row[3]], [row[4]], row[1])
        outcomes.append(Outcome(recording(row), row[4], "en" if row[1] == "zxx" else row[1], 10.0, 2.0, score))
    failures = tuple(Failure(recording(row), f"{row[0]} cannot be read") for row in failed)
    return Run(label, f"art/{label}", "whisper-x", "int8", tuple(outcomes), failures, tuple(map(recording, skipped)))


def report_of(*runs: Run, left_out: Sequence[Recording] = (), worst: int = 5) -> Report:
    return make_report("speech.tsv", {"beam_size": None}, runs, left_out, resamples=500, worst=worst)


@pytest.fixture
def report() -> Report:
    """Returns the report of a model, and of one that knows English alone and makes one error more in each clean one."""
    worse = [(*row[:4], "the cat sat town") for row in CLEAN]
    english = [*worse, ROWS[FEWEST], *ROWS[-2:]]
    left_out = [Recording("unknown", Path("unknown"), "en", "")]
    second = run_of("second", english, failed=[("broken", "en", "clean", "a", "")], skipped=ROWS[FEWEST + 1 : -2])
    return report_of(run_of("first", ROWS), second, left_out=left_out)


# --- figures


def test_groups(report: Report) -> None:
    groups = {(group.language, group.kind, group.characters): group for group in report.groups}
    assert [*groups] == [
        ("", "", False),  # French and English; Chinese is alone in characters
        ("en", "", False),
        ("en", "clean", False),
        ("en", "noisy", False),
        ("fr", "clean", False),
        ("zh", "clean", True),
    ]
    english = groups["en", "", False].estimates
    assert english["first"].counts == Counts(44, 1, 1, 1) and english["first"].recordings == 11
    assert english["second"].counts == Counts(44, 11, 1, 1)
    assert groups["", "", False].estimates["first"].counts == Counts(47, 1, 2, 1)
    assert groups["zh", "clean", True].estimates["first"].counts == Counts(2, 0, 1, 0)
    assert "second" not in groups["fr", "clean", False].estimates
    assert english["first"].interval is not None and groups["en", "noisy", False].estimates["first"].interval is None


def test_differences_are_of_recordings_that_both_transcribed(report: Report) -> None:
    groups = {(group.language, group.kind): group for group in report.groups}
    assert groups["en", "clean"].differences == {"second": Difference(10, 0.25, Interval(0.25, 0.25))}
    assert groups["en", ""].differences["second"].recordings == groups["", ""].differences["second"].recordings == 11
    assert groups["en", ""].differences["second"].rate == pytest.approx(10 / 44)
    assert groups["fr", "clean"].differences == {}


def test_recordings_without_speech(report: Report) -> None:
    silence = report.silence["first"]
    assert (silence.recordings, silence.words, [one.recording.name for one in silence.invented]) == (2, 2, ["music"])


def test_the_worst_come_first() -> None:
    rows: list[Row] = [
        ("right", "en", "", "a b", "a b"),
        ("long", "en", "", "a b c d e f g h", "a b c d"),
        ("short", "en", "", "yes", "no"),
        ("invented", "en", "", "yes", "yes it is so"),
    ]
    report = report_of(run_of("first", rows), run_of("second", [(*row[:4], row[3]) for row in rows]))
    assert [outcomes["first"].recording.name for outcomes in report.worst] == ["invented", "short", "long"]
    assert [*report.worst[0]] == ["first", "second"]
    assert len(report_of(run_of("first", rows), worst=1).worst) == 1


def test_speed(report: Report) -> None:
    assert (report.runs[0].audio_seconds, report.runs[0].wall_seconds, report.runs[0].speed) == (150.0, 30.0, 5.0)
    assert run_of("none", []).speed is None


def test_what_can_be_scored() -> None:
    rows = [*ROWS, ("unknown", "en", "", "", ""), ("laughter", "fr", "", "(rires)", "")]
    assert [one.name for one in scorable([*map(recording, rows)])] == [row[0] for row in ROWS]


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (None, ""),
        (Interval(0.001, 0.01), "more"),
        (Interval(-0.01, -0.001), "fewer"),
        (Interval(-0.01, 0.01), "unclear"),
        (Interval(0.0, 0.01), "unclear"),
    ],
)
def test_verdicts(interval: Interval | None, said: str) -> None:
    assert verdict(Difference(10, 0.0, interval)) == said


def test_points() -> None:
    assert [points(one) for one in (0.0025, -0.0125, 0.0, -0.00001)] == ["+0.25", "−1.25", "0.00", "0.00"]


def test_an_excerpt() -> None:
    words = tuple("abcdefghijklmnop")
    equal, error = Chunk("equal", words, words), Chunk("deletion", ("x",), ())
    shown = ["".join(chunk.reference) for chunk in excerpt([equal, error, equal, error, equal])]
    assert shown == ["…lmnop", "x", "abcde…lmnop", "x", "abcde…"]
    assert ["".join(chunk.reference) for chunk in excerpt([equal])] == ["abcde…lmnop"]
    short = Chunk("equal", words[:6], words[:6])
    assert excerpt([short, error]) == [short, error]


# --- tables


def printed(*tables: Table, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(*tables)
    return console.file.getvalue()


def test_tables(report: Report) -> None:
    tables = (model_table(report), rate_table(report), difference_table(report), silence_table(report))
    lines = [re.sub(r"[│┃ ]+", " ", line).strip() for line in printed(*tables).splitlines()]
    assert "first int8 5.0 x 15 150 s 30.0 s" in lines
    assert any(line.startswith("en first 11 44 6.8 % 0.0–") for line in lines)
    assert "zh clean (CER) first 1 2 50.0 %" in lines
    assert "en clean second 10 +25.00 +25.00 to +25.00 more" in lines
    assert "second 2 1 2 music: '[Music] thank you'" in lines
    assert "…" not in printed(*tables)  # nothing is cut at 80 columns


def test_one_model_has_the_kinds_of_errors() -> None:
    report = report_of(run_of("only", ROWS))
    lines = [re.sub(r"[│┃ ]+", " ", line).strip() for line in printed(rate_table(report)).splitlines()]
    assert "en noisy 1 4 75.0 % 1 1 1" in lines


def test_the_worst_side_by_side(report: Report) -> None:
    text = printed(worst_table(report), width=120)
    assert re.search(r"noisy +│ -so- the ~cat~ sat +│ the ~bat~ sat \+there\+ ", text)
    assert "你~好~" not in text and re.search(r"│ 你-好- +│ 你 ", text)


def test_what_is_printed(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    show(report)
    text = capsys.readouterr().out
    for note in notes(report):
        assert note[:60] in text
    assert "second skipped 2 recordings in languages that it does not know: fr, zh." in text
    assert "second could not transcribe 1 recording." in text
    assert "Left out: 1 recording with speech" in text


def test_a_report_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(run_of("only", [], skipped=ROWS[:1]))
    show(report)
    assert "only skipped 1 recording" in capsys.readouterr().out
    assert Page(page(report)).texts
    assert json.loads(json_text(report))["models"][0]["speed"] is None


# --- JSON


def test_json(report: Report) -> None:
    figures = json.loads(json_text(report))
    assert figures["manifest"] == "speech.tsv" and figures["settings"] == {"beam_size": None}
    assert {*figures["versions"]} == {"max-whisper", "max", "jiwer", "whisper-normalizer"}
    english = next(group for group in figures["groups"] if (group["language"], group["kind"]) == ("en", None))
    assert english["models"]["first"]["errors"] == 3 and english["models"]["first"]["rate"] == 3 / 44
    assert english["differences"]["second"]["recordings"] == 11
    assert figures["left_out"] == ["unknown"]
    first, second = figures["models"]
    noisy = next(one for one in first["recordings"] if one["file"] == "noisy")
    assert (noisy["said_normalized"], noisy["errors"]) == (["so", "the", "cat", "sat"], 3)
    assert second["failures"] == [
        {"file": "broken", "language": "en", "kind": "clean", "reason": "broken cannot be read"}
    ]
    assert second["skipped"] == ["french", "chinese"]


# --- the page

VOID = {"meta"}


class Page(HTMLParser):
    """Reads a page, and fails where its tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def test_the_page(report: Report) -> None:
    read = Page(page(report))
    text = " ".join(read.texts)
    for shown in ("Errors of first, second", "6.8 %", "+25.00", "more errors", "music, first: ", "你", "Left out: 1"):
        assert shown in text
    assert {tag for tag, _ in read.tags} >= {"mark", "del", "ins", "svg", "details", "table"}
    labels = [attributes["aria-label"] for tag, attributes in read.tags if tag == "svg"]
    assert "75.0 %" in labels and "+25.00, +25.00 to +25.00" in labels
    assert ("p", {"lang": "zh", "dir": "auto"}) in read.tags


def test_the_page_loads_nothing(report: Report) -> None:
    text = page(report)
    for tag, attributes in Page(text).tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "a", "form", "base")
        assert not {*attributes} & {"src", "href", "style", "srcset", "action"}
    assert "url(" not in text and "@import" not in text and "default-src 'none'" in text


HOSTILE = "</style><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;\u202e\x1b[31m\x00"


def test_hostile_names_and_texts() -> None:
    rows: list[Row] = [
        (HOSTILE, "en", HOSTILE, f"hello {HOSTILE} there", f"goodbye {HOSTILE}"),
        (HOSTILE + "2", "fr", "", "un deux", "&amp; <b>trois</b> un"),
        (HOSTILE + "3", "zxx", "", "", f"thanks {HOSTILE} for watching"),
    ]
    report = report_of(run_of(HOSTILE, rows), run_of("b", rows), left_out=[recording(rows[0])])
    text = page(report)
    read = Page(text)
    known = {tag for tag, _ in Page(page(report_of(run_of("a", ROWS), run_of("b", ROWS)))).tags}
    assert {tag for tag, _ in read.tags} <= known | {"mark", "del", "ins"}
    assert {name for _, attributes in read.tags for name in attributes if name.startswith("on")} == set()
    assert "</style><script>alert(1)</script>" in "".join(read.texts)  # shown as it is
    assert not set(text) & {"\x00", "\x1b", "\u202e"}
    tables = (model_table(report), rate_table(report), silence_table(report), worst_table(report))
    assert not set(printed(*tables, width=180)) & {"\x00", "\x1b", "\u202e"}
    json.loads(json_text(report))


def test_bars_end_at_the_edge() -> None:
    bar = rate_bar(Estimate(1, Counts(2, 0, 0, 9), Interval(1.5, 9.0)), 1.0)
    assert 'width="1000.0"' in bar and "450.0 %" in bar
    assert max(float(x) for x in re.findall(r'x[12]?="([\d.]+)"', bar)) <= 1000
