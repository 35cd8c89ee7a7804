"""Writes groups of figures as tables: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from max_whisper.tools.eval.scoring import Counts
from rich.table import Table

from benchmarks.peers.figures import Group, Row, Spread
from benchmarks.peers.tasks import COLD, STEADY

MISSING = "–"


def columns(group: Group) -> dict[str, Callable[[Row], str]]:
    """Returns the headings of a table and what stands below them, without columns that would be empty."""
    every: dict[str, tuple[bool, Callable[[Row], str]]] = {
        "time": (True, lambda row: spread(row.time, time_text)),
        "encoder": (any(row.encoder for row in group.rows), lambda row: spread(row.encoder, time_text, short=True)),
        "a token": (any(row.token for row in group.rows), lambda row: spread(row.token, time_text, short=True)),
        "loading": (group.setting == COLD, lambda row: spread(row.load, time_text, short=True)),
        "× real time": (group.setting == STEADY and group.task != "window", lambda row: f"{row.speed:.1f}"),
        "of max-whisper int8": (any(row.to_ours for row in group.rows), lambda row: spread(row.to_ours, ratio_text)),
        "of the fastest": (True, lambda row: spread(row.to_fastest, ratio_text, short=True)),
        "words wrong": (any(row.words for row in group.rows), lambda row: rate(row.words)),
        "characters wrong": (any(row.characters for row in group.rows), lambda row: rate(row.characters)),
        "peak MB": (True, lambda row: f"{row.memory:.0f}"),
        "others' CPU": (True, lambda row: f"{row.disturbed:.0%}"),
    }
    return {heading: cell for heading, (wanted, cell) in every.items() if wanted}


def cells(group: Group) -> Iterator[list[str]]:
    """Yields the rows of a table, its heading first."""
    chosen = columns(group)
    yield ["", *chosen]
    for row in group.rows:
        yield [name(row), *(cell(row) for cell in chosen.values())]


def name(row: Row) -> str:
    """Returns an engine and its variant, with a mark where its turns gave different texts."""
    return f"{row.label}, {row.about}" + ("" if row.steady_text else " (texts differ between turns)")


def terminal_table(group: Group) -> Table:
    """Returns a table for a terminal."""
    table = Table(title=group.title, title_justify="left")
    heading, *rows = cells(group)
    for i, text in enumerate(heading):
        table.add_column(text, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(all_groups: Sequence[Group], machines: Sequence[str]) -> str:
    """Returns all tables as Markdown, then what was measured and how it was called."""
    lines = [*(f"Measured on {machine}." for machine in machines), ""]
    for group in all_groups:
        heading, *rows = cells(group)
        lines += [f"**{group.title}**; median (lowest to highest) of {runs_text(group)}", ""]
        lines += [_line(heading), _line(["---", *["---:"] * (len(heading) - 1)]), *map(_line, rows), ""]
    lines += ["| | versions | call |", "|---|---|---|"]
    for row in {(row.engine, row.call): row for group in all_groups for row in group.rows}.values():
        versions = ", ".join(f"{package} {version}" for package, version in row.versions.items())
        lines.append(_line([f"{row.label}, {row.about}", versions, f"`{row.call}`"]))
    return "\n".join(lines) + "\n"


def runs_text(group: Group) -> str:
    """Returns how many runs the rows of a group have."""
    counts = sorted({row.runs for row in group.rows})
    return f"{counts[0]} runs" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"


def spread(value: Spread | None, text: Callable[[float], str], *, short: bool = False) -> str:
    """Returns a median, and unless `short` the lowest and highest value in parentheses."""
    if value is None:
        return MISSING
    if short or value.low == value.high:
        return text(value.median)
    return f"{text(value.median)} ({text(value.low)} to {text(value.high)})"


def time_text(seconds: float) -> str:
    """Returns a time with three digits: 1.51 ms, 374 ms, 9.52 s, 83.1 s."""
    milliseconds = seconds * 1e3
    if milliseconds < 10:
        return f"{milliseconds:.2f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def ratio_text(ratio: float) -> str:
    return f"{ratio:.2f}"


def rate(counts: Counts | None) -> str:
    """Returns the share of words or characters that are wrong."""
    return MISSING if counts is None or counts.rate is None else f"{counts.rate:.1%}"


def _line(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
