"""Compares max-whisper with other implementations of Whisper: the same checkpoint, sound, tokens and CPUs, in turns.

    python -m benchmarks.peers CHECKPOINT [--work DIR] [--only openvino …]

CHECKPOINT is a folder in Hub layout; random weights are as good as any for speed, and never end the text before the
requested number of tokens. The first run installs every peer from PyPI in an environment of its own, converts the
checkpoint for it, and builds the artifacts; later runs take them from DIR.

Each peer is a process that is loaded once. A round is one batch of windows on every peer, and who goes first changes
from round to round, so that noise of the machine hits all. Tables have medians. OUT.json has every figure, OUT.svg is a
picture of them, with the lower bounds of the machine. A peer that fails is reported in a line, and makes the exit
status 1.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from benchmarks.common import help_text, machine, made_recording, use_cpus
from benchmarks.peers.conversion import write_mel_filters
from benchmarks.peers.figures import Report, setting_table, start_table
from benchmarks.peers.libraries import LIBRARIES
from benchmarks.peers.plot import OURS, svg
from benchmarks.peers.rounds import loaded, measured, new_processes
from benchmarks.peers.sides import Failures, Side, built, our_sides, say, spec_of, taking_part, their_sides

DEFAULT_WORK = Path("~/.cache/max-whisper/peers").expanduser()
BATCH_ROUNDS = 3  # the most rounds with a batch of several windows


def artifact_of(_: click.Context, __: click.Parameter, values: Sequence[str]) -> list[tuple[str, Path]]:
    """Parses the values of --artifact, NAME=DIR each."""
    pairs = [(name, Path(folder)) for name, _, folder in (value.partition("=") for value in values)]
    for name, folder in pairs:
        if not (folder / "manifest.json").is_file():
            raise click.BadParameter(f"{name}={folder}: expected NAME=DIR with the folder of an artifact")
    return pairs


def made_recordings(folder: str, batch: int, seconds: float) -> str:
    """Writes a .npy file of float32 [batch, samples], another recording for each window; returns its path."""
    file = f"{folder}/{batch}-{seconds}.npy"
    np.save(file, np.stack([made_recording(seconds, seed) for seed in range(batch)]))
    return file


@click.command(help=help_text(__doc__))
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_WORK,
    help="The folder of environments, models and logs; by default ~/.cache/max-whisper/peers.",
)
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    callback=artifact_of,
    help="NAME=DIR: run this artifact, and build none.",
)
@click.option("--only", multiple=True, type=click.Choice([OURS, *LIBRARIES]), help="Run this peer alone.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, type=click.IntRange(1))
@click.option("--seconds", multiple=True, default=(10.0, 30.0), show_default=True, type=click.FloatRange(1, 30))
@click.option(
    "--tokens",
    default=100,
    show_default=True,
    type=click.IntRange(3),
    help="Tokens of a window of 30 s; shorter sound has fewer.",
)
@click.option(
    "--rounds",
    default=7,
    show_default=True,
    type=click.IntRange(1),
    help=f"Rounds to measure; at most {BATCH_ROUNDS} of a batch of several windows.",
)
@click.option("--starts", default=3, show_default=True, type=click.IntRange(0), help="New processes of each peer.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="CPUs and threads of each peer.")
@click.option("--out", type=click.Path(path_type=Path), help="Write OUT.json, OUT.svg; otherwise peers-CHECKPOINT.")
def main(
    checkpoint: Path,
    work: Path,
    artifacts: list[tuple[str, Path]],
    only: tuple[str, ...],
    batches: tuple[int, ...],
    seconds: tuple[float, ...],
    tokens: int,
    rounds: int,
    starts: int,
    threads: int,
    out: Path | None,
) -> None:
    use_cpus(threads)
    from max_whisper.spec import load_spec
    from max_whisper.tools.bench.lower_bounds import lower_bounds
    from max_whisper.tools.bench.peak_rates import Probes, higher

    checkpoint, work, failures = checkpoint.resolve(), work.expanduser().resolve(), Failures()
    name, logs = spec_of(checkpoint), work / "logs"
    models = work / "models" / f"{checkpoint.name}-{(checkpoint / 'model.safetensors').stat().st_mtime_ns:x}"
    for folder in (models, logs):
        folder.mkdir(parents=True, exist_ok=True)
    write_mel_filters(checkpoint, models)

    sides: list[Side] = []
    if not only or OURS in only:
        sides += our_sides(artifacts or built(name, checkpoint, models, sorted(set(batches)), failures))
    chosen = [library for library in LIBRARIES if not only or library in only]
    sides += their_sides(chosen, checkpoint, work, models, threads, failures)

    say("measuring the machine's peak rates")
    probes = Probes()
    before = probes.measure()
    report: Report = {"model": name, "threads": threads, "machine": machine(), "versions": {}, "settings": []}

    def setting(batch: int, length: float) -> dict[str, Any]:
        return {"batch": batch, "seconds": length, "tokens": max(3, round(tokens * length / 30))}

    with tempfile.TemporaryDirectory() as sound:
        audio = made_recordings(sound, 1, min(seconds))
        report["start"] = new_processes(sides, starts, setting(1, min(seconds)), audio, logs, failures)
        for batch in sorted(set(batches)):
            with loaded(taking_part(sides, batch), logs, failures) as workers:
                report["versions"] |= {label: worker.facts["versions"] for label, worker in workers.items()}
                for length in sorted(set(seconds)):
                    audio = made_recordings(sound, batch, length)
                    many = rounds if batch == 1 else min(rounds, BATCH_ROUNDS)
                    report["settings"].append(measured(workers, many, setting(batch, length), audio, failures))
    limits = higher(before, probes.measure())
    for measured_setting in report["settings"]:
        batch, n_tokens = measured_setting["batch"], measured_setting["tokens"]
        measured_setting["lower_bounds"] = lower_bounds(load_spec(name), limits, batch, n_tokens)
    report |= {"peak_rates": limits, "failures": failures}
    show(report)
    out = out or Path(f"peers-{checkpoint.name}")
    out.with_name(f"{out.name}.json").write_text(json.dumps(report, indent=1) + "\n")
    out.with_name(f"{out.name}.svg").write_text(svg(report))
    say(f"written: {out}.json and {out}.svg")
    sys.exit(bool(failures))


def show(report: Report) -> None:
    """Prints the tables of a report."""
    console = Console(width=150)
    if report["start"]["runs"]:
        console.print(start_table(report["start"]), "")
    for setting in report["settings"]:
        if setting["rounds"]:
            console.print(setting_table(setting))
            console.print(f"other processes took {setting['disturbed']:.0%} of the CPUs meanwhile\n")
    facts, limits = report["machine"], report["peak_rates"]
    peaks = ", ".join(f"{dtype} {peak:.0f} GFLOP/s" for dtype, peak in limits.items() if dtype != "memory")
    console.print(f"{facts['cpu']}, {report['threads']} threads: {peaks}, memory read at {limits['memory']:.1f} GB/s")
    for label, message in report["failures"].items():
        console.print(f"{label} is missing: {message}", markup=False)


if __name__ == "__main__":
    main()
