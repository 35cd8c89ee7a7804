"""Draws how late live transcribers show words: a bar for the mean, with a line to the 95th percentile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.peers.plot import BAR, LINE, OUR_COLOR, ROW, THEIR_COLOR, text

WIDTH, LEFT, RIGHT, TOP = 900, 150, 260, 62  # pixels: the picture, the names, the figures, what is above the bars


def svg(figures: Mapping[str, Mapping[str, Any]], ours: str, title: str) -> str:
    """Returns the picture. figures: those of each transcriber; ours: the name of the one whose bar stands out."""
    longest = max(one["lag"]["p95"] for one in figures.values())
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = TOP + ROW * len(figures) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(10, 22, title, size=15),
        text(
            10, 44, "Seconds from the end of a word until it does not change any more; the tick: first shown", size=12
        ),
    ]
    for i, (name, one) in enumerate(sorted(figures.items(), key=lambda item: item[1]["lag"]["mean"])):
        y, lag = TOP + ROW * i, one["lag"]
        middle, tick = y + BAR / 2, LEFT + one["first_shown"]["mean"] * scale
        lines += [
            text(LEFT - 8, y + 12, name, anchor="end", weight="bold" if name == ours else "normal"),
            f'<rect x="{LEFT}" y="{y}" width="{lag["mean"] * scale:.1f}" height="{BAR}" '
            f'fill="{OUR_COLOR if name == ours else THEIR_COLOR}"/>',
            f'<line x1="{LEFT + lag["mean"] * scale:.1f}" x2="{LEFT + lag["p95"] * scale:.1f}" y1="{middle}" '
            f'y2="{middle}" stroke="{LINE}" stroke-width="2"/>',
            f'<line x1="{tick:.1f}" x2="{tick:.1f}" y1="{y}" y2="{y + BAR}" stroke="{LINE}" stroke-width="2"/>',
            text(LEFT + lag["p95"] * scale + 6, y + 12, _about(one), size=11),
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _about(one: Mapping[str, Any]) -> str:
    return f"{one['lag']['mean']:.1f} s, {100 * one['wrong_words']:.1f} % of words wrong, CPU {100 * one['cpu']:.0f} %"
