"""Turns a report, the JSON that `python -m benchmarks.peers` writes, into tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.common import common_prefix

Report = dict[str, Any]
PHASES = {
    "log_mel": "log-mel ms",
    "encoder": "encoder ms",
    "first": "first token ms",
    "token": "ms/token",
    "total": "end to end ms",
}
START = {"load": "load ms", "first_text": "start to tokens ms", "memory": "peak MB"}
MISSING = "–"


def medians(rounds: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Returns the median of each phase; None where a library does not report it."""
    values = {phase: [times[phase] for times in rounds if times[phase] is not None] for phase in PHASES}
    return {phase: median(times) if times else None for phase, times in values.items()}


def equal_tokens(tokens: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, int]:
    """Returns for each peer how many tokens at the start of its windows are those that most peers gave.

    `tokens` holds the tokens of each window, by peer.
    """
    if not tokens:
        return {}
    most, _ = Counter(tuple(map(tuple, windows)) for windows in tokens.values()).most_common(1)[0]
    return {peer: sum(map(common_prefix, windows, most)) for peer, windows in tokens.items()}


def ranking(setting: Mapping[str, Any]) -> list[str]:
    """Returns the peers of a setting, the fastest first."""
    return sorted(setting["rounds"], key=lambda peer: medians(setting["rounds"][peer])["total"])


def ratio(setting: Mapping[str, Any], peer: str, other: str) -> float:
    """Returns how many times as long as `other` a peer takes from end to end: the median of the rounds' ratios."""
    pairs = zip(setting["rounds"][peer], setting["rounds"][other], strict=True)
    return median(a["total"] / b["total"] for a, b in pairs)


def title(setting: Mapping[str, Any]) -> str:
    """Returns the title of a setting's table and chart."""
    windows = "one window" if setting["batch"] == 1 else f"{setting['batch']} windows at once"
    return f"{windows} with {setting['seconds']:g} s of sound, {setting['tokens']} tokens each"


def setting_table(setting: Mapping[str, Any]) -> Table:
    """Returns a table of a setting's medians, the fastest peer first, with the machine's lower bounds below."""
    table = Table(title=title(setting), title_justify="left")
    table.add_column("")
    for heading in (*PHASES.values(), "× fastest", "peak MB", "tokens equal"):
        table.add_column(heading, justify="right")
    order = ranking(setting)
    for peer in order:
        table.add_row(
            peer + ("" if setting["batched"][peer] else " (one by one)"),
            *_cells(medians(setting["rounds"][peer])),
            f"{ratio(setting, peer, order[0]):.2f}",
            f"{setting['memory'][peer]:.0f}",
            f"{setting['equal'][peer]}/{setting['batch'] * setting['tokens']}",
        )
    table.add_section()
    for dtype, bound in setting["lower_bounds"].items():
        table.add_row(f"lower bound, {dtype}", *_cells(bound), style="italic")
    return table


def _cells(phases: Mapping[str, float | None]) -> list[str]:
    values = [phases.get(phase) for phase in PHASES]
    return [MISSING if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in values]


def start_table(start: Mapping[str, Any]) -> Table:
    """Returns a table of the medians of new processes."""
    table = Table(title=f"new processes, {title(start)}", title_justify="left")
    table.add_column("")
    for heading in START.values():
        table.add_column(heading, justify="right")
    typical = {peer: {key: median(run[key] for run in runs) for key in START} for peer, runs in start["runs"].items()}
    for peer, values in sorted(typical.items(), key=lambda item: item[1]["first_text"]):
        table.add_row(peer, *(f"{values[key]:.0f}" for key in START))
    return table
