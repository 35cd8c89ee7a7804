"""From what was measured to tables. A report is the JSON that `peers.py` writes; this needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

Report = dict[str, Any]
PHASES = {
    "log_mel": "log-mel ms",
    "encoder": "encoder ms",
    "first": "first token ms",
    "token": "ms/token",
    "total": "end to end ms",
}
START = {"load": "load ms", "first_text": "start to tokens ms", "memory": "peak MB"}
NOTHING = "–"


def medians(rounds: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Of each phase; None where a library does not tell it."""
    values = {phase: [one[phase] for one in rounds if one[phase] is not None] for phase in PHASES}
    return {phase: median(some) if some else None for phase, some in values.items()}


def equal_tokens(tokens: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, int]:
    """For each peer how many tokens at the start of its windows are those that most peers gave.

    tokens: of each peer, the tokens of each window.
    """
    if not tokens:
        return {}
    most, _ = Counter(tuple(map(tuple, windows)) for windows in tokens.values()).most_common(1)[0]
    return {peer: sum(map(_same, windows, most)) for peer, windows in tokens.items()}


def _same(some: Sequence[int], others: Sequence[int]) -> int:
    pairs = zip(some, others, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(some), len(others)))


def ranking(setting: Mapping[str, Any]) -> list[str]:
    """The peers of a setting, the fastest first."""
    return sorted(setting["rounds"], key=lambda peer: medians(setting["rounds"][peer])["total"])


def ratio(setting: Mapping[str, Any], peer: str, other: str) -> float:
    """How many times as long a peer takes from end to end as another: the median of the ratios of the rounds."""
    pairs = zip(setting["rounds"][peer], setting["rounds"][other], strict=True)
    return median(a["total"] / b["total"] for a, b in pairs)


def title(setting: Mapping[str, Any]) -> str:
    windows = "one window" if setting["batch"] == 1 else f"{setting['batch']} windows at once"
    return f"{windows} with {setting['seconds']:g} s of sound, {setting['tokens']} tokens each"


def setting_table(setting: Mapping[str, Any]) -> Table:
    """Medians of a setting, the fastest peer first, and the floors below."""
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
    for dtype, floor in setting["floors"].items():
        table.add_row(f"the machine's floor, {dtype}", *_cells(floor), style="italic")
    return table


def _cells(phases: Mapping[str, float | None]) -> list[str]:
    values = [phases.get(phase) for phase in PHASES]
    return [NOTHING if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in values]


def start_table(start: Mapping[str, Any]) -> Table:
    """Medians of new processes."""
    table = Table(title=f"new processes, {title(start)}", title_justify="left")
    table.add_column("")
    for heading in START.values():
        table.add_column(heading, justify="right")
    typical = {peer: {key: median(one[key] for one in runs) for key in START} for peer, runs in start["runs"].items()}
    for peer, values in sorted(typical.items(), key=lambda item: item[1]["first_text"]):
        table.add_row(peer, *(f"{values[key]:.0f}" for key in START))
    return table
