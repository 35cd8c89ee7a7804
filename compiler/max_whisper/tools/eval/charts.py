"""Draws error rates and differences with their intervals as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from max_whisper.tools.eval.formatting import bounds, percent, point_bounds, points
from max_whisper.tools.eval.html import Html, element, joined
from max_whisper.tools.eval.report import Difference, Estimate, Group, Report

WIDTH, HEIGHT, MIDDLE = 1000, 20, 10  # of the coordinates; the page stretches the width


def rate_scale(report: Report) -> float:
    """Returns the rate at the right end of all bars: the highest bound, at least 5 % and at most 100 %."""
    estimates = [estimate for group in report.groups for estimate in group.estimates.values()]
    highest = [one.interval.high if one.interval else one.counts.rate or 0.0 for one in estimates]
    return min(1.0, max([0.05, *highest]))


def rate_bar(estimate: Estimate, scale: float) -> Html:
    """Returns a bar for an error rate, with a line for its interval; what is beyond the scale is cut."""
    rate = estimate.counts.rate or 0.0
    drawn = [_rectangle(0, _x(rate, scale), "rate")]
    label = percent(rate)
    if estimate.interval is not None:
        drawn.append(_whisker(_x(estimate.interval.low, scale), _x(estimate.interval.high, scale)))
        label += f", {bounds(estimate.interval)}"
    return _chart(label, *drawn)


def difference_scale(groups: Sequence[Group]) -> float:
    """Returns the difference at both ends of all lines: the largest bound, at least half a percentage point."""
    differences = [difference for group in groups for difference in group.differences.values()]
    largest = [max(abs(one.interval.low), abs(one.interval.high)) for one in differences if one.interval]
    return min(1.0, max([0.005, *largest, *(abs(one.rate) for one in differences)]))


def difference_line(difference: Difference, scale: float) -> Html:
    """Returns a point for a difference, with a line for its interval; 0 is in the middle."""
    drawn = [element("line", x1="500", x2="500", y1="0", y2=str(HEIGHT), class_="zero")]
    label = points(difference.rate)
    if difference.interval is not None:
        low, high = difference.interval.low, difference.interval.high
        drawn.append(_whisker(_x(low + scale, 2 * scale), _x(high + scale, 2 * scale)))
        label += f", {point_bounds(difference.interval)}"
    middle = _x(difference.rate + scale, 2 * scale)
    drawn.append(_rectangle(max(0, middle - 4), min(WIDTH, middle + 4), "point"))
    return _chart(label, *drawn)


def _x(value: float, scale: float) -> float:
    return WIDTH * min(1.0, max(0.0, value / scale))


def _rectangle(left: float, right: float, kind: str) -> Html:
    size = {"x": f"{left:.1f}", "width": f"{right - left:.1f}", "y": "3", "height": f"{HEIGHT - 6}"}
    return element("rect", **size, class_=kind)


def _whisker(low: float, high: float) -> Html:
    ends = [(low, MIDDLE, high, MIDDLE), (low, 5, low, HEIGHT - 5), (high, 5, high, HEIGHT - 5)]
    return joined(
        *(
            element("line", x1=f"{x1:.1f}", y1=f"{y1}", x2=f"{x2:.1f}", y2=f"{y2}", class_="whisker")
            for x1, y1, x2, y2 in ends
        )
    )


def _chart(label: str, *drawn: Html) -> Html:
    box = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "preserveAspectRatio": "none"}
    return element("svg", *drawn, **box, role="img", aria_label=label)
