"""Compares max-whisper with other engines, each as its users run it, one at a time on the same CPUs.

    python -m benchmarks.peers run CHECKPOINT… --work DIR [--speech FOLDER]
    python -m benchmarks.peers report --work DIR

`run` installs each engine from PyPI in an environment of its own, converts the checkpoints for it, and measures. What
it made and measured is kept in DIR: it may be interrupted, and goes on where it was. `report` makes tables of that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.common import help_text, use_cpus
from benchmarks.peers.engines import ENGINES
from benchmarks.peers.measure import Measurement
from benchmarks.peers.records import Job
from benchmarks.peers.report import report
from benchmarks.peers.setup import say
from benchmarks.peers.tasks import MODES, NAMES, SETTINGS, Task, all_tasks

CHECKPOINT_FILES = ("config.json", "generation_config.json", "model.safetensors")


def engine_of(_: click.Context, __: click.Parameter, values: Sequence[str]) -> list[tuple[str, str]]:
    """Parses the values of --only, ENGINE or ENGINE:VARIANT each; an empty variant is all of them."""
    known = [f"{name}:{variant.name}" for name, engine in ENGINES.items() for variant in engine.variants]
    pairs = []
    for value in values:
        name, _colon, variant = value.partition(":")
        if value not in known and value not in ENGINES:
            raise click.BadParameter(f"{value!r} is none of {', '.join([*ENGINES, *known])}")
        pairs.append((name, variant))
    return pairs


def checkpoints_of(_: click.Context, __: click.Parameter, folders: Sequence[Path]) -> list[Path]:
    """Checks that folders have checkpoints in Hub layout, and names that can be told apart."""
    for folder in folders:
        for file in CHECKPOINT_FILES:
            if not (folder / file).is_file():
                raise click.BadParameter(f"{folder}: expected a checkpoint in Hub layout, which has a {file}")
    if len({folder.absolute().name for folder in folders}) < len(folders):
        raise click.BadParameter("two checkpoints have the same name; tables could not tell them apart")
    return [folder.absolute() for folder in folders]


@click.group(help=help_text(__doc__))
def main() -> None:
    pass


@main.command()
@click.argument(
    "checkpoints",
    metavar="CHECKPOINT...",
    nargs=-1,
    required=True,
    callback=checkpoints_of,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--work",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of environments, models, sound, logs and results.",
)
@click.option(
    "--speech",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of recordings with a manifest.tsv, for checkpoints with real weights. Without it, one window of "
    "made sound is measured; the weights should be random then, as these never end a text early.",
)
@click.option("--only", multiple=True, callback=engine_of, help="ENGINE or ENGINE:VARIANT, repeatable.")
@click.option("--task", "names", multiple=True, type=click.Choice([*NAMES]), help="Measure this one; repeatable.")
@click.option("--mode", "modes", multiple=True, type=click.Choice([*MODES]), help="Measure this one; repeatable.")
@click.option("--setting", "settings", multiple=True, type=click.Choice([*SETTINGS]), help="Measure this one.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="CPUs and threads of an engine.")
@click.option("--turns", default=3, show_default=True, type=click.IntRange(1), help="Turns of an engine, steady.")
@click.option("--runs", default=2, show_default=True, type=click.IntRange(1), help="Measured runs in a turn.")
@click.option(
    "--starts", default=5, show_default=True, type=click.IntRange(1), help="New processes of an engine, cold."
)
@click.option(
    "--rest", default=3.0, show_default=True, type=click.FloatRange(0), help="Seconds of rest before a process."
)
@click.option("--redo", is_flag=True, help="Forget the results of what is chosen, and measure again.")
def run(
    checkpoints: list[Path],
    work: Path,
    speech: Path | None,
    only: list[tuple[str, str]],
    names: tuple[str, ...],
    modes: tuple[str, ...],
    settings: tuple[str, ...],
    threads: int,
    turns: int,
    runs: int,
    starts: int,
    rest: float,
    redo: bool,
) -> None:
    """Measure what is not yet measured.

    An engine that cannot be installed or run is reported in a line, the others go on, and the exit status is 1.
    """
    if speech and not (speech / "manifest.tsv").is_file():
        raise click.BadParameter(f"{speech}: expected a folder with a manifest.tsv", param_hint="--speech")
    use_cpus(threads)
    measurement = Measurement(work.expanduser().resolve(), speech, threads, turns, runs, starts, rest)
    plan = [
        jobs_of(task, checkpoint, only)
        for checkpoint in checkpoints
        for task in all_tasks(speech, checkpoint)
        if chosen(task.name, names) and chosen(task.mode, modes) and chosen(task.setting, settings)
    ]
    if not any(plan):
        raise click.UsageError("nothing is chosen: --only, --task, --mode and --setting leave no measurement")
    for jobs in plan:
        for job in jobs if redo else []:
            job.file(measurement.work).unlink(missing_ok=True)
        measurement.measure(jobs)
    for label, message in measurement.failures.items():
        say(f"{label} is missing: {message}")
    sys.exit(bool(measurement.failures))


def chosen(value: str, values: Sequence[str]) -> bool:
    """Returns whether a repeatable option names a value, or nothing."""
    return not values or value in values


def jobs_of(task: Task, checkpoint: Path, only: Sequence[tuple[str, str]]) -> list[Job]:
    """Returns a job for each variant of each engine that is chosen and has the mode of a task."""
    return [
        Job(name, variant, task, checkpoint)
        for name, engine in ENGINES.items()
        for variant in engine.variants
        if task.mode not in variant.lacks and (not only or {(name, ""), (name, variant.name)} & {*only})
    ]


main.add_command(report)


if __name__ == "__main__":
    main()
