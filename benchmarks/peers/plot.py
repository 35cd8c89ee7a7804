"""Draws a report as SVG: for each setting a bar per peer, cut into phases, and the lower bounds as lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from benchmarks.peers.figures import PHASES, medians, ranking, title

COLORS = {"log_mel": "#b8b8b8", "encoder": "#3b6fb6", "first": "#e0a030", "others": "#5fa55a"}
NAMES = {"log_mel": "log-mel", "encoder": "encoder", "first": "first token", "others": "other tokens"}
WIDTH, LEFT, RIGHT = 900, 230, 70  # pixels: the picture, the labels left of the bars, the figures right of them
ROW, BAR, HEAD = 22, 15, 62  # pixels: from bar to bar, the height of a bar, the space above the first
OURS = "max-whisper"
LOWER_BOUND = "#c03030"


def svg(report: Mapping[str, Any]) -> str:
    """Returns the picture of a report."""
    panels, y = [], 34
    for setting in filter(lambda setting: setting["rounds"], report["settings"]):
        panels += _panel(setting, y)
        y += HEAD + ROW * len(setting["rounds"]) + 18
    machine = report["machine"]
    about = f"{report['model']}, {report['threads']} threads of {machine['cpu']}: median milliseconds"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{y}" fill="white"/>',
        _text(10, 22, about, size=15),
        *panels,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _panel(setting: Mapping[str, Any], top: int) -> Iterator[str]:
    """Yields the elements of a setting: title, legend, bars, lines."""
    times = {peer: medians(setting["rounds"][peer]) for peer in ranking(setting)}
    bounds = {dtype: bound["total"] for dtype, bound in setting["lower_bounds"].items()}
    longest = max(phases["total"] or 0 for phases in times.values())
    scale = (WIDTH - LEFT - RIGHT) / longest
    yield _text(10, top + 18, title(setting), size=13, weight="bold")
    for i, (phase, color) in enumerate(COLORS.items()):
        x = LEFT + 110 * i
        yield _box(x, top + 28, 11, 11, color)
        yield _text(x + 16, top + 38, NAMES[phase])
    for i, (peer, phases) in enumerate(times.items()):
        x, y = float(LEFT), top + HEAD + ROW * i
        yield _text(LEFT - 8, y + 12, peer, anchor="end", weight="bold" if peer.startswith(OURS) else "normal")
        for phase, length in parts(phases).items():
            yield _box(x, y, length * scale, BAR, COLORS[phase])
            x += length * scale
        yield _text(x + 5, y + 12, f"{phases['total']:.0f}")
    if bounds:
        figures = ", ".join(f"{dtype} {total:.0f}" for dtype, total in bounds.items())
        yield _text(WIDTH - 10, top + 18, f"lower bound of this machine: {figures}", anchor="end", color=LOWER_BOUND)
    for total in bounds.values():
        x = f"{LEFT + total * scale:.1f}"
        y, end = top + HEAD - 5, top + HEAD + ROW * len(times)
        yield f'<line x1="{x}" x2="{x}" y1="{y}" y2="{end}" stroke="{LOWER_BOUND}" stroke-dasharray="4 3"/>'


def parts(phases: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the lengths of a bar's parts, which add up to the total."""
    lengths = {phase: max(0.0, phases[phase] or 0.0) for phase in PHASES if phase in COLORS}
    return lengths | {"others": max(0.0, (phases["total"] or 0.0) - sum(lengths.values()))}


def _box(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{color}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    anchor: str = "start",
    weight: str = "normal",
    color: str = "#222",
) -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="{color}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
