"""The command `report`: tables, JSON and a picture of what was measured so far."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.peers.figures import groups
from benchmarks.peers.plot import svg
from benchmarks.peers.records import all_records
from benchmarks.peers.tables import markdown, terminal_table
from benchmarks.peers.tasks import MODES, NAMES, SETTINGS

OUT = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--work",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder that `run` filled.",
)
@click.option("--checkpoint", "checkpoints", multiple=True, help="Only this one, by its name; repeatable.")
@click.option("--task", "names", multiple=True, type=click.Choice([*NAMES]), help="Only this one; repeatable.")
@click.option("--mode", "modes", multiple=True, type=click.Choice([*MODES]), help="Only this one; repeatable.")
@click.option("--setting", "settings", multiple=True, type=click.Choice([*SETTINGS]), help="Only this one.")
@click.option("--json", "json_file", type=OUT, help="Write all figures to this file.")
@click.option("--markdown", "markdown_file", type=OUT, help="Write the tables, versions and calls to this file.")
@click.option("--svg", "svg_file", type=OUT, help="Write a picture of the times to this file.")
def report(
    work: Path,
    checkpoints: Sequence[str],
    names: Sequence[str],
    modes: Sequence[str],
    settings: Sequence[str],
    json_file: Path | None,
    markdown_file: Path | None,
    svg_file: Path | None,
) -> None:
    """Show what was measured so far as tables, the fastest first."""
    wanted = {"checkpoint": checkpoints, "task": names, "mode": modes, "setting": settings}
    records = [*all_records(work)]
    chosen = [
        group
        for group in groups(records)
        if all(not values or getattr(group, field) in values for field, values in wanted.items())
    ]
    if not chosen:
        raise click.ClickException(
            f"{work}: there are no results of what was asked for; measure first, with `python -m benchmarks.peers run`"
        )
    machines = machine_texts(records)
    console = Console(width=max(160, Console().width))
    for group in chosen:
        console.print(terminal_table(group), "")
    for machine in machines:
        console.print(machine, markup=False, highlight=False)
    if json_file:
        json_file.write_text(json.dumps({"machines": machines, "groups": [g.facts() for g in chosen]}, indent=1) + "\n")
    if markdown_file:
        markdown_file.write_text(markdown(chosen, machines))
    if svg_file:
        svg_file.write_text(svg(chosen, "; ".join(machines)))


def machine_texts(records: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a line for each machine and number of threads with which records were measured: it should be one."""
    texts = {}
    for record in records:
        identity = record["identity"]
        facts = identity["machine"]
        texts[f"{identity['threads']} threads of {facts['cpu']} ({', '.join(facts['features'])})"] = None
    return [*texts]
