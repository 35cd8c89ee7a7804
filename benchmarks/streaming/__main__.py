"""Measures live transcription on recordings of English speech: how late words come, how many are right, what it costs.

    python -m benchmarks.streaming virtual ARTIFACT --speech FOLDER
    python -m benchmarks.streaming wall CHECKPOINT --artifact ARTIFACT --speech FOLDER --work DIR

`virtual` charges what each graph takes, measured before, in a time that is computed: its figures do not depend on what
else the machine does. `wall` replays at the speed of time, and also to other live transcribers with the weights of
CHECKPOINT, a folder in Hub layout: DIR has their environments and what was measured.

FOLDER holds recordings and a `manifest.tsv` with the columns file, language, seconds, kind and text.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import max_whisper
from max_whisper.runtime.vad.cached import find_detector
from rich.console import Console
from rich.table import Table

from benchmarks.common import help_text, machine, use_cpus
from benchmarks.peers.setup import SetupError, say
from benchmarks.streaming.plot import svg
from benchmarks.streaming.recordings import Recording, read_recordings, write_wav
from benchmarks.streaming.setup import PEERS, interpreter, program, weights
from benchmarks.streaming.virtual import Costs, measured, replay
from benchmarks.streaming.words import first_lags, lags, outcome, summary, word_errors

OURS = "max-whisper"
THREADS = {"simulstreaming": 1}
"""The threads of peers whose users get fewer than two: loading Silero VAD leaves PyTorch one."""
folder_type = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(help=help_text(__doc__))
def main() -> None:
    use_cpus(2)


@main.command()
@click.argument("artifact", type=folder_type)
@click.option("--speech", required=True, type=folder_type)
@click.option("--every", default=1, show_default=True, type=click.IntRange(1), help="Take each N-th recording.")
@click.option("--recording", "names", multiple=True, help="Take those whose names have this part; may be repeated.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of Model.stream.")
@click.option(
    "--costs",
    "costs_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Charge what this file of an earlier --json says, which was measured while the machine was idle.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here.")
def virtual(
    artifact: Path,
    speech: Path,
    every: int,
    names: tuple[str, ...],
    options: tuple[str, ...],
    costs_file: Path | None,
    json_file: Path | None,
) -> None:
    """Replays recordings in a time that is computed."""
    model = max_whisper.load(artifact)
    detector = max_whisper.load_detector(find_detector(None))
    recordings = read_recordings(speech, model, names, every)
    if not recordings:
        raise click.UsageError("no recording has such a name")
    longest = max(recordings, key=lambda one: len(one.sound))
    if costs_file is None:
        costs = measured(model, detector, longest.sound[: model.n_frames * 160 // 2])
    else:
        costs = Costs(**json.loads(costs_file.read_text(encoding="utf-8"))["costs"])
    chosen = {name: _value(value) for name, _, value in (option.partition("=") for option in options)}
    replays, busy = [], 0.0
    for i, recording in enumerate(recordings):
        say(f"{i + 1} of {len(recordings)}: {recording.name}")
        events = [*replay(model, detector, costs, recording.sound, language="en", **chosen)]
        busy += events[-1]["busy_seconds"]
        replays.append(events)
    seconds = sum(len(one.sound) for one in recordings) / 16000
    figures = {OURS: {**figures_of(recordings, replays), "busy": round(busy / seconds, 3)}}
    _report(figures, {"seconds": seconds, "costs": vars(costs), "options": chosen}, json_file)


@main.command()
@click.argument("checkpoint", type=folder_type)
@click.option("--artifact", required=True, type=folder_type, help="The same weights, for max-whisper.")
@click.option("--speech", required=True, type=folder_type)
@click.option("--work", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--recording", "names", multiple=True, required=True, help="A part of a name; may be repeated.")
@click.option("--only", multiple=True, type=click.Choice([OURS, *PEERS]), help="Measure this one; may be repeated.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here.")
@click.option("--svg", "svg_file", type=click.Path(dir_okay=False, path_type=Path), help="Draw a picture here.")
def wall(
    checkpoint: Path,
    artifact: Path,
    speech: Path,
    work: Path,
    names: tuple[str, ...],
    only: tuple[str, ...],
    json_file: Path | None,
    svg_file: Path | None,
) -> None:
    """Replays recordings at the speed of time, to max-whisper and to others."""
    recordings = read_recordings(speech, max_whisper.load(artifact), names, 1)
    if not recordings:
        raise click.UsageError("no recording has such a name")
    find_detector(None)  # compiled before anything is measured
    seconds = sum(len(one.sound) for one in recordings) / 16000
    figures: dict[str, dict[str, Any]] = {}
    for name in only or (OURS, *PEERS):
        try:
            command = _command(name, checkpoint, artifact, work)
            runs = [_run(name, command, recording, work) for recording in recordings]
        except (SetupError, subprocess.CalledProcessError, ValueError) as error:
            say(f"{name}: {error}")
            continue
        figures[name] = {
            **figures_of(recordings, runs),
            "cpu": round(sum(run[-1]["cpu_seconds"] for run in runs) / seconds / 2, 3),
            "memory_mb": round(max(run[-1]["peak_rss_mb"] for run in runs)),
            "version": runs[0][0]["version"],
        }
    _report(figures, {"seconds": seconds}, json_file)
    if svg_file is not None:
        title = f"Live transcription of {seconds:.0f} s of English, {checkpoint.name}"
        svg_file.write_text(svg(figures, OURS, title), encoding="utf-8")


def figures_of(recordings: list[Recording], replays: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Returns the figures of one transcriber, whose events are given: lags in seconds, shares of words."""
    outcomes = [outcome(events) for events in replays]
    first = [lag for events, one in zip(replays, recordings, strict=True) for lag in first_lags(events, one.said)]
    pairs = [lags(one.shown, recording.said) for one, recording in zip(outcomes, recordings, strict=True)]
    confirmed = sum(one.confirmed for one in outcomes)
    right = [recording.text for recording in recordings]
    return {
        "first_shown": summary(first),
        "lag": summary([lag for all_lags, _ in pairs for lag in all_lags]),
        "lag_at_pauses": summary([lag for _, at_pauses in pairs for lag in at_pauses]),
        "phrase_end_to_final": summary([delay for one in outcomes for delay in one.final_delays]),
        "wrong_words": round(word_errors([one.text for one in outcomes], right), 4),
        "wrong_words_offline": round(word_errors([one.offline for one in recordings], right), 4),
        "confirmed": confirmed,
        "revised": round(sum(one.revised for one in outcomes) / confirmed, 4) if confirmed else None,
    }


def _command(name: str, checkpoint: Path, artifact: Path, work: Path) -> list[str]:
    """Returns the command that replays a recording to a transcriber. Raises SetupError."""
    if name == OURS:
        return [sys.executable, "-m", "benchmarks.streaming.workers.max_whisper_peer", "--model", str(artifact)]
    threads = ["--threads", str(THREADS.get(name, 2))]
    return [str(interpreter(name, work)), str(program(name)), *threads, "--model", str(weights(checkpoint, work))]


def _run(name: str, command: list[str], recording: Recording, work: Path) -> list[dict[str, Any]]:
    """Returns the events of one replay, which are kept in a file as well."""
    say(f"{name}: {recording.name}, {len(recording.sound) / 16000:.0f} s")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sound.wav")
        write_wav(recording.sound, file)
        done = subprocess.run(
            [*command, "--audio", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=120 + 3 * len(recording.sound) / 16000,
            env={**os.environ, "MODULAR_TELEMETRY_ENABLED": "false"},
        )
    kept = work / "replays" / f"{name}-{Path(command[-1]).name}-{recording.name}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(done.stdout)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _value(text: str) -> Any:
    """Returns a number where a text is one."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _report(figures: dict[str, dict[str, Any]], facts: dict[str, Any], json_file: Path | None) -> None:
    """Prints the figures as a table, and writes them to a file."""
    if json_file is not None:
        everything = {"machine": machine(), **facts, "figures": figures}
        json_file.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    table = Table(
        "transcriber", "shown", "confirmed", "95 %", "at pauses", "end to final", "revised", "wrong", "offline", "CPU"
    )
    for name, one in figures.items():
        table.add_row(
            name,
            _shown(one["first_shown"].get("mean")),
            _shown(one["lag"].get("mean")),
            _shown(one["lag"].get("p95")),
            _shown(one["lag_at_pauses"].get("mean")),
            _shown(one["phrase_end_to_final"].get("mean")),
            _shown(one["revised"], percent=True),
            _shown(one["wrong_words"], percent=True),
            _shown(one["wrong_words_offline"], percent=True),
            _shown(one.get("cpu", one.get("busy")), percent=True),
        )
    Console().print(table)


def _shown(value: float | None, *, percent: bool = False) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if percent else f"{value:.2f}"


if __name__ == "__main__":
    main()
