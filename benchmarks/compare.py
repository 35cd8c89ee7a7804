"""max-whisper beside OpenVINO: the same weights, window, tokens and CPUs, in turns.

\b
    python compare.py ARTIFACT OPENVINO_FOLDER --openvino-python PATH

Run it with the Python that has max-whisper. OPENVINO_FOLDER is what `openvino_peer.py export` made of the checkpoint
that the artifact was built from; --openvino-python has OpenVINO. Each side is a process that is loaded once. A round is
one window on either side, and who goes first changes from round to round: noise of the machine hits both. The table
has the median of each side's rounds, and the median of the rounds' ratios, which is the steadier figure.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
from common import PHASES, Worker, busy_seconds, machine, use_cpus
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
OURS, THEIRS = "max-whisper", "OpenVINO"


@click.command(help=__doc__)
@click.argument("artifact", type=click.Path(exists=True, file_okay=False))
@click.argument("openvino_folder", type=click.Path(exists=True, file_okay=False))
@click.option("--openvino-python", required=True, type=click.Path(exists=True), help="Interpreter with OpenVINO.")
@click.option(
    "--audio", type=click.Path(exists=True), help="A recording, of which 30 s are used; otherwise a made one."
)
@click.option("--tokens", default=100, show_default=True, type=click.IntRange(2), help="Tokens of the window.")
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=2, show_default=True, help="CPUs and threads of each side.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures here."
)
def main(
    artifact: str,
    openvino_folder: str,
    openvino_python: str,
    audio: str | None,
    tokens: int,
    rounds: int,
    threads: int,
    json_file: Path | None,
) -> None:
    use_cpus(threads)  # MAX takes the CPUs that it is given, OpenVINO is told as well
    facts = machine()
    ours = Worker(OURS, [sys.executable, HERE / "max_whisper_peer.py", artifact])
    theirs = Worker(
        THEIRS, [openvino_python, HERE / "openvino_peer.py", "worker", openvino_folder, "--threads", str(threads)]
    )
    with ours, theirs, tempfile.TemporaryDirectory() as work:
        mel_file = f"{work}/mel.npy"
        ours.ask("log_mel", audio=audio, mel_file=mel_file)
        measured: dict[str, list[dict[str, Any]]] = {OURS: [], THEIRS: []}

        def others() -> float:
            return busy_seconds() - ours.cpu_seconds - theirs.cpu_seconds

        start, idle = perf_counter(), others()
        for i in range(rounds + 1):
            for worker in (ours, theirs) if i % 2 else (theirs, ours):
                measured[worker.name].append(worker.ask("window", mel_file=mel_file, n_tokens=tokens))
        disturbed = (others() - idle) / (perf_counter() - start) / (os.cpu_count() or 1)
        warm_up = [windows.pop(0) for windows in measured.values()]
        check_tokens(warm_up[0]["tokens"], warm_up[1]["tokens"], tokens)
        memory = {worker.name: worker.ask("peak_memory") for worker in (ours, theirs)}
        versions = ours.facts | theirs.facts

    table = Table(title=f"30 s and {tokens} tokens, {threads} threads, medians of {rounds} rounds")
    for heading in ("", OURS, THEIRS, "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    for phase, label in PHASES.items():
        values = [[window[phase] for window in measured[side]] for side in (OURS, THEIRS)]
        ratio = median(a / b for a, b in zip(*values, strict=True))
        table.add_row(label, *(f"{median(side):.2f}" for side in values), f"{ratio:.2f}")
    table.add_row(
        "peak memory, MB", f"{memory[OURS]:.0f}", f"{memory[THEIRS]:.0f}", f"{memory[OURS] / memory[THEIRS]:.2f}"
    )
    Console().print(table)
    print(f"{facts['cpu']}, {facts['cpus']} CPUs, of which other processes took {disturbed:.0%} meanwhile; {versions}")
    if json_file:
        report = {
            "machine": facts,
            "disturbed": disturbed,
            "versions": versions,
            "tokens": tokens,
            "threads": threads,
            "memory_mb": memory,
        }
        report["rounds"] = {
            side: [{phase: round(window[phase], 3) for phase in PHASES} for window in windows]
            for side, windows in measured.items()
        }
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def check_tokens(ours: list[int], theirs: list[int], expected: int) -> None:
    """Ends the program unless both sides did the same work; says where equal work gave other tokens."""
    if len(ours) != expected or len(theirs) != expected:
        sys.exit(
            f"{OURS} gave {len(ours)} tokens and {THEIRS} {len(theirs)}, not {expected}: the text ended; "
            "ask for fewer --tokens, or use a checkpoint with random weights"
        )
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), expected)
    print(f"{same} of {expected} tokens are the same on both sides")


if __name__ == "__main__":
    main()
