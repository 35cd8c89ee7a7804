"""Compares several `max-whisper transcribe` at once with as many one after the other.

    python -m benchmarks.at_once RECORDING ARTIFACT... [--processes 2] [--rounds 7]

A round is one process alone, and some at once, in an order that changes. *at once / in turn* is the time until the last
of these has ended, divided by that of one alone times their number. *CPU* is the same ratio of the CPU time of all,
which shows what waiting threads burn even where other programs run.

`--before COMPILER ARTIFACT` names another checkout's folder `compiler` and the artifact that it built, for each
artifact: then one process of that checkout runs alone in each round, too. *alone / before* is the time of one process
of this checkout divided by that of one of the other.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.common import help_text, rotated


@dataclass(frozen=True)
class Cost:
    """What some processes took until the last of them ended: seconds of the clock, and of all CPUs."""

    wall: float
    cpu: float


def run(command: Sequence[str | Path], processes: int, compiler: Path | None = None) -> Cost:
    """Runs a command `processes` times at once. `compiler` is the package's source root, where it is another one."""
    environment = {**os.environ, "PYTHONPATH": str(compiler)} if compiler else {**os.environ}
    start = time.perf_counter()
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(processes)]
    cpu = 0.0
    for process in started:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise click.ClickException(f"{' '.join(map(str, command))}: exit status {process.returncode}")
        cpu += usage.ru_utime + usage.ru_stime
    return Cost(time.perf_counter() - start, cpu)


@click.command(help=help_text(__doc__))
@click.argument("recording", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--processes", multiple=True, type=click.IntRange(min=2), default=(2, 4), show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option(
    "--before",
    type=(click.Path(exists=True, file_okay=False, path_type=Path), click.Path(exists=True, path_type=Path)),
    multiple=True,
    metavar="COMPILER ARTIFACT",
    help="For each artifact, in order: the folder `compiler` of another checkout, and what it built.",
)
@click.option("--option", "options", multiple=True, help="An option of `transcribe`, as --option=--beam-size=5.")
def main(
    recording: Path,
    artifacts: tuple[Path, ...],
    processes: tuple[int, ...],
    rounds: int,
    before: tuple[tuple[Path, Path], ...],
    options: tuple[str, ...],
) -> None:
    if before and len(before) != len(artifacts):
        raise click.UsageError(f"--before: expected one for each of {len(artifacts)} artifacts, got {len(before)}")

    def command(artifact: Path) -> list[str | Path]:
        return [sys.executable, "-m", "max_whisper", "transcribe", recording, "--model", artifact, *options]

    for number, artifact in enumerate(artifacts):
        turns: dict[str, Callable[[], Cost]] = {"alone": lambda artifact=artifact: run(command(artifact), 1)}
        for count in processes:
            turns[f"{count} at once"] = lambda artifact=artifact, count=count: run(command(artifact), count)
        if before:
            compiler, old = before[number]
            turns["before"] = lambda compiler=compiler, old=old: run(command(old), 1, compiler)
        costs: dict[str, list[Cost]] = {name: [] for name in turns}
        for i in range(rounds):
            for name in rotated([*turns], i):
                costs[name].append(turns[name]())
        click.echo(f"{artifact.name}: one alone {statistics.median(cost.wall for cost in costs['alone']):.2f} s")
        for count in processes:
            show(f"{count} at once / in turn", costs[f"{count} at once"], costs["alone"], count)
        if before:
            show("alone / before", costs["alone"], costs["before"], 1)


def show(label: str, costs: Sequence[Cost], baseline: Sequence[Cost], count: int) -> None:
    """Prints the median of the rounds' ratios, and their range; the baseline counts `count` times."""
    pairs = [*zip(costs, baseline, strict=True)]
    wall = sorted(cost.wall / (count * base.wall) for cost, base in pairs)
    cpu = statistics.median(cost.cpu / (count * base.cpu) for cost, base in pairs)
    click.echo(f"  {label}: {statistics.median(wall):.2f} ({wall[0]:.2f} to {wall[-1]:.2f}), CPU {cpu:.2f}")


if __name__ == "__main__":
    main()
