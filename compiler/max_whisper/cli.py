"""The command line: options in, calls of the package, sentences out."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.writers import FORMATS, format_timestamp, write

if TYPE_CHECKING:
    from max_whisper.runtime.model import Model
    from max_whisper.runtime.transcription import TranscriptionResult, Window

DTYPES = ("float32", "bfloat16")


class OptionalFloat(click.ParamType):  # type: ignore[type-arg]
    """A number, or none."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value is None or str(value).lower() == "none":
            return None
        try:
            return float(value)
        except ValueError:
            self.fail(f"expected a number or none, got '{value}'", param, ctx)


console = Console(stderr=True, highlight=False)


class Commands(click.Group):
    """Turns our errors into one sentence and an exit code: 2 for a mistake of the user, 1 for a failure."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except MaxWhisperError as error:
            click.echo(f"error: {error}", err=True)
            context.exit(error.exit_code)
        except click.UsageError as error:
            command = (error.ctx or context).command_path
            click.echo(f"error: {error.format_message().rstrip('.')}; see {command} --help", err=True)
            context.exit(error.exit_code)
        except BrokenPipeError:  # the reader of our output has gone, as in `max-whisper ... | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="max-whisper")
def main() -> None:
    """Whisper as one readable YAML file, compiled ahead of time with MAX.

    \b
    max-whisper build --spec tiny.yaml                     compile whisper-tiny to artifacts/tiny
    max-whisper transcribe talk.mp3 --model artifacts/tiny print what is said in a recording
    max-whisper inspect tiny.yaml                          see every layer, its shape and its weights

    Every command has its own --help.
    """


SPEC_HELP = "A YAML file, or the name of a shipped spec: tiny, base.en, large-v3, ..."
WEIGHTS_HELP = "Hub repository, folder in Hub layout or .safetensors file. [default: the spec's source]"
DTYPE_HELP = "Of the weights and of the operands of matrix products."
TARGET_HELP = (
    "cpu is this machine's own; cpu:x86-64-v3, cuda:sm_80, cuda:sm_89, cuda:sm_90a, hip:gfx942 "
    "are compiled for elsewhere."
)
MODEL_HELP = "An artifact's folder, or a spec, which is built if it was not before."


@main.command()
@click.option("--spec", required=True, help=SPEC_HELP)
@click.option("--weights", metavar="REPO_OR_PATH", help=WEIGHTS_HELP)
@click.option("--revision", help="Branch, tag or commit of the Hub repository.")
@click.option("--out", type=click.Path(path_type=Path), help="The artifact's folder. [default: artifacts/NAME]")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help=DTYPE_HELP)
@click.option("--target", default="cpu", show_default=True, help=TARGET_HELP)
@click.option("--batch", type=int, default=1, show_default=True, help="Windows of audio that are computed at once.")
@click.option("--force", is_flag=True, help="Replace an artifact that is already there.")
@click.option("--offline", is_flag=True, help="Do not connect to the Hub: use what is in its cache.")
def build(spec: str, out: Path | None, **options: Any) -> None:
    """Compile a model to an artifact folder.

    \b
    max-whisper build --spec tiny.yaml
    max-whisper build --spec tiny.yaml --weights ./my-fine-tune --out artifacts/mine
    max-whisper build --spec large-v3-turbo --dtype bfloat16 --target cuda:sm_90a

    Weights come from the Hugging Face Hub, once; they are in its cache from then on. Without a connection, copy the
    model's repository to a folder and name that with --weights. Compiling takes minutes the first time and seconds
    when the same graph was compiled before.
    """
    from max_whisper.artifact.build import build as build_artifact

    started = time.monotonic()
    with reporting(f"building {Path(spec).name}") as report:
        folder = build_artifact(spec, out=out, report=report, **options)
    click.echo(f"{folder} is ready ({_folder_size(folder)}, {time.monotonic() - started:.0f} s)")


class Interrupted(Exception):
    """Ctrl-C in the middle of a recording; what was transcribed until then is not lost."""

    def __init__(self, result: TranscriptionResult) -> None:
        super().__init__()
        self.result = result


OPTIONAL_FLOAT = OptionalFloat()

DECODING_OPTIONS = [
    click.option("--language", help="Code or English name of what is spoken: en, german, ... [default: detected]"),
    click.option("--task", default="transcribe", show_default=True, help="transcribe, or translate into English."),
    click.option("--without-timestamps", is_flag=True, help="Text alone, window by window."),
    click.option("--max-new-tokens", type=int, help="Most tokens of a window. [default: half of the text context]"),
    click.option("--initial-prompt", metavar="TEXT", help="Seen by the first window as the text before it."),
    click.option("--carry-initial-prompt", is_flag=True, help="Seen by every window."),
    click.option(
        "--condition-on-previous-text/--no-condition-on-previous-text",
        default=True,
        show_default=True,
        help="Whether a window sees the text before it.",
    ),
    click.option("--prefix", metavar="TEXT", help="What the text of each window begins with."),
    click.option(
        "--clip-timestamps", metavar="SECONDS", default="0", help="start,end,start,... of what is transcribed."
    ),
    click.option("--temperature", type=float, default=0.0, show_default=True, help="0 takes the likeliest token."),
    click.option(
        "--temperature-increment-on-fallback",
        type=OPTIONAL_FLOAT,
        default="0.2",
        show_default=True,
        metavar="STEP|none",
        help="What is added, up to 1, when a window's text is repetitive or unlikely.",
    ),
    click.option("--best-of", type=int, default=5, show_default=True, help="Samples where the temperature is not 0."),
    click.option("--beam-size", type=int, help="Texts that a beam search goes on with. [default: no search]"),
    click.option("--patience", type=float, help="Of the beam search. [default: 1]"),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the samples."),
    click.option("--length-penalty", type=float, help="0 to 1: how much the length counts in the choice among texts."),
    click.option(
        "--compression-ratio-threshold",
        type=OPTIONAL_FLOAT,
        default="2.4",
        show_default=True,
        metavar="RATIO|none",
        help="A text that is compressed by more repeats itself.",
    ),
    click.option(
        "--logprob-threshold",
        type=OPTIONAL_FLOAT,
        metavar="LOGPROB|none",
        help="A text of a lower average is unlikely. [default: the model's, which is -1 for openai's]",
    ),
    click.option(
        "--no-speech-threshold",
        type=OPTIONAL_FLOAT,
        default="0.6",
        show_default=True,
        metavar="SHARE|none",
        help="A window of a likelier no-speech and an unlikely text is silence.",
    ),
    click.option("--suppress-tokens", metavar="IDS", default="-1", show_default=True, help="-1: the model's own list."),
    click.option("--max-initial-timestamp", type=float, metavar="SECONDS", help="The latest first start in a window."),
]


def decoding_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `Model.transcribe`."""
    for option in reversed(DECODING_OPTIONS):
        command = option(command)
    return command


@main.command()
@click.argument("audio", nargs=-1, required=True)
@click.option("--model", required=True, metavar="DIR_OR_SPEC", help=MODEL_HELP)
@decoding_options
@click.option("--verbose", is_flag=True, help="Show each segment as it comes, on stderr.")
@click.option("--explain", is_flag=True, help="Say of each window what was tried and why it was skipped, on stderr.")
@click.option("--output-format", type=click.Choice(FORMATS), default="txt", show_default=True)
@click.option("--output-dir", type=click.Path(path_type=Path), help="Write one file per recording here, not to stdout.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU cores to use. [default: all]")
@click.option("--offline", is_flag=True, help="Do not connect to the Hub, should a spec have to be built.")
def transcribe(
    audio: tuple[str, ...],
    model: str,
    output_format: str,
    output_dir: Path | None,
    threads: int | None,
    offline: bool,
    verbose: bool,
    explain: bool,
    temperature: float,
    temperature_increment_on_fallback: float | None,
    **options: Any,
) -> None:
    """Print or write what is said in recordings.

    \b
    max-whisper transcribe talk.mp3 --model artifacts/tiny
    max-whisper transcribe *.wav --model artifacts/tiny --language de --output-format srt --output-dir subtitles
    ffmpeg -i film.mkv -f wav - | max-whisper transcribe - --model artifacts/tiny

    Any audio or video file is read; - is stdin. A recording that cannot be read is reported, and the others are done.
    """
    if threads is not None:
        use_threads(threads)
    outputs = output_files(audio, output_format, output_dir)
    options["temperature"] = temperatures(temperature, temperature_increment_on_fallback)
    if click.get_current_context().get_parameter_source("logprob_threshold") == ParameterSource.DEFAULT:
        del options["logprob_threshold"]
    loaded = load_model(model, offline)
    if options["language"] is not None and not loaded.multilingual:
        raise UserError("--language is for multilingual models, this one knows English only: leave the option out")
    loaded.check_options(**options)
    if output_dir is not None:
        make_folder(output_dir)
    failures: list[MaxWhisperError] = []
    for name, output in zip(audio, outputs, strict=True):
        try:
            _write(_transcribe(loaded, name, options, verbose, explain), output_format, output)
        except Interrupted as interruption:
            _write(interruption.result, output_format, output)
            raise click.Abort() from None
        except MaxWhisperError as error:
            if len(audio) == 1:
                raise
            click.echo(f"error: {error}", err=True)
            failures.append(error)
    if failures:
        kind = UserError if all(isinstance(failure, UserError) for failure in failures) else MaxWhisperError
        raise kind(f"{len(failures)} of {len(audio)} recordings were not transcribed, for the reasons above")


@main.command()
@click.argument("what", metavar="SPEC_OR_ARTIFACT")
@click.option("--all", "every", is_flag=True, help="Show every copy of repeated layers, not the first alone.")
def inspect(what: str, every: bool) -> None:
    """Show layers, shapes, parameters, FLOPs, bytes and weight names of a spec or an artifact."""
    from max_whisper.inspection import inspect as show

    show(what, every=every)


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--audio", help="A recording to compare on. [default: seeded noise]")
@click.option("--tokens", type=int, default=32, show_default=True, help="Greedy tokens to compare.")
def verify(artifact: Path, audio: str | None, tokens: int) -> None:
    """Compare an artifact with transformers, layer by layer.

    Needs torch and transformers: pip install 'max-whisper[verify]'. The layers are compiled once more with all of
    their outputs, which takes as long as a build. Exits with 1 where an error is larger than the bound.
    """
    from max_whisper.verification import verify as run

    with reporting(f"verifying {artifact}") as report:
        report_card = run(artifact, audio=audio, n_tokens=tokens, report=report)
    report_card.show()
    if not report_card.passed:
        raise MaxWhisperError(f"{artifact} differs from the reference: {report_card.verdict}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the spec language, for editors.

    \b
    max-whisper schema > whisper-spec.schema.json
    # yaml-language-server: $schema=whisper-spec.schema.json     (first line of a spec)
    """
    import json

    from max_whisper.spec import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def use_threads(count: int) -> None:
    """Limits this process to some of its CPU cores; MAX starts as many threads as it may use cores."""
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("--threads needs Linux, where a process can be bound to cores; leave the option out")
    cores = sorted(os.sched_getaffinity(0))
    if count > len(cores):
        raise UserError(f"--threads {count}: this process may use {len(cores)} cores; give at most that")
    os.sched_setaffinity(0, cores[:count])


def load_model(name: str, offline: bool) -> Model:
    """An artifact's folder, or a spec, built to its default folder if it is not there."""
    from max_whisper.artifact.manifest import FILE
    from max_whisper.runtime.model import load

    folder = Path(name)
    if not folder.is_dir():
        from max_whisper.artifact.build import build as build_artifact
        from max_whisper.artifact.build import default_folder
        from max_whisper.spec import load_spec

        if folder.suffix not in (".yaml", ".yml") and len(folder.parts) > 1:
            raise UserError(f"there is no folder {name}: make it with max-whisper build --spec SPEC --out {name}")
        load_spec(name)
        folder = default_folder(name)
        if not (folder / FILE).exists():
            with reporting(f"building {folder}, for the first time") as report:
                build_artifact(name, out=folder, offline=offline, report=report)
    return load(folder)


def output_files(audio: tuple[str, ...], format: str, folder: Path | None) -> list[Path | None]:
    """Where each recording's text goes; None is stdout."""
    if folder is None:
        return [None] * len(audio)
    files = [folder / f"{'stdin' if name == '-' else Path(name).stem}.{format}" for name in audio]
    twice = next((file for file in files if files.count(file) > 1), None)
    if twice is not None:
        raise UserError(f"two of the recordings would be written to {twice}: give them other names or other folders")
    return [*files]


def make_folder(folder: Path) -> None:
    """For the output; made before the work begins."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"--output-dir {folder}: {e.strerror}; give a folder that can be written to") from e
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--output-dir {folder}: permission denied; give a folder that can be written to")


def temperatures(first: float, step: float | None) -> tuple[float, ...]:
    """From the first up to 1 by the step."""
    if step is None:
        return (first,)
    if step <= 0:
        raise UserError(f"--temperature-increment-on-fallback: expected more than 0, or none, got {step}")
    return tuple(round(first + i * step, 6) for i in range(int((1 - first) / step + 1e-6) + 1)) or (first,)


def _transcribe(model: Model, name: str, options: dict[str, Any], verbose: bool, explain: bool) -> TranscriptionResult:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s of audio, {task.fields[speed]:.1f} x real time"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(Path(name).name, total=0, speed=0)
        started = time.monotonic()

        transcriber = model.transcriber(name, **options)
        try:
            for window in transcriber:
                speed = window.end / (time.monotonic() - started)
                bar.update(task, completed=window.end, total=transcriber.seconds, speed=speed)
                if explain:
                    bar.console.print(explanation(window), markup=False, soft_wrap=True)
                if verbose:
                    for segment in window.segments:
                        times = " --> ".join(format_timestamp(t) for t in (segment.start, segment.end))
                        bar.console.print(f"[{times}] {segment.text}", markup=False, soft_wrap=True)
        except KeyboardInterrupt:
            raise Interrupted(transcriber.result()) from None
        return transcriber.result()


def explanation(window: Window) -> str:
    """What was decided about a window, in one line."""
    parts = [f"{format_timestamp(window.start)} to {format_timestamp(window.end)}"]
    for attempt in window.attempts:
        parts.append(f"temperature {attempt.temperature:g}: {attempt.rejected or 'taken'}")
    result = window.result
    parts.append(
        f"average log-probability {result.avg_logprob:.2f}, no-speech {result.no_speech_prob:.2f}, "
        f"compression ratio {result.compression_ratio:.2f}"
    )
    parts.append("skipped as silence" if window.skipped else f"{len(window.segments)} segments")
    return "; ".join(parts)


def _write(result: TranscriptionResult, format: str, output: Path | None) -> None:
    write(result, format, sys.stdout if output is None else output)
    if output is not None:
        click.echo(output, err=True)


@contextlib.contextmanager
def reporting(title: str) -> Iterator[Callable[[str], None]]:
    """Shows that work goes on, and each sentence that is reported, on stderr."""
    started = time.monotonic()
    columns = (TextColumn("{task.description} ...", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        bar.add_task(title)
        yield lambda message: bar.console.print(
            f"[{time.monotonic() - started:6.1f} s] {message}", markup=False, soft_wrap=True
        )


def _folder_size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
