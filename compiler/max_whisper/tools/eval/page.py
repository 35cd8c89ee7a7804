"""Writes the report of an evaluation as one HTML page, which loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from max_whisper.tools.eval.charts import difference_line, difference_scale, rate_bar, rate_scale
from max_whisper.tools.eval.formatting import (
    INTERVAL,
    bounds,
    compared,
    excerpt,
    group_name,
    notes,
    number,
    percent,
    point_bounds,
    points,
    verdict,
)
from max_whisper.tools.eval.html import Html, element, joined
from max_whisper.tools.eval.outcomes import Outcome
from max_whisper.tools.eval.report import Group, Report
from max_whisper.tools.eval.scoring import Chunk, in_characters

TAGS = {"equal": "span", "substitution": "mark", "deletion": "del", "insertion": "ins"}
VERDICTS = {"more": "more errors", "fewer": "fewer errors", "unclear": "unclear", "": ""}
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing may be loaded or run, whatever a text contains."""


def page(report: Report) -> str:
    """Returns the page."""
    title = f"Errors of {', '.join(run.label for run in report.runs)}"
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    sections = [_models(report), _rates(report), _differences(report), _counts(report), _silence(report)]
    sections += [_worst(report), _notes(report)]
    head = joined(
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("title", title),
        Html(f"<style>{style}</style>"),
    )
    settings = ", ".join(f"{name} {_setting(value)}" for name, value in report.settings.items())
    header = element("header", element("h1", title), element("p", f"{report.manifest}; {settings}"))
    body = element("body", header, element("main", *sections))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>{body}</html>\n'


def _setting(value: object) -> str:
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value).lower()


def _models(report: Report) -> Html:
    rows = [
        [
            run.label,
            run.dtype,
            "" if run.speed is None else f"{run.speed:.1f} ×",
            f"{len(run.outcomes):,}",
            f"{run.audio_seconds:,.0f} s",
            f"{run.wall_seconds:,.1f} s",
        ]
        for run in report.runs
    ]
    return _section("Models", _table(["model", "weights"], ["speed", "recordings", "sound", "time"], rows))


def _rates(report: Report) -> Html:
    if not report.groups:
        return Html()
    scale = rate_scale(report)
    series = {run.label: index % 6 for index, run in enumerate(report.runs)}
    return _section(
        "Error rates",
        element("p", f"Bars end at {scale * 100:.0f} %; the thin line is the {INTERVAL}.", class_="about"),
        *(_group_rates(group, scale, series) for group in report.groups),
    )


def _group_rates(group: Group, scale: float, series: Mapping[str, int]) -> Html:
    lines = []
    for label, estimate in group.estimates.items():
        value = joined(element("b", percent(estimate.counts.rate)), element("small", bounds(estimate.interval)))
        bar = element("div", rate_bar(estimate, scale), class_=f"chart series{series[label]}")
        lines.append(element("div", element("span", label, class_="label"), bar, element("span", value), class_="row"))
    first = max(group.estimates.values(), key=lambda estimate: estimate.recordings)
    unit = "character" if group.characters else "word"
    about = f"{number(first.recordings, 'recording')}, {number(first.counts.length, unit)}"
    return _figure(group, about, lines)


def _differences(report: Report) -> Html:
    groups = compared(report)
    if not groups:
        return Html()
    scale = difference_scale(groups)
    figures = []
    for group in groups:
        lines = []
        for label, difference in group.differences.items():
            value = joined(
                element("b", points(difference.rate)),
                element("small", point_bounds(difference.interval)),
                element("small", VERDICTS[verdict(difference)]),
            )
            line = element("div", difference_line(difference, scale), class_="chart")
            lines.append(
                element("div", element("span", label, class_="label"), line, element("span", value), class_="row")
            )
        most = max(difference.recordings for difference in group.differences.values())
        figures.append(_figure(group, number(most, "recording"), lines))
    about = (
        f"In percentage points, on the recordings that both transcribed: left of the middle are fewer errors than "
        f"those of {report.runs[0].label}, right of it more. The ends are {scale * 100:.1f} points; the thin line is "
        f"the {INTERVAL}."
    )
    return _section(f"Difference from {report.runs[0].label}", element("p", about, class_="about"), *figures)


def _figure(group: Group, about: str, lines: Sequence[Html]) -> Html:
    name = group_name(group)
    heading = element("h3", name, " ", element("small", about))
    return element("div", heading, *lines, class_="total" if not group.language else "group")


def _counts(report: Report) -> Html:
    if not report.groups:
        return Html()
    rows = [
        [
            group_name(group),
            label,
            f"{estimate.recordings:,}",
            f"{estimate.counts.length:,}",
            f"{estimate.counts.substitutions:,}",
            f"{estimate.counts.deletions:,}",
            f"{estimate.counts.insertions:,}",
            percent(estimate.counts.rate),
            bounds(estimate.interval),
        ]
        for group in report.groups
        for label, estimate in group.estimates.items()
    ]
    numbers = ["recordings", "words", "sub.", "del.", "ins.", "error rate", INTERVAL]
    table = _table(["language", "model"], numbers, rows)
    return element("section", element("details", element("summary", "All counts"), table))


def _silence(report: Report) -> Html:
    if not report.silence:
        return Html()
    rows = [
        [label, f"{silence.recordings:,}", f"{len(silence.invented):,}", f"{silence.words:,}"]
        for label, silence in report.silence.items()
    ]
    found = [
        element("p", element("small", f"{outcome.recording.name}, {label}: "), outcome.text.strip(), dir="auto")
        for label, silence in report.silence.items()
        for outcome in silence.invented
    ]
    counts = _table(["model"], ["recordings", "with words", "words"], rows)
    return _section("Recordings without speech", counts, *found)


def _worst(report: Report) -> Html:
    if not report.worst:
        return Html()
    legend = element(
        "p",
        element("mark", "another word was recognized"),
        " ",
        element("del", "missing"),
        " ",
        element("ins", "recognized, but not said"),
        class_="legend",
    )
    return _section("Most errors", legend, *map(_recording, report.worst))


def _recording(outcomes: Mapping[str, Outcome]) -> Html:
    recording = next(iter(outcomes.values())).recording
    about = ", ".join(filter(None, [recording.language, recording.kind]))
    heading = element("h3", recording.name, " ", element("small", about))
    return element("article", heading, *(_aligned(label, outcome) for label, outcome in outcomes.items()))


def _aligned(label: str, outcome: Outcome) -> Html:
    counts, language = outcome.score.counts, outcome.recording.language
    chunks = excerpt(outcome.score.chunks)
    sides = [
        element(
            "div",
            element("h4", name),
            element("p", _words(chunks, side, spaces=not in_characters(language)), lang=language, dir="auto"),
        )
        for side, name in (("reference", "said"), ("hypothesis", "recognized"))
    ]
    about = f"{label}: {percent(counts.rate)}, {number(counts.errors, 'error')}"
    return joined(element("p", about, class_="about"), element("div", *sides, class_="sides"))


def _words(chunks: Iterable[Chunk], side: str, *, spaces: bool) -> Html:
    """Returns one side of an alignment, in which each word of an error is an element of its own."""
    words = [element(TAGS[chunk.kind], word) for chunk in chunks for word in getattr(chunk, side)]
    return Html((" " if spaces else "").join(words))


def _notes(report: Report) -> Html:
    return _section("What these figures are", *(element("p", note) for note in notes(report)))


def _section(title: str, *children: Html) -> Html:
    return element("section", element("h2", title), *children)


def _table(texts: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    kinds = [*[""] * len(texts), *["number"] * len(numbers)]
    head = element("tr", *(_cell("th", name, kind) for name, kind in zip([*texts, *numbers], kinds, strict=True)))
    body = (element("tr", *(_cell("td", text, kind) for text, kind in zip(row, kinds, strict=True))) for row in rows)
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="table")


def _cell(name: str, text: str, kind: str) -> Html:
    return element(name, text, class_=kind) if kind else element(name, text)
