"""Shows the report of an evaluation as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from max_whisper.console import Table, table_console
from max_whisper.messages import printable, quote
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
from max_whisper.tools.eval.outcomes import Outcome
from max_whisper.tools.eval.report import Report
from max_whisper.tools.eval.scoring import Score, in_characters

MARKS = {"substitution": ("~", "yellow"), "deletion": ("-", "red"), "insertion": ("+", "green")}
"""The sign around a word of each kind of error, and its color; the sign alone tells them apart."""
LEGEND = "~another word was recognized~   -missing-   +recognized, but not said+"


def show(report: Report) -> None:
    """Prints the tables."""
    console = table_console()
    console.print(model_table(report))
    if report.groups:
        console.print(rate_table(report))
    if compared(report):
        console.print(difference_table(report))
    if report.silence:
        console.print(silence_table(report))
    if report.worst:
        console.print(worst_table(report))
        console.print(LEGEND)
    for note in notes(report):
        console.print(note)


def model_table(report: Report) -> Table:
    """Returns a row for each model: what it transcribed, and how fast."""
    table = _table("models", ["model", "weights"], ["speed", "recordings", "sound", "time"])
    for run in report.runs:
        speed = "" if run.speed is None else f"{run.speed:.1f} x"
        times = [f"{run.audio_seconds:,.0f} s", f"{run.wall_seconds:,.1f} s"]
        table.add_row(run.label, run.dtype, speed, f"{len(run.outcomes):,}", *times)
    return table


def rate_table(report: Report) -> Table:
    """Returns the error rate of each model in each group of recordings; for one model, the kinds of errors, too."""
    several = len(report.runs) > 1
    numbers = ["recordings", "words", "rate", INTERVAL, *([] if several else ["sub.", "del.", "ins."])]
    table = _table("error rates", ["language", *(["model"] if several else [])], numbers)
    for group in report.groups:
        name = group_name(group)
        for label, estimate in group.estimates.items():
            counts = estimate.counts
            kinds = [f"{count:,}" for count in (counts.substitutions, counts.deletions, counts.insertions)]
            table.add_row(
                name,
                *([label] if several else []),
                f"{estimate.recordings:,}",
                f"{counts.length:,}",
                percent(counts.rate),
                bounds(estimate.interval),
                *([] if several else kinds),
            )
            name = ""
        if several:
            table.add_section()
    return table


def difference_table(report: Report) -> Table:
    """Returns how the error rates of the other models differ from the first one's, in percentage points."""
    title = f"difference from {report.runs[0].label} in percentage points"
    table = _table(title, ["language", "model"], ["recordings", "points", INTERVAL])
    table.add_column("errors")
    for group in compared(report):
        for label, difference in group.differences.items():
            figures = [f"{difference.recordings:,}", points(difference.rate), point_bounds(difference.interval)]
            table.add_row(group_name(group), label, *figures, verdict(difference))
    return table


def silence_table(report: Report) -> Table:
    """Returns what each model recognized where nobody speaks."""
    table = _table("recordings without speech", ["model"], ["recordings", "with words", "words"])
    table.add_column("most words in")
    for label, silence in report.silence.items():
        counts = [str(silence.recordings), str(len(silence.invented)), str(silence.words)]
        table.add_row(label, *counts, *(_quoted(one) for one in silence.invented[:1]))
    return table


def _quoted(outcome: Outcome) -> str:
    return f"{outcome.recording.name}: {quote(outcome.text.strip())}"


def worst_table(report: Report) -> Table:
    """Returns what was said and what was recognized in the worst recordings, with the differences marked."""
    table = _table("most errors", ["recording", "said", "recognized"], [])
    for outcomes in report.worst:
        name = [next(iter(outcomes.values())).recording.name]
        for label, outcome in outcomes.items():
            said, recognized = _sides(outcome.score, spaces=not in_characters(outcome.recording.language))
            table.add_row([*name, *_about(label, outcome)], said, recognized)
            name = []
        table.add_section()
    return table


def _about(label: str, outcome: Outcome) -> list[str]:
    counts = outcome.score.counts
    return [f"  {label}", f"  {percent(counts.rate)}, {number(counts.errors, 'error')}"]


def _sides(score: Score, *, spaces: bool) -> tuple[Text, Text]:
    """Returns both texts of an alignment, in which the words of an error have its sign around them."""
    said, recognized = Text(), Text()
    for chunk in excerpt(score.chunks):
        sign, style = MARKS.get(chunk.kind, ("", ""))
        for side, words in ((said, chunk.reference), (recognized, chunk.hypothesis)):
            for word in words:
                if side and spaces:
                    side.append(" ")
                side.append(f"{sign}{printable(word)}{sign}", style)
    return said, recognized


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table
