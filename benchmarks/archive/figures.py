"""Makes figures of turns, in each of which every side transcribed the same recordings, and a table of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from max_whisper.tools.eval.scoring import Counts, in_characters, score_texts
from rich.table import Table

from benchmarks.archive.recordings import Said
from benchmarks.archive.sides import ONE_BY_ONE, Texts
from benchmarks.peers.figures import Spread

Turn = dict[str, dict[str, Any]]
"""The cost of each side in one turn, by its name."""


def errors(said: Sequence[Said], texts: Texts) -> dict[str, Counts]:
    """Returns the errors in words, and in characters where these are counted, of the recordings that have a text."""
    found: dict[str, list[Counts]] = {"words": [], "characters": []}
    for one in said:
        if one.text:
            unit = "characters" if in_characters(one.language) else "words"
            (score,) = score_texts([one.text], [texts.get(one.file) or ""], one.language)
            found[unit].append(score.counts)
    return {unit: Counts.total(counts) for unit, counts in found.items()}


def side_figures(name: str, turns: Sequence[Turn], said: Sequence[Said], texts: Texts) -> dict[str, Any]:
    """Returns the figures of a side: medians over turns, and ratios to each other side within a turn."""
    mine = [turn[name] for turn in turns]
    seconds = Spread.of(cost["seconds"] for cost in mine)
    assert seconds is not None
    hours = sum(one.seconds for one in said) / 3600
    ratios = {
        other: Spread.of(turn[other]["seconds"] / turn[name]["seconds"] for turn in turns)
        for other in turns[0]
        if other != name
    }
    return {
        "name": name,
        "seconds": vars(seconds),
        "hours_per_hour": hours / seconds.median * 3600,
        "times_as_fast_as": {other: vars(ratio) for other, ratio in ratios.items() if ratio is not None},
        "peak_mb": max(cost["peak_mb"] for cost in mine),
        "processes": max(cost["processes"] for cost in mine),
        "failed": [one.file for one in said if texts.get(one.file) is None],
        **{f"{unit}_wrong": counts.rate for unit, counts in errors(said, texts).items()},
    }


def table(title: str, sides: Sequence[dict[str, Any]]) -> Table:
    """Returns a table with a row for each side."""
    others = [side["name"] for side in sides if side["name"] == ONE_BY_ONE or side["name"].startswith("faster")]
    ratios = [f"x {other}" for other in others]
    columns = ["seconds", "hours per hour", *ratios, "peak MB", "processes"]
    columns += ["words wrong", "characters wrong", "failed"]
    shown = Table("", *columns, title=title)
    shown.columns[0].no_wrap = True
    for column in shown.columns[1:]:
        column.justify = "right"
    for side in sides:
        shown.add_row(
            side["name"],
            _spread(side["seconds"], 1),
            f"{side['hours_per_hour']:.1f}",
            *(_spread(side["times_as_fast_as"].get(other), 2) for other in others),
            f"{side['peak_mb']:.0f}",
            str(side["processes"]),
            *("" if side[key] is None else f"{side[key]:.1%}" for key in ("words_wrong", "characters_wrong")),
            str(len(side["failed"])),
        )
    return shown


def _spread(spread: dict[str, float] | None, digits: int) -> str:
    if spread is None:
        return ""
    low, high = (f"{spread[key]:.{digits}f}" for key in ("low", "high"))
    return f"{spread['median']:.{digits}f} ({low} to {high})"
