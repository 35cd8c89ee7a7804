"""The command line: options in, calls of the package, sentences out."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from max_whisper.cli.commands import Commands, current
from max_whisper.cli.options import FallbackOptions, ThreadOptions, options_from
from max_whisper.cli.outputs import Texts, check_files, make_folder, output_files, spare
from max_whisper.cli.streams import check_input
from max_whisper.cli.transcribing import Show, transcribe_files
from max_whisper.compile.options import BuildOptions
from max_whisper.errors import MaxWhisperError, SpecError, UserError
from max_whisper.files import expanded, is_folder
from max_whisper.messages import printable
from max_whisper.options import options_of
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.output.subtitles import SubtitleOptions
from max_whisper.runtime.output.writers import FORMATS, write_file
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.tools.options import BenchOptions, VerifyOptions

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from max_whisper.progress import OnProgress
    from max_whisper.runtime.model import Model


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="max-whisper")
@click.pass_context
def main(context: click.Context) -> None:
    """Whisper as one readable YAML file, compiled ahead of time with MAX.

    \b
    max-whisper build --spec tiny.yaml                     compile whisper-tiny to artifacts/tiny
    max-whisper transcribe talk.mp3 --model artifacts/tiny print what is said in a recording
    max-whisper inspect tiny.yaml                          see every layer, its shape and its weights

    Every command has its own --help.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


SPEC_HELP = "A YAML file, or the name of a shipped spec: tiny, base.en, large-v3, ..."
WEIGHTS_HELP = "Hub repository, folder in Hub layout or .safetensors file. [default: the spec's source]"
MODEL_HELP = "An artifact's folder, or a spec, which is built if it was not before."


@main.command()
@click.option("--spec", required=True, help=SPEC_HELP)
@click.option("--weights", metavar="REPO_OR_PATH", help=WEIGHTS_HELP)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the artifact.  [default: artifacts/NAME]")
@options_from(BuildOptions)
def build(spec: str, out: Path | None, **options: Any) -> None:
    """Compile a model to an artifact folder.

    \b
    max-whisper build --spec tiny.yaml
    max-whisper build --spec tiny.yaml --weights ./my-fine-tune --out artifacts/mine
    max-whisper build --spec large-v3-turbo --target cuda:sm_90a

    Weights come from the Hugging Face Hub, once; they are in its cache from then on. Without a connection, copy the
    model's repository to a folder and name that with --weights. Compiling takes minutes the first time and seconds
    when the same graph was compiled before.
    """
    with current().interrupts.held():
        from max_whisper.compile.build import build as build_artifact

    streams = current().streams
    streams.stdout.check()
    started = time.monotonic()
    with reporting(f"building {Path(spec).name}") as progress:
        folder = build_artifact(spec, out=out, progress=progress, **options)
    streams.write(f"{printable(folder)} is ready ({_folder_size(folder)}, {time.monotonic() - started:.0f} s)\n")


@main.command()
@click.argument("audio", nargs=-1, required=True)
@click.option("--model", required=True, metavar="DIR_OR_SPEC", help=MODEL_HELP)
@options_from(DecodingOptions, leave_out=("temperature", "prompt"), defaults={"best_of": 5})
@options_from(FallbackOptions)
@options_from(TranscribeOptions, leave_out=("temperature", "explain"))
@click.option("--verbose", is_flag=True, help="Show each segment as it comes, on stderr.")
@click.option(
    "--explain",
    is_flag=True,
    help="Say of each window, on stderr, what was tried and why, and which rule kept it from the likeliest token.",
)
@click.option("--output-format", type=click.Choice([*FORMATS, "all"]), default="txt", show_default=True)
@click.option("--output-dir", type=click.Path(path_type=Path), help="Write one file per recording here, not to stdout.")
@options_from(SubtitleOptions)
@options_from(ThreadOptions)
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
    **options: Any,
) -> None:
    """Print or write what is said in recordings.

    \b
    max-whisper transcribe talk.mp3 --model artifacts/tiny
    max-whisper transcribe *.wav --model artifacts/tiny --language de --output-format srt --output-dir subtitles
    ffmpeg -i film.mkv -f wav - | max-whisper transcribe - --model artifacts/tiny

    Any audio or video file is read; - is stdin. A recording that cannot be read is reported, and the others are done.
    """
    run = current()
    if output_dir is None:
        run.streams.stdout.check()
    else:
        output_dir = expanded(output_dir)
    if "-" in audio:
        check_input()
    use_threads(threads, waits="-" in audio)
    outputs = output_files(audio, FORMATS if output_format == "all" else (output_format,), output_dir, model)
    subtitles = SubtitleOptions(**{name: options.pop(name) for name in SubtitleOptions.declared})
    fallback = FallbackOptions(**{name: options.pop(name) for name in FallbackOptions.declared})
    subtitles.check(word_timestamps=options["word_timestamps"])
    options |= {"temperature": fallback.temperatures, "explain": explain}
    options_of(options, TranscribeOptions, DecodingOptions)  # a wrong value is found before the model is loaded
    loaded = load_model(model, offline)
    batch = loaded.batch(audio, **options)
    if output_dir is not None:
        make_folder(output_dir)
        check_files(file for output in outputs for file in output.values())
    show = Show(run.streams, loaded.tokenizer, verbose=verbose, explain=explain)

    texts = Texts(outputs, subtitles, run.streams)
    failures = transcribe_files(audio, batch, show, texts, run.interrupts)
    if failures and len(audio) == 1:
        raise failures[0]
    if failures:
        kind = UserError if all(isinstance(failure, UserError) for failure in failures) else MaxWhisperError
        raise kind(f"{len(failures)} of {len(audio)} recordings were not transcribed, for the reasons above")
    if (verbose or explain) and run.streams.stderr.failed:
        raise MaxWhisperError("not all that --verbose and --explain say could be written to standard error")


@main.command()
@click.argument("what", metavar="SPEC_OR_ARTIFACT")
@click.option("--all", "every", is_flag=True, help="Show every copy of repeated layers, not the first alone.")
def inspect(what: str, every: bool) -> None:
    """Show layers, shapes, parameters, FLOPs, bytes and weight names of a spec or an artifact."""
    with current().interrupts.held():
        from max_whisper.tools.inspect import inspect as show

    current().streams.stdout.check()
    show(what, every=every)


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--audio", help="A recording to compare on. [default: seeded noise]")
@options_from(VerifyOptions)
def verify(artifact: Path, audio: str | None, tokens: int) -> None:
    """Compare an artifact with transformers, layer by layer.

    Needs torch and transformers: pip install 'max-whisper[verify]'. The layers are compiled once more with all of
    their outputs, which takes as long as a build. Exits with 1 where an error is larger than the bound.
    """
    current().streams.stdout.check()
    with current().interrupts.held():
        from max_whisper.tools.verify.verify import verify as run

    with reporting(f"verifying {artifact}") as progress:
        report_card = run(artifact, audio=audio, n_tokens=tokens, progress=progress)
    report_card.show()
    if not report_card.passed:
        raise MaxWhisperError(f"{artifact} differs from the reference: {report_card.verdict}")


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@options_from(BenchOptions)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write every figure here, too.")
@options_from(ThreadOptions)
def bench(artifact: Path, tokens: int, rounds: int, file: Path | None, threads: int | None) -> None:
    """Measure an artifact on this machine, phase by phase and layer by layer.

    Of each layer: FLOPs, bytes, time, and the share of what the machine allows, which is measured in the same run.
    The layers are compiled once more with clocks around their kernels; the first time, this takes as long as a build.
    Only artifacts for a CPU can be measured. Other programs that run meanwhile make the figures worse.
    """
    current().streams.stdout.check()
    use_threads(threads)
    if file is not None:
        file = expanded(file)
        if not (is_folder(file.parent) and os.access(file.parent, os.W_OK)):
            raise UserError(f"--json {file}: {file.parent} is no folder that can be written to")
        spare([file], [artifact])
        check_files([file])
    with current().interrupts.held():
        from max_whisper.tools.bench.bench import bench as run
        from max_whisper.tools.bench.tables import as_json, show

    with reporting(f"measuring {artifact}") as progress:
        report = run(artifact, n_tokens=tokens, rounds=rounds, progress=progress)
    show(report)
    if file is not None:
        write_file(file, json.dumps(as_json(report), indent=1) + "\n")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the spec language, for editors.

    \b
    max-whisper schema > whisper-spec.schema.json
    # yaml-language-server: $schema=whisper-spec.schema.json     (first line of a spec)
    """
    from max_whisper.spec import json_schema

    current().streams.write(json.dumps(json_schema(), indent=2) + "\n")


def use_threads(count: int | None, *, waits: bool = False) -> None:
    """Limits this process to some of its CPU cores, the least busy ones, and keeps others of max-whisper from them.

    count: how many, or None for all. MAX starts as many threads as the process may use cores, so this comes before.
    waits: whether the command may wait for long, as for stdin: then it counts as at work only while it computes, and
    else from now to its end.
    """
    from max_whisper.artifact.cores import AT_WORK, usable_cores

    context = click.get_current_context()
    if count is not None:
        if not hasattr(os, "sched_setaffinity"):
            raise UserError("--threads needs Linux, where a process can be bound to cores; leave the option out")
        cores = len(usable_cores())
        if count > cores:
            raise UserError(f"--threads {count}: this process may use {cores} cores; give at most that")
        if count < cores:
            everything = usable_cores()

            @context.call_on_close
            def give_back() -> None:  # to a program that calls `main`
                AT_WORK.start_anew()
                os.sched_setaffinity(0, everything)

            os.sched_setaffinity(0, AT_WORK.choose(count))
            waits = False
    if not waits:
        context.with_resource(AT_WORK)


def load_model(name: str, offline: bool) -> Model:
    """An artifact's folder, or a spec, built to its default folder if it is not there."""
    with current().interrupts.held():  # a signal while MAX is being imported would end the process by another
        from max_whisper.artifact.manifest import FILE
        from max_whisper.runtime.model import load

    folder = expanded(name)
    if not is_folder(folder):
        with current().interrupts.held():
            from max_whisper.compile.build import build as build_artifact
            from max_whisper.compile.build import default_folder
            from max_whisper.spec import load_spec

        if folder.suffix not in (".yaml", ".yml") and len(folder.parts) > 1:
            raise UserError(f"there is no folder {folder}: make it with max-whisper build --spec SPEC --out {folder}")
        try:
            load_spec(name)
        except SpecError as error:
            if folder.suffix in (".yaml", ".yml"):
                raise
            raise UserError(f"--model {name}: there is no such folder with an artifact, nor a spec; {error}") from error
        folder = default_folder(name)
        if not (folder / FILE).exists():
            with reporting(f"building {folder}, for the first time") as progress:
                build_artifact(name, out=folder, offline=offline, progress=progress)
    return load(folder)


@contextlib.contextmanager
def reporting(title: str) -> Iterator[OnProgress]:
    """Shows that work goes on, and each sentence that is reported, on stderr."""
    started = time.monotonic()
    streams = current().streams
    with streams.progress(_columns) as bar:
        bar.add_task(printable(title))
        yield lambda progress: streams.say(f"[{time.monotonic() - started:6.1f} s] {progress.message}")


def _columns() -> Sequence[ProgressColumn]:
    from rich.progress import TextColumn, TimeElapsedColumn

    return TextColumn("{task.description} ...", markup=False), TimeElapsedColumn()


def _folder_size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.0f} MB"
