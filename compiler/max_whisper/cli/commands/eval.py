"""`max-whisper eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from max_whisper.cli.evaluating import evaluate_models
from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand
from max_whisper.cli.options import FallbackOptions, ThreadOptions, heading, offline_option, options_from
from max_whisper.cli.outputs import checked_report
from max_whisper.cli.threads import use_threads
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.part_options import PartOptions
from max_whisper.tools.options import EvalOptions

if TYPE_CHECKING:
    from max_whisper.tools.eval.report import Report

EXAMPLES = """
max-whisper eval speech.tsv --model artifacts/tiny
max-whisper eval speech.tsv --model artifacts/tiny-float32 --model artifacts/tiny \\
    --html report.html
"""
SEARCH = ("best_of", "beam_size")
TRANSCRIPTION = ("condition_on_previous_text", "drop_suspect")
NOT_OF_MANY = ("audio_track", "clip_timestamps")
"""The options that are for one recording, and not for many."""

report_option = heading("Report")


@click.command("eval", cls=HeadedCommand, examples=EXAMPLES)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    metavar="DIR_OR_SPEC",
    help='Folder that "build" made, or a spec, as for "transcribe". Give the option several times to compare models '
    "with the first one.",
)
@options_from(EvalOptions)
@options_from(DecodingOptions, leave_out={*DecodingOptions.declared} - {*SEARCH}, defaults={"best_of": 5})
@options_from(FallbackOptions, defaults={"temperature_increment_on_fallback": None})
@options_from(TranscribeOptions, leave_out={*TranscribeOptions.declared} - {*TRANSCRIPTION})
@options_from(PartOptions, leave_out=NOT_OF_MANY)
@report_option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write all results to, with the text of each recording, besides the tables.  [default: no file]",
)
@report_option(
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write a page to that a browser shows, without a network.  [default: no file]",
)
@options_from(ThreadOptions)
@offline_option
def evaluate(
    manifest: Path,
    models: tuple[str, ...],
    json_file: Path | None,
    html_file: Path | None,
    threads: int | None,
    offline: bool,
    **options: Any,
) -> None:
    """Count the errors of models in recordings whose text is known.

    MANIFEST is a table of recordings: text with tabs between the columns file, language, text and, optionally, kind.
    The language of a recording without speech is zxx.

    This needs jiwer and whisper-normalizer: pip install 'max-whisper[eval]'.
    Words are counted, or characters in languages that are written without spaces. The tables show error rates with the
    intervals in which they would lie for other recordings of the same sort, and how fast the models are. A recording
    that cannot be read is reported, and the exit code is then 1.
    """
    current().streams.stdout.check()
    use_threads(threads)
    json_file = checked_report("--json", json_file, [manifest, *models])
    html_file = checked_report("--html", html_file, [manifest, *models])
    outputs = [file for file in (json_file, html_file) if file is not None]
    if len({file.parent.resolve() / file.name for file in outputs}) < len(outputs):
        raise UserError(f"--json and --html would both be written to {json_file}: give them different names")
    eval_options = EvalOptions(**{name: options.pop(name) for name in EvalOptions.declared})
    fallback = FallbackOptions(**{name: options.pop(name) for name in FallbackOptions.declared})
    settings = options | {"temperature": fallback.temperatures}
    report = evaluate_models(manifest, models, eval_options, settings, outputs, offline)
    _write(report, json_file, html_file)
    failures = sum(len(run.failures) for run in report.runs)
    if failures:
        tried = failures + sum(len(run.outcomes) for run in report.runs)
        raise MaxWhisperError(f"{failures} of {tried} recordings could not be transcribed, for the reasons above")


def _write(report: Report, json_file: Path | None, html_file: Path | None) -> None:
    """Prints the tables, then writes the files; nothing is written before the work is done."""
    from max_whisper.runtime.output.files import write_file
    from max_whisper.tools.eval.json_report import json_text
    from max_whisper.tools.eval.page import page
    from max_whisper.tools.eval.tables import show

    show(report)
    if json_file is not None:
        write_file(json_file, json_text(report))
    if html_file is not None:
        write_file(html_file, page(report))
