"""Measures how fast an archive of recordings is transcribed.

    python -m benchmarks.archive ARTIFACT --speech FOLDER --work DIR [--checkpoint CHECKPOINT] [--json FILE]

Sides take turns over the same files: Model.transcribe one by one in one process with all cores, `max-whisper batch`
with each number of --workers, and, with CHECKPOINT, the weights of ARTIFACT in Hub layout, faster-whisper's batched
pipeline in int8 with its voice detection. All find out the language themselves, are greedy, and do not retry. A time is
that of the whole program, from its start to its end. ARTIFACT is one for a window at once.

The recordings are those of FOLDER, which has a manifest.tsv, each a file; then an hour made of the English ones, one
file. DIR keeps faster-whisper, and may be that of benchmarks.peers. The exit status is 1 if a side fails.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.archive.figures import Turn, side_figures, table
from benchmarks.archive.processes import ProgramError
from benchmarks.archive.recordings import folder_of, known_languages, make_hour, read_manifest
from benchmarks.archive.sides import Side, Texts, batch, faster_whisper, one_by_one
from benchmarks.common import help_text, machine, rotated, use_cpus
from benchmarks.peers.records import commit
from benchmarks.peers.setup import say

FILES, HOUR = "recordings", "hour"
folder_type = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(help=help_text(__doc__))
@click.argument("artifact", type=folder_type)
@click.option("--speech", required=True, type=folder_type, help="A folder of recordings with a manifest.tsv.")
@click.option("--work", required=True, type=click.Path(file_okay=False, path_type=Path), help="A folder to work in.")
@click.option("--checkpoint", type=folder_type, help="The weights of ARTIFACT, for faster-whisper.")
@click.option("--task", "tasks", multiple=True, type=click.Choice([FILES, HOUR]), default=(FILES, HOUR))
@click.option("--workers", multiple=True, default=("auto", "1", "2"), show_default=True, help="Of max-whisper batch.")
@click.option("--batch", "sizes", multiple=True, type=click.IntRange(1), default=(8, 16), help="Of faster-whisper.")
@click.option("--turns", type=click.IntRange(1), default=3, show_default=True, help="Turns of each side.")
@click.option("--recordings", type=click.IntRange(1), help="Take so many recordings, spread over the manifest.")
@click.option("--seconds", type=click.FloatRange(1), default=3600.0, show_default=True, help="The length of the hour.")
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here.")
def main(
    artifact: Path,
    speech: Path,
    work: Path,
    checkpoint: Path | None,
    tasks: tuple[str, ...],
    workers: tuple[str, ...],
    sizes: tuple[int, ...],
    turns: int,
    recordings: int | None,
    seconds: float,
    threads: int,
    json_file: Path | None,
) -> None:
    use_cpus(threads)
    artifact, work = artifact.absolute(), work.absolute()
    said = read_manifest(speech, known_languages(artifact))
    said = said[:: max(1, len(said) // (recordings or len(said)))][:recordings]
    sides = [one_by_one(artifact), *(batch(artifact, number) for number in workers)]
    if checkpoint is not None:
        sides += [faster_whisper(checkpoint.absolute(), work, threads, size) for size in sizes]
    made = work / "archive"
    results: dict[str, Any] = {}
    for task in dict.fromkeys(tasks):
        folder = made / task
        if task == FILES:
            chosen = said
            folder_of(chosen, speech, folder)
        else:
            folder_of([], speech, folder)
            say("making the hour")
            chosen = [make_hour(said, speech, folder / "hour.flac", seconds)]
        done, texts = measured(sides, folder, made / "results", turns)
        results[task] = [side_figures(name, done, chosen, texts[name]) for name in done[0]]
        hours = sum(one.seconds for one in chosen) / 3600
        title = f"{len(chosen)} files, {hours:.2f} hours, {artifact.name}, {threads} CPUs"
        Console(width=None if sys.stdout.isatty() else 200).print(table(title, results[task]))
        if json_file is not None:
            facts = {"machine": machine(), "threads": threads, "artifact": artifact.name, "commit": commit()}
            json_file.write_text(json.dumps(facts | {"tasks": results, "said": [*map(asdict, said)]}, indent=1) + "\n")


def measured(sides: Sequence[Side], folder: Path, out: Path, turns: int) -> tuple[list[Turn], dict[str, Texts]]:
    """Returns the costs of each turn, and the texts of the last one, by the names of the sides.

    Raises click.ClickException where a side fails.
    """
    done: list[Turn] = []
    texts: dict[str, Texts] = {}
    for turn in range(turns):
        costs: Turn = {}
        for side in rotated(sides, turn):
            try:
                cost, texts[side.name] = side.run(folder, out / side.name.replace(" ", "-"))
            except ProgramError as error:
                raise click.ClickException(f"{side.name}: {error}") from None
            costs[side.name] = asdict(cost)
            say(f"turn {turn + 1} of {turns}: {side.name}: {cost.seconds:.1f} s, {cost.peak_mb:.0f} MB")
        done.append({side.name: costs[side.name] for side in sides})
    return done, texts


if __name__ == "__main__":
    main()
