"""`max-whisper batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from max_whisper.batch.options import BatchOptions
from max_whisper.cli.batch.options import SubtitleType
from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand
from max_whisper.cli.models import artifact_folder, prepare_detector
from max_whisper.cli.options import FallbackOptions, ThreadOptions, heading, model_option, offline_option, options_from
from max_whisper.errors import MaxWhisperError
from max_whisper.files import expanded
from max_whisper.options import options_of
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.transcription.options import RECORDING_OPTIONS, TranscribeOptions
from max_whisper.runtime.transcription.part_options import PartOptions

result_option = heading("Results")

EXAMPLES = """
max-whisper batch recordings --model artifacts/base --out results
max-whisper batch calls.tsv --model artifacts/base --out results --rows segment --format jsonl
max-whisper batch "archive/**/*.mp3" --model artifacts/base --out results --subtitles srt
max-whisper batch s3://bucket/talks --model artifacts/base --out results
max-whisper batch inbox --watch --model artifacts/base --out results
"""


@click.command(cls=HeadedCommand, examples=EXAMPLES)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@model_option
@result_option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder of the results, which is made if it is not there. Another run with the same folder goes on.",
)
@options_from(BatchOptions, leave_out=("workers",))
@result_option(
    "--subtitles",
    type=SubtitleType(),
    multiple=True,
    help="Write a file of this format for each recording as well, to FOLDER/subtitles. Give the option several times "
    "for several.  [default: rows alone]",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Go on looking for recordings in the folders, until Ctrl-C. A file is taken when it has stopped growing.",
)
@options_from(BatchOptions, leave_out=("format", "rows", "retry_failed"))
@options_from(ThreadOptions, below="Processes")
@options_from(DecodingOptions, leave_out=("temperature", "prompt"), defaults={"best_of": 5})
@options_from(FallbackOptions)
@options_from(TranscribeOptions, leave_out=("temperature", "explain", "token_logprobs"))
@options_from(PartOptions)
@options_from(SubtitleOptions)
@offline_option
def batch(
    inputs: tuple[str, ...],
    model: str,
    out: Path,
    subtitles: tuple[str, ...],
    watch: bool,
    threads: int | None,
    offline: bool,
    **options: Any,
) -> None:
    """Transcribe an archive, in runs that may be killed and go on where they were.

    INPUT is a folder with all that is in it, a pattern in quotes, a list of recordings (txt, or tsv, csv, jsonl or
    parquet with a column path, file or url), a recording, or a URL of any of these. URLs and Parquet need
    pip install 'max-whisper[batch]'.

    A recording that has a row is skipped, and a long one goes on behind its last window. One that cannot be transcribed
    has a row with an error; the exit code is then 1, and 2 after a mistake in what was asked for.
    """
    run = current()
    chosen = BatchOptions(**{name: options.pop(name) for name in BatchOptions.declared})
    subtitle_options = SubtitleOptions(**{name: options.pop(name) for name in SubtitleOptions.declared})
    fallback = FallbackOptions(**{name: options.pop(name) for name in FallbackOptions.declared})
    subtitle_options.check(word_timestamps=options["word_timestamps"])
    options |= {"temperature": fallback.temperatures}
    _, parts, _ = options_of(options, *RECORDING_OPTIONS)  # a wrong value is found before the model is looked for
    with run.interrupts.held():
        from max_whisper.batch.batch import Batch, run_batch
        from max_whisper.cli.batch.display import Display, columns, report
    folder = artifact_folder(model, offline)
    prepare_detector(parts)
    todo = Batch(inputs, folder, expanded(out), chosen, subtitles, subtitle_options, threads, watch, options)
    with run.interrupts.held():  # the run looks itself at whether to stop, and keeps all
        with run.streams.progress(columns) as bar:
            summary = run_batch(todo, Display(run.streams, bar), lambda: run.interrupts.waiting)
        for line in report(summary):
            run.streams.say(line)
        if watch:
            run.interrupts.take()  # which is how a watch ends
    if summary.failed and not watch:
        raise MaxWhisperError(
            f"{summary.failed} of {summary.done + summary.skipped + summary.failed} recordings have no text: their "
            "rows say why, and --retry-failed tries them again"
        )
    if summary.unwritten:
        raise MaxWhisperError(
            f"{summary.unwritten} of the recordings have no files with subtitles, for the reasons above; their rows "
            "are there"
        )
