"""Measures the time from the start of a process to its first text, and its peak memory.

    python -m benchmarks.startup ARTIFACT
    python -m benchmarks.startup ARTIFACT --audio RECORDING --serve

Each run is one `max-whisper transcribe` and one Python process that does the same by hand and reports how long each
phase took. Both are limited to as many tokens as 11 seconds of speech have: random weights would go on to the end.

With `--serve`, each run is a `max-whisper serve` that is sent the recording as soon as it can be reached, as OpenAI's
client does by default: no language is named. A server has no limit of tokens, so that this takes real weights.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import wave
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common import SAMPLE_RATE, help_text, made_recording, use_cpus
from benchmarks.serving.clients import PATH
from benchmarks.serving.servers import free_port
from benchmarks.serving.wire import Lost, ask, form, post

# This text runs alone, as any other import would count. The monotonic clock is the same in every process.
BY_HAND = """
import json, sys, time
begin, artifact, audio, tokens = float(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
phases, last = {}, begin
def done(phase):
    global last
    now = time.monotonic()
    phases[phase], last = (now - last) * 1e3, now
done("start of Python")
import max_whisper
done("import")
model = max_whisper.load(artifact)
done("load")
mel = model.windows(audio)[:1]
done("audio and log-mel")
features = model.encode(mel)
done("encode")
model.decode(features, language="en", without_timestamps=True, max_new_tokens=tokens)[0].text
done("decode")
phases["first text"] = (last - begin) * 1e3
print(json.dumps(phases))
"""


@click.command(help=help_text(__doc__))
@click.argument("artifact", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--audio", type=click.Path(exists=True), help="A recording of at most 30 s; by default, 11 s are made.")
@click.option("--tokens", default=30, show_default=True, help="The most tokens of the text.")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
@click.option("--serve", is_flag=True, help="Measure a server and its first answer.")
def main(artifact: Path, audio: str | None, tokens: int, runs: int, threads: int, serve: bool) -> None:
    use_cpus(threads)
    if serve:
        if audio is None:
            raise click.UsageError("--serve needs --audio, and real weights")
        first_answers(artifact, Path(audio), runs)
        return
    with tempfile.TemporaryDirectory() as work:
        # Modules are compiled once, as pip does, whatever the environment says: compiling them takes 80 ms.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = work
        audio = audio or made_file(Path(work, "made.wav"), 11)
        # For all runs that count, the files are in memory.
        by_hand(artifact, audio, tokens)
        by_command(artifact, audio, tokens)
        table = Table(title=f"Medians of {runs} new processes")
        table.add_column("")
        table.add_column("", justify="right")
        phases, commands = [], []
        for _ in range(runs):
            commands.append(by_command(artifact, audio, tokens))
            phases.append(by_hand(artifact, audio, tokens))
    texts, exits, peaks = zip(*commands, strict=True)
    table.add_row("max-whisper transcribe: first text, ms", f"{median(texts):.0f}")
    table.add_row("max-whisper transcribe: end, ms", f"{median(exits):.0f}")
    table.add_row("max-whisper transcribe: peak memory, MB", f"{median(peaks):.0f}", end_section=True)
    for phase in phases[0]:
        table.add_row(f"Python: {phase}, ms", f"{median(run[phase] for run in phases):.0f}")
    Console().print(table)


def by_command(artifact: Path, audio: str, tokens: int) -> tuple[float, float, float]:
    """Returns the milliseconds to the first character and to the end of the process, and its peak memory in MB."""
    multilingual = bool(json.loads((artifact / "manifest.json").read_text())["tokens"]["languages"])
    command = [Path(sys.executable).with_name("max-whisper"), "transcribe", audio, "--model", artifact]
    command += [
        "--max-new-tokens",
        str(tokens),
        "--temperature-increment-on-fallback",
        "none",
        "--without-timestamps",
        *(["--language", "en"] if multilingual else []),
    ]
    begin = monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    text = monotonic() - begin
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return text * 1e3, (monotonic() - begin) * 1e3, usage.ru_maxrss / 1024


def first_answers(artifact: Path, audio: Path, runs: int) -> None:
    """Prints how long new servers take for their first answer."""
    by_server(artifact, audio)  # so that the files are in memory
    times, texts = zip(*(by_server(artifact, audio) for _ in range(runs)), strict=True)
    title = f"max-whisper serve, from the start of the process to the first answer, ms; {runs} new processes"
    table = Table("median", "lowest", "highest", title=title)
    table.add_row(f"{median(times):.0f}", f"{min(times):.0f}", f"{max(times):.0f}")
    Console().print(table)
    Console().print("all:", ", ".join(f"{time:.0f}" for time in times))
    Console().print(f"{'every text' if len({*texts}) == 1 else 'not every text'} is: {texts[0]}", highlight=False)


def by_server(artifact: Path, audio: Path) -> tuple[float, str]:
    """Returns the milliseconds from the start of a server to its first answer, and the text of that."""
    port, request = free_port(), post(PATH, form({"model": "whisper-1"}, audio.name, audio.read_bytes()))
    command = [sys.executable, "-m", "max_whisper", "serve", "--model", artifact, "--port", str(port)]
    begin = monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        answer = asyncio.run(_first_answer(port, request, process))
        seconds = monotonic() - begin
    finally:
        process.kill()
        process.communicate()
    return seconds * 1e3, answer["text"]


async def _first_answer(port: int, request: bytes, process: subprocess.Popen[bytes]) -> Any:
    while process.poll() is None:
        try:
            reply = await ask(port, request)
        except Lost:  # it does not listen yet
            await asyncio.sleep(0.002)
            continue
        if reply.status == 200:
            return reply.json()
        raise click.ClickException(f"the server answers {reply.status}: {reply.body[:500]!r}")
    assert process.stderr is not None
    raise click.ClickException(f"the server ended: {process.stderr.read().decode()}")


def by_hand(artifact: Path, audio: str, tokens: int) -> dict[str, float]:
    """Returns the milliseconds of each phase of a process."""
    command = [sys.executable, "-c", BY_HAND, str(monotonic()), str(artifact), audio, str(tokens)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def made_file(path: Path, seconds: float) -> str:
    """Writes a synthetic recording as a 16-bit WAV file; returns its path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((made_recording(seconds) * 32767).astype(np.int16).tobytes())
    return str(path)


if __name__ == "__main__":
    main()
