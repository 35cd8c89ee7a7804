"""Puts load on `max-whisper serve` with clients of which some misbehave, and checks every text that comes back.

    python -m benchmarks.serving ARTIFACT --speech FOLDER [--checkpoint CHECKPOINT --work DIR]

It starts the server at 127.0.0.1, lets 1, 4, 16 and 64 clients send recordings for a minute each, and compares each
text with that of Model.transcribe. A share of the requests are cut uploads, garbage, slow readers and killed clients.
After each minute the server must rest, with nothing left. With CHECKPOINT, in Hub layout, the same is done with
faster-whisper behind a FastAPI app; its environment and models are in DIR, which may be that of benchmarks.peers. Its
texts are compared with those that it gave before, one after the other. The clients run on the same CPUs.

The exit status is 1 if max-whisper changed or lost an answer, left something, did not rest, or failed at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.common import help_text, machine, rotated, use_cpus
from benchmarks.peers.records import commit
from benchmarks.peers.setup import say
from benchmarks.serving.clients import Clip, Load, in_turn
from benchmarks.serving.figures import load_figures, table
from benchmarks.serving.peer import PACKAGES, peer_command
from benchmarks.serving.recordings import read_clips, right_texts
from benchmarks.serving.servers import Server, free_port, running
from benchmarks.serving.wire import Lost

OURS, PEER = "max-whisper", "faster-whisper"
SEED = 19
folder_type = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(help=help_text(__doc__))
@click.argument("artifact", type=folder_type)
@click.option("--speech", required=True, type=folder_type, help="A folder of recordings with a manifest.tsv.")
@click.option("--clients", multiple=True, type=click.IntRange(1), default=(1, 4, 16, 64), show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(1), default=60.0, show_default=True, help="For each number of clients."
)
@click.option("--faults", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Share that misbehaves.")
@click.option("--clips", "most", type=click.IntRange(1), default=60, show_default=True, help="The most recordings.")
@click.option("--checkpoint", type=folder_type, help="The weights of ARTIFACT, for faster-whisper.")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="A folder, for faster-whisper.")
@click.option("--only", type=click.Choice([OURS, PEER]), help="Measure this one alone.")
@click.option("--threads", default=2, show_default=True, help="CPUs to use, for the server and the clients.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here.")
def main(
    artifact: Path,
    speech: Path,
    clients: tuple[int, ...],
    seconds: float,
    faults: float,
    most: int,
    checkpoint: Path | None,
    work: Path | None,
    only: str | None,
    threads: int,
    json_file: Path | None,
) -> None:
    if checkpoint is not None and work is None:
        raise click.UsageError("--checkpoint needs --work")
    if only == PEER and checkpoint is None:
        raise click.UsageError(f"--only {PEER} needs --checkpoint and --work")
    use_cpus(threads)
    clips = read_clips(artifact, speech, most)
    servers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        if only != PEER:
            say(f"{OURS}: making the texts of {len(clips)} recordings")
            texts = right_texts(artifact, speech, clips)
            port = free_port()
            command: list[str | Path] = [
                sys.executable,
                "-m",
                "max_whisper",
                "serve",
                "--model",
                artifact,
                "--port",
                str(port),
            ]
            with running(command, port, Path(folder, OURS), os.environ) as server:
                servers.append(measured(OURS, server, clips, texts, clients, seconds, faults))
        if checkpoint is not None and work is not None and only != OURS:
            port = free_port()
            words, variables = peer_command(checkpoint.absolute(), work.absolute(), port)
            with running(words, port, Path(folder, PEER), variables) as server:
                servers.append(measured(PEER, server, clips, None, clients, seconds, faults))
    Console(width=None if sys.stdout.isatty() else 200).print(table(servers))
    for problem in (problems := [problem for server in servers for problem in server["problems"]]):
        click.echo(problem)
    if json_file is not None:
        facts = {"machine": machine(), "threads": threads, "faults": faults, "clips": [clip.name for clip in clips]}
        facts |= {"artifact": artifact.name, "commit": commit(), "peer": list(PACKAGES), "servers": servers}
        json_file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    sys.exit(any(problem.startswith(OURS) for problem in problems))


def measured(
    name: str,
    server: Server,
    clips: Sequence[Clip],
    texts: Mapping[str, str] | None,
    clients: Sequence[int],
    seconds: float,
    faults: float,
) -> dict[str, Any]:
    """Returns the figures of a server, which is stopped at the end.

    It transcribes all clips before, one after the other; these texts are the right ones where `texts` is None.
    """
    say(f"{name}: one recording after the other")
    problems = []
    try:
        warm = asyncio.run(in_turn(server.port, clips))
    except Lost as error:
        raise click.ClickException(f"{name}: {error}") from None
    right = warm if texts is None else texts
    problems += [f"changed: {clip!r}: {warm[clip]!r}" for clip in warm if warm[clip] != right[clip]]
    if server.wait_until_idle()[0] is None:
        problems.append("does not rest after them")
    loads = []
    for number in clients:
        say(f"{name}: {number} clients for {seconds:g} s")
        load = Load(server.port, rotated(clips, number), right, faults=faults, ours=name == OURS, seed=SEED + number)
        before = server.memory_mb()
        figures = load_figures(asyncio.run(load.run(number, seconds)), number, seconds)
        figures["busy_after_seconds"], figures["cpu_at_rest"] = server.wait_until_idle()
        figures |= {"memory_before_mb": before, "memory_after_mb": server.memory_mb(), "left": server.left()}
        loads.append(figures)
        found = [f"{key}: {figures[key]}" for key in ("wrong", "lost", "unexpected", "left") if figures[key]]
        found += ["does not rest"] if figures["busy_after_seconds"] is None else []
        problems += [f"{number} clients: {text}" for text in [*found, *figures["examples"]]]
    peak, start = server.memory_mb("VmHWM"), loads[0]["memory_before_mb"]
    status = server.stop()
    if status != 0 and name == OURS:
        problems.append(f"the exit status is {status}: {server.log.read_text().strip()[-500:]}")
    return {
        "name": name,
        "loads": loads,
        "peak_mb": peak,
        "growth_mb": loads[-1]["memory_after_mb"] - start,
        "exit_status": status,
        "log": server.log.read_text()[-2000:],
        "problems": [f"{name}: {problem}" for problem in problems],
    }


if __name__ == "__main__":
    main()
