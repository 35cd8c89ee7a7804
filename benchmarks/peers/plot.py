"""Draws groups of figures as SVG: a bar for each engine, with a line from the lowest to the highest time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.peers.figures import OURS, Group
from benchmarks.peers.tables import rate, time_text

WIDTH, LEFT, RIGHT = 900, 300, 190  # pixels: the picture, the labels left of the bars, the figures right of them
ROW, BAR, HEAD = 22, 15, 34  # pixels: from bar to bar, the height of a bar, the title above the first
OUR_COLOR, THEIR_COLOR, LINE = "#3b6fb6", "#b8b8b8", "#444"


def svg(groups: Sequence[Group], title: str) -> str:
    """Returns the picture, under a title."""
    panels: list[str] = []
    y = 34
    for group in groups:
        panels += _panel(group, y)
        y += HEAD + ROW * len(group.rows) + 18
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{y}" fill="white"/>',
        text(10, 22, title, size=15),
        *panels,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _panel(group: Group, top: int) -> Iterator[str]:
    """Yields the elements of a group: its title, and its bars."""
    scale = (WIDTH - LEFT - RIGHT) / max(row.time.high for row in group.rows)
    yield text(10, top + 18, group.title, size=12, weight="bold")
    for i, row in enumerate(group.rows):
        y, ours = top + HEAD + ROW * i, row.engine.partition(":")[0] == OURS[0]
        yield text(LEFT - 8, y + 12, f"{row.label}, {row.about}", anchor="end", weight="bold" if ours else "normal")
        color = OUR_COLOR if ours else THEIR_COLOR
        yield (
            f'<rect x="{LEFT}" y="{y}" width="{row.time.median * scale:.1f}" height="{BAR}" fill="{color}"/>'
            f'<line x1="{LEFT + row.time.low * scale:.1f}" x2="{LEFT + row.time.high * scale:.1f}" '
            f'y1="{y + BAR / 2}" y2="{y + BAR / 2}" stroke="{LINE}" stroke-width="2"/>'
        )
        words = f", {rate(row.words)} of words wrong" if row.words else ""
        yield text(LEFT + row.time.high * scale + 6, y + 12, f"{time_text(row.time.median)}{words}", size=11)


def text(x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", weight: str = "normal") -> str:
    """Returns text at a place. anchor: start, middle or end of it is there."""
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="#222"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
