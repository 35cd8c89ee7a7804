"""Shows the memory of `max-whisper batch` over hours of audio.

    python -m benchmarks.archive.growth ARTIFACT --speech FOLDER --work DIR [--hours 10]

It makes files of an hour of the English recordings of FOLDER, which has a manifest.tsv, each beginning with another
one, so that no two are the same, and transcribes them. After each of them it prints the memory of all processes, in
which what they share counts once, and in the end how much was added from the second to the last.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import click

from benchmarks.archive.processes import ProgramError
from benchmarks.archive.recordings import folder_of, make_hour, read_manifest
from benchmarks.archive.sides import batch
from benchmarks.common import help_text, use_cpus
from benchmarks.peers.setup import say

folder_type = click.Path(exists=True, file_okay=False, path_type=Path)


class Hours:
    """The memory at each look, sorted into the hours of audio: an hour ends when its recording is in the results."""

    def __init__(self, out: Path) -> None:
        """out: the folder of the results."""
        self._out = out
        self.looks: list[list[float]] = [[]]

    def look(self, mb: float) -> None:
        """Notes the memory, and prints that of each hour that has ended."""
        lines = [part.read_bytes().count(b"\n") for part in self._out.rglob("part-*.jsonl")]
        while len(self.looks) <= sum(lines):
            say(f"{len(self.looks):3} hours {median(self.looks[-1] or [mb]):8.1f} MB")
            self.looks.append([])
        self.looks[-1].append(mb)

    def medians(self) -> list[float]:
        """Returns the median of each hour at whose time somebody looked."""
        return [median(looks) for looks in self.looks if looks]


@click.command(help=help_text(__doc__))
@click.argument("artifact", type=folder_type)
@click.option("--speech", required=True, type=folder_type, help="A folder of recordings with a manifest.tsv.")
@click.option("--work", required=True, type=click.Path(file_okay=False, path_type=Path), help="A folder to work in.")
@click.option("--hours", type=click.IntRange(3), default=10, show_default=True, help="Files of an hour.")
@click.option("--seconds", type=click.FloatRange(1), default=3600.0, show_default=True, help="The length of an hour.")
@click.option("--workers", default="1", show_default=True, help="Of max-whisper batch.")
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
def main(artifact: Path, speech: Path, work: Path, hours: int, seconds: float, workers: str, threads: int) -> None:
    use_cpus(threads)
    said = read_manifest(speech, ["en"])
    folder = folder_of([], speech, work.absolute() / "archive" / "hours")
    for hour in range(hours):
        say(f"making hour {hour + 1} of {hours}")
        make_hour(said, speech, folder / f"{hour:02}.flac", seconds, first=hour)
    out = work.absolute() / "archive" / "results" / "growth"
    seen = Hours(out)
    try:
        batch(artifact.absolute(), workers).run(folder, out, seen.look)
    except ProgramError as error:
        raise click.ClickException(str(error)) from None
    memory = seen.medians()
    if len(memory) < 3:
        raise click.ClickException(f"{hours} hours were over too soon to be seen: make them longer with --seconds")
    print(f"{hours} hours added {memory[-1] - memory[1]:+.1f} MB after the first, {memory[1]:.0f} MB")


if __name__ == "__main__":
    main()
