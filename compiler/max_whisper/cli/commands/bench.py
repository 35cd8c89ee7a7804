"""`max-whisper bench`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand
from max_whisper.cli.options import ThreadOptions, options_from
from max_whisper.cli.outputs import checked_report
from max_whisper.cli.progress import reporting
from max_whisper.cli.threads import use_threads
from max_whisper.runtime.output.files import write_file
from max_whisper.tools.options import BenchOptions

EXAMPLES = """
max-whisper bench artifacts/tiny
"""


@click.command(cls=HeadedCommand, examples=EXAMPLES)
@click.argument("artifact", type=click.Path(path_type=Path))
@options_from(BenchOptions)
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write all figures to, besides the tables.",
)
@options_from(ThreadOptions)
def bench(artifact: Path, tokens: int, rounds: int, file: Path | None, threads: int | None) -> None:
    """Measure how fast a compiled model is.

    ARTIFACT is the folder of the compiled model. For each layer the tables show FLOPs, bytes, time, and the percentage
    of what this machine can do, which is measured in the same run. The layers are compiled once more with clocks around
    their kernels; the first time, this takes as long as a build. Only artifacts for a CPU can be measured. Other
    programs that run meanwhile make the figures worse.
    """
    current().streams.stdout.check()
    use_threads(threads)
    file = checked_report("--json", file, [artifact])
    with current().interrupts.held():
        from max_whisper.tools.bench.bench import bench as run
        from max_whisper.tools.bench.tables import as_json, show

    with reporting(f"measuring {artifact}") as progress:
        report = run(artifact, n_tokens=tokens, rounds=rounds, progress=progress)
    show(report)
    if file is not None:
        write_file(file, json.dumps(as_json(report), indent=1) + "\n")
