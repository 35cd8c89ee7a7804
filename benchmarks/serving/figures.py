"""Makes figures of what became of requests, and a table of these."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmarks.serving.clients import LOST, REFUSED, RIGHT, UNEXPECTED, WRONG, Event

EXAMPLES = 5
"""The most requests that went wrong of which it is told how."""


def percentile(values: Sequence[float], share: float) -> float | None:
    """Returns the smallest of the values that is not below `share` of them; None where there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def load_figures(events: Sequence[Event], clients: int, seconds: float) -> dict[str, Any]:
    """Returns the figures of some clients that sent requests for some seconds.

    Rates are of right texts that came within that time. Latencies are of all right texts of good requests, those that
    came after it among them: else the slowest would be left out.
    """
    outcomes = Counter(event.outcome for event in events)
    right = [event for event in events if event.audio]
    within = [event for event in right if event.ended <= seconds]
    latencies = [event.seconds for event in right if event.kind == "good"]
    wrong = [event for event in events if event.outcome in (WRONG, LOST, UNEXPECTED)]
    return {
        "clients": clients,
        "seconds": seconds,
        "requests": dict(sorted(Counter(event.kind for event in events).items())),
        "texts": len(right),
        "requests_per_second": len(within) / seconds,
        "audio_seconds_per_second": sum(event.audio for event in within) / seconds,
        "p50_seconds": percentile(latencies, 0.5),
        "p99_seconds": percentile(latencies, 0.99),
        **{outcome: outcomes[outcome] for outcome in (RIGHT, REFUSED, WRONG, LOST, UNEXPECTED)},
        "examples": [f"{event.kind}, {event.outcome}: {event.detail}" for event in wrong[:EXAMPLES]],
    }


def table(servers: Sequence[dict[str, Any]]) -> Table:
    """Returns the table of some servers, with a row for each number of clients."""
    columns = ["server", "clients", "texts", "requests/s", "audio s/s", "p50 s", "p99 s", "429", "changed", "lost"]
    columns += ["unexpected", "MB before", "MB after", "busy after, s", "left"]
    shown = Table(*columns)
    for column in shown.columns[1:]:
        column.justify = "right"
    for server in servers:
        for row in server["loads"]:
            shown.add_row(
                server["name"],
                str(row["clients"]),
                str(row["texts"]),
                f"{row['requests_per_second']:.2f}",
                f"{row['audio_seconds_per_second']:.1f}",
                seconds_text(row["p50_seconds"]),
                seconds_text(row["p99_seconds"]),
                *(str(row[key]) for key in (REFUSED, WRONG, LOST, UNEXPECTED)),
                f"{row['memory_before_mb']:.0f}",
                f"{row['memory_after_mb']:.0f}",
                "never rests" if row["busy_after_seconds"] is None else f"{row['busy_after_seconds']:.0f}",
                str(len(row["left"])),
            )
    return shown


def seconds_text(seconds: float | None) -> str:
    """Returns seconds for a table, with as many digits as are of use."""
    return "" if seconds is None else f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}"
