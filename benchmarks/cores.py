"""Says for each kernel up to how many CPU cores it gets faster, by a model that two measurements are compared with.

    max-whisper bench ARTIFACT --threads 1 --json one.json
    max-whisper bench ARTIFACT --threads 2 --json two.json
    python -m benchmarks.cores one.json two.json [--memory GB/s] [--cores 4 --cores 8 ...]

A kernel takes the longer of two, plus what its parallel region costs:

    its time on one core, times the largest share of its items that a core gets
    its bytes, at the rate of the whole memory

Items are what a thread takes at a time: strips of rows, heads, panels of outputs (kernels/*.mojo). A region costs a
fixed time, and half of that for each thread that is woken. This is fitted to a token's times on two cores; all other
times on two cores stand beside what the model says. Everything beyond two cores is a prediction, not a measurement.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.common import help_text

PANEL, ROWS, SCRATCH, PER_THREAD, RANGE = 32, 12, 1 << 18, 4, 512  # as in kernels/*.mojo
WORTH = 0.9  # twice the cores pay if they take less than this share of the time

Shares = Callable[[int], float]
"""Returns the largest share of a kernel's work that one of some cores gets."""


def of_items(count: int) -> Shares:
    """Returns the shares of equal items, which threads take one after the other."""
    return lambda cores: math.ceil(count / cores) / count


@dataclass(frozen=True)
class Dims:
    """What decides how the kernels divide their work."""

    rows: int  # of the encoder
    width: int
    inner: int
    heads: int
    vocabulary: int

    def strips(self, n_in: int) -> Shares:
        """Returns the shares of a product of all rows of the encoder."""
        strips = math.ceil(self.rows / ROWS)
        most = max(1, SCRATCH // (4 * (math.ceil(n_in / 64) * 16 + 16) * ROWS))

        def share(cores: int) -> float:
            size = min(most, math.ceil(strips / (PER_THREAD * cores)))
            return math.ceil(math.ceil(strips / size) / cores) * size / strips

        return share

    def panels(self, n_out: int) -> Shares:
        """Returns the shares of a linear layer of a token."""

        def share(cores: int) -> float:
            size = math.ceil(n_out / (PANEL * PER_THREAD * cores)) * PANEL
            return min(1.0, math.ceil(math.ceil(n_out / size) / cores) * size / n_out)

        return share

    def layer(self, cores: int) -> float:
        """Returns the largest share of a decoder's layer: of each phase, by the bytes that it reads."""
        d, inner, heads = self.width, self.inner, of_items(self.heads)
        phases: list[tuple[int, Shares]] = [
            (3 * d * d, heads),
            (d * d, self.panels(d)),
            (d * d + 2 * self.rows * d, heads),
            (d * d, self.panels(d)),
            (d * inner, self.panels(inner)),
            (d * inner, self.panels(d)),
        ]
        return sum(size * share(cores) for size, share in phases) / sum(size for size, _ in phases)

    def shares(self, kernel: str, weight: str | None) -> Shares:
        """Returns the shares of a kernel's work."""
        if kernel == "decoder_layer":
            return self.layer
        if kernel == "fused_choose_token":
            return of_items(math.ceil(self.vocabulary / RANGE))
        if kernel == "full_attention":
            return lambda cores: 1 / cores  # heads are cut so that all threads have equal parts
        if kernel in ("gemm", "gemm_qkv"):
            return self.strips(self.inner if weight and "fc2" in weight else self.width)
        if kernel == "layernorm":
            return of_items(math.ceil(self.rows / 64))
        if kernel == "quantize_rows":
            return of_items(self.heads)
        if kernel == "token_embedding":
            return lambda cores: 1.0
        raise click.ClickException(f"benchmarks/cores.py does not know how {kernel} divides its work")


@dataclass(frozen=True)
class Kernel:
    """The calls of a kernel for all copies of a layer."""

    graph: str
    name: str
    calls: int
    bytes: int
    one: float  # milliseconds on one core
    two: float  # and on two
    share: Shares

    def milliseconds(self, cores: int, region: Region, memory: float) -> float:
        """Returns the predicted time. memory: GB/s of all cores together."""
        work = max(self.one * self.share(cores), self.bytes / memory / 1e6 if self.one else 0.0)
        return work + (self.calls * (region.fixed + region.wake * cores) if cores > 1 and self.parallel else 0.0)

    @property
    def parallel(self) -> bool:
        """Whether the kernel wakes other threads at all."""
        return self.share(2) < 1


@dataclass(frozen=True)
class Region:
    """What a parallel region costs, in milliseconds."""

    fixed: float
    wake: float  # for each thread

    @classmethod
    def fitted(cls, kernels: Sequence[Kernel]) -> Region:
        """Returns the cost that explains the kernels' times on two cores, the same for the region and its threads."""
        costs = [(k.two - k.one * k.share(2)) / k.calls for k in kernels if k.parallel and k.graph == "step"]
        cost = max(0.0, statistics.median(costs)) if costs else 0.0
        return cls(cost / 2, cost / 4)


def kernels_of(one: Mapping[str, Any], two: Mapping[str, Any], dims: Dims) -> list[Kernel]:
    """Returns the kernels of two measurements of the same artifact."""
    found = []
    for graph, measured in one["graphs"].items():
        for row, other in zip(measured["rows"], two["graphs"][graph]["rows"], strict=True):
            for kernel, again in zip(row["kernels"], other["kernels"], strict=True):
                name, weight = kernel["kernel"], kernel["weight"]
                shown = f"{name} {weight.split('.')[-2]}" if weight else name
                share = dims.shares(name, weight)
                copies = len(row["layers"])
                found.append(Kernel(graph, shown, copies, kernel["bytes"], kernel["ms"], again["ms"], share))
    return found


def table(kernels: Sequence[Kernel], cores: Sequence[int], region: Region, memory: float) -> Table:
    """Returns a row for each kernel and each graph: measured times, and predicted ones."""
    shown = Table("graph", "kernel", "1 core", "2 cores", "predicted for 2", *map(str, cores), "pays up to")

    def add(graph: str, name: str, parts: Sequence[Kernel]) -> None:
        times = [sum(kernel.milliseconds(c, region, memory) for kernel in parts) for c in (2, *cores)]
        best, last = 1, sum(kernel.one for kernel in parts)
        for count, time in zip((2, *cores), times, strict=True):
            if time > WORTH * last:
                break
            best, last = count, time
        measured = [sum(kernel.one for kernel in parts), sum(kernel.two for kernel in parts)]
        shown.add_row(graph, name, *(f"{ms:.2f}" for ms in (*measured, *times)), f"{best}")

    for graph in dict.fromkeys(kernel.graph for kernel in kernels):
        parts = [kernel for kernel in kernels if kernel.graph == graph]
        for part in parts:
            add(graph, part.name, [part])
        add(graph, "all", parts)
    return shown


def dims_of(artifact: Path) -> Dims:
    """Returns what the manifest of an artifact says of its model."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    ports = {port["name"]: port["shape"] for port in manifest["graphs"]["step"]["inputs"]}
    shapes = {tensor["name"]: tensor["shape"] for tensor in manifest["plan"]["tensors"]}
    inner = next(shape[0] for name, shape in shapes.items() if name.endswith("fc1.weight"))
    dims = manifest["dims"]
    heads = int(ports["self_keys.0"][1])
    return Dims(dims["n_audio_ctx"], dims["d_model"], inner, heads, dims["n_vocab"])


@click.command(help=help_text(__doc__))
@click.argument("one", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("two", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--cores", multiple=True, type=click.IntRange(min=3), default=(4, 8, 16, 32, 64), show_default=True)
@click.option("--memory", type=float, default=200.0, show_default=True, help="GB/s of all cores together.")
def main(one: Path, two: Path, cores: tuple[int, ...], memory: float) -> None:
    measured = [json.loads(path.read_text()) for path in (one, two)]
    if [m["threads"] for m in measured] != [1, 2] or measured[0]["artifact"] != measured[1]["artifact"]:
        raise click.UsageError("expected two measurements of one artifact: --threads 1, then --threads 2")
    kernels = kernels_of(measured[0], measured[1], dims_of(Path(measured[0]["artifact"])))
    region = Region.fitted(kernels)
    console = Console()
    console.print(table(kernels, cores, region, memory))
    console.print(
        f"A region: {1e3 * region.fixed:.0f} µs, and {1e3 * region.wake:.0f} µs for each thread. "
        f"Milliseconds of all copies of a layer; memory {memory:g} GB/s; '{WORTH:g}': twice the cores must take less."
    )


if __name__ == "__main__":
    main()
