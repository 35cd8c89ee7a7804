"""Shows the report of a benchmark as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from max_whisper.console import Table, table_console
from max_whisper.tools.bench.bench import BenchReport
from max_whisper.tools.bench.detector import SECONDS, DetectorReport
from max_whisper.tools.bench.roofline import Kernel, Roofline, Row

PHASES = {
    "load": "load",
    "log_mel": "log-mel",
    "encoder": "encoder",
    "cross_kv": "keys and values of the cross-attention",
    "first": "prompt and first token",
    "token": "each later token",
    "total": "all of it, from sound to last token",
}
GRAPHS = {"encoder": PHASES["encoder"], "cross_kv": PHASES["cross_kv"], "step": "a token"}


def show(report: BenchReport | DetectorReport) -> None:
    """Prints the tables of phases and layers, and the machine's peak rates."""
    console = table_console()
    if isinstance(report, DetectorReport):
        console.print(detector_table(report), layer_table([report.roofline], {"step": "a chunk"}))
    else:
        after = f"{GRAPHS['step']} after {report.position} tokens"
        console.print(phase_table(report), layer_table(report.rooflines, {**GRAPHS, "step": after}))
    limits = [
        f"{value:,.1f} GB/s memory" if name == "memory" else f"{value:,.0f} GFLOP/s {name}"
        for name, value in report.peak_rates.items()
    ]
    console.print(f"the machine's peak rates with {report.threads} cores: {', '.join(limits)}")
    console.print(
        "The lower bound of a kernel is the time of its FLOPs, or of its bytes if that is longer, at these rates. Data "
        "in a cache of the CPU may be read faster. Medians of kernels need not add up to that of the graph, so that "
        "the time outside the kernels may be below 0."
    )


def phase_table(report: BenchReport) -> Table:
    """Returns the medians of the phases, beside their lower bounds where these are known."""
    batch = f"{report.batch} windows" if report.batch > 1 else "a window"
    kernels = ", with MAX's own kernels" if report.kernels == "max" else ""
    title = f"{report.model} in {report.dtype}{kernels}: {batch} of {report.seconds:g} s, {report.n_tokens} tokens"
    table = _table(title, ["phase"], ["ms", "lower bound"])
    for name, shown in PHASES.items():
        lower_bound = report.lower_bounds.get(name)
        table.add_row(shown, _ms(report.phases[name]), "" if lower_bound is None else _ms(lower_bound))
    table.add_row("peak memory", f"{report.peak_memory:.0f} MB", "")
    return table


def detector_table(report: DetectorReport) -> Table:
    """Returns the medians of a voice activity detector."""
    table = _table(f"{report.model} in float32", ["phase"], ["ms", "× real time"])
    table.add_row("load", _ms(report.load), "")
    table.add_row(f"a recording of {SECONDS} s", _ms(report.recording), f"{report.speed:,.0f}")
    table.add_row(f"a chunk of {report.chunk:g} ms", _ms(report.step), f"{report.chunk / report.step:,.0f}")
    table.add_row("peak memory", f"{report.peak_memory:.0f} MB", "")
    return table


def layer_table(rooflines: Sequence[Roofline], titles: Mapping[str, str]) -> Table:
    """Returns a row for the layers that kernels compute together, and below it the kernels if there are several.

    titles: the heading of each graph, by its name.
    """
    numbers = ["FLOPs", "MB", "ms", "achieved", "bound by", "of peak"]
    table = _table("layer by layer", ["layers", "kernel"], numbers)
    for graph in rooflines:
        table.add_row(titles[graph.graph], style="bold")
        for row in graph.rows:
            table.add_row(*_row(row))
            if len(row.kernels) > 1:
                for kernel in row.kernels:
                    table.add_row("", _kernel_name(kernel), *_numbers([kernel]), style="dim")
        if kernels := graph.parts():
            table.add_row("all kernels", "", *_numbers(kernels), style="bold")
            table.add_row("outside the kernels", "", "", "", _ms(graph.outside_kernels))
        rate = _rate(graph.flops, graph.graph_ms)
        table.add_row("the graph", "", _millions(graph.flops), "", _ms(graph.graph_ms), rate)
        table.add_section()
    return table


def as_json(report: BenchReport | DetectorReport) -> dict[str, Any]:
    """Returns the report as JSON values, in milliseconds, bytes and operations."""
    if isinstance(report, DetectorReport):
        return {
            "artifact": str(report.artifact),
            "model": report.model,
            "rounds": report.rounds,
            "threads": report.threads,
            "peak_rates": dict(report.peak_rates),
            "phases": {"load": report.load, "recording": report.recording, "step": report.step},
            "recording_seconds": SECONDS,
            "chunk_ms": report.chunk,
            "peak_memory_mb": report.peak_memory,
            "graphs": {"step": _graph_json(report.roofline)},
        }
    return {
        "artifact": str(report.artifact),
        "model": report.model,
        "dtype": report.dtype,
        "kernels": report.kernels,
        "batch": report.batch,
        "tokens": report.n_tokens,
        "rounds": report.rounds,
        "seconds": report.seconds,
        "threads": report.threads,
        "peak_rates": dict(report.peak_rates),
        "phases": report.phases,
        "lower_bounds": report.lower_bounds,
        "peak_memory_mb": report.peak_memory,
        "position": report.position,
        "graphs": {graph.graph: _graph_json(graph) for graph in report.rooflines},
    }


def _graph_json(graph: Roofline) -> dict[str, Any]:
    sums = {"flops": graph.flops, "bytes": graph.bytes, "kernels_ms": graph.ms, "lower_bound_ms": graph.lower_bound}
    rows = [
        {
            "layers": row.copies,
            "flops": row.flops,
            "bytes": row.bytes,
            "ms": row.ms,
            "lower_bound_ms": row.lower_bound,
            "kernels": [
                {
                    "kernel": kernel.name,
                    "weight": kernel.weight,
                    "flops": kernel.flops,
                    "bytes": kernel.bytes,
                    "ms": kernel.ms,
                    "arithmetic_ms": kernel.arithmetic_ms,
                    "memory_ms": kernel.memory_ms,
                }
                for kernel in row.kernels
            ],
        }
        for row in graph.rows
    ]
    return {**sums, "graph_ms": graph.graph_ms, "outside_kernels_ms": graph.outside_kernels, "rows": rows}


def _row(row: Row) -> list[str]:
    first, *others = row.layers
    stem = first.rpartition(".")[0]
    names = [first, *(path.removeprefix(f"{stem}.") for path in others)]
    copies = f"  × {len(row.copies)}" if len(row.copies) > 1 else ""
    label = " + ".join(names) + copies
    if not row.kernels:
        return [label, "MAX's own", _millions(row.flops)]
    return [label, _kernel_name(row.kernels[0]) if len(row.kernels) == 1 else "", *_numbers(row.kernels)]


def _kernel_name(kernel: Kernel) -> str:
    """Returns the name of a kernel and of its matrix, such as `gemv out_proj`."""
    parts = (kernel.weight or "").removesuffix(".weight").rpartition(".")
    return f"{kernel.name} {parts[2]}".strip()


def _numbers(kernels: Sequence[Kernel]) -> list[str]:
    flops, moved = sum(kernel.flops for kernel in kernels), sum(kernel.bytes for kernel in kernels)
    ms = sum(kernel.ms for kernel in kernels)
    lower_bound = sum(kernel.lower_bound for kernel in kernels)
    arithmetic = sum(kernel.lower_bound for kernel in kernels if kernel.arithmetic_ms >= kernel.memory_ms)
    by_arithmetic = arithmetic >= lower_bound / 2
    reached = _rate(flops, ms) if by_arithmetic else f"{moved / ms / 1e6:,.1f} GB/s"
    return [
        _millions(flops),
        f"{moved / 1e6:,.2f}",
        _ms(ms),
        reached,
        "arithmetic" if by_arithmetic else "memory",
        f"{lower_bound / ms:.0%}",
    ]


def _rate(flops: int, ms: float) -> str:
    rate = flops / ms / 1e6
    return f"{rate:,.0f} GFLOP/s" if rate >= 10 else f"{rate:.2g} GFLOP/s"


def _millions(flops: int) -> str:
    return f"{flops / 1e6:,.1f} M" if flops else ""


def _ms(number: float) -> str:
    return f"{number:,.1f}" if number >= 100 else f"{number:.3f}"


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title)
    for name in texts:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table
