"""`max-whisper transcribe`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand
from max_whisper.cli.models import load_model, prepare_detector
from max_whisper.cli.options import (
    FallbackOptions,
    FormatType,
    ThreadOptions,
    heading,
    model_option,
    offline_option,
    options_from,
)
from max_whisper.cli.outputs import Texts, check_files, formats_of, make_folder, output_files
from max_whisper.cli.streams import check_input
from max_whisper.cli.threads import use_threads
from max_whisper.cli.transcribing import Display, transcribe_files
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.files import expanded
from max_whisper.options import options_of
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.transcription.options import RECORDING_OPTIONS, TranscribeOptions
from max_whisper.runtime.transcription.part_options import PartOptions

output_option = heading("Output")

EXAMPLES = """
max-whisper transcribe talk.mp3 --model artifacts/tiny
max-whisper transcribe *.wav --model artifacts/tiny \\
    --language de --output-format srt --output-dir subtitles
ffmpeg -i film.mkv -f wav - | max-whisper transcribe - --model artifacts/tiny
"""


@click.command(cls=HeadedCommand, examples=EXAMPLES)
@click.argument("audio", nargs=-1, required=True)
@model_option
@output_option(
    "--output-format",
    type=FormatType(),
    default="txt",
    help="Format of the output. txt is text alone, srt and vtt are subtitles, tsv is a table with times in "
    "milliseconds, json has all that is known of each segment, all is every format at once.  [default: txt]",
)
@output_option(
    "--output-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for one file per recording and format, which is made if it is not there.  [default: print the text]",
)
@output_option("--verbose", is_flag=True, help="Show each segment with its times as soon as it is found, on stderr.")
@output_option(
    "--explain",
    is_flag=True,
    help="Show on stderr, for each window, which temperatures were tried, why texts were refused, and which rules kept "
    "the most probable token from being chosen. Costs one more decoder pass.",
)
@options_from(DecodingOptions, leave_out=("temperature", "prompt"), defaults={"best_of": 5})
@options_from(FallbackOptions)
@options_from(TranscribeOptions, leave_out=("temperature", "explain", "token_logprobs"))
@options_from(PartOptions)
@options_from(SubtitleOptions)
@options_from(ThreadOptions)
@offline_option
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

    AUDIO is any audio or video file, or - for stdin. A recording that cannot be read is reported, and the others are
    transcribed.

    Whisper hears a recording in windows of 30 seconds. It writes the text of a window as tokens (words or parts of
    words), each of which it chooses by its probability.
    """
    run = current()
    if output_dir is None:
        run.streams.stdout.check()
    else:
        output_dir = expanded(output_dir)
    if "-" in audio:
        check_input()
    use_threads(threads, waits="-" in audio)
    outputs = output_files(audio, formats_of(output_format), output_dir, model)
    subtitles = SubtitleOptions(**{name: options.pop(name) for name in SubtitleOptions.declared})
    fallback = FallbackOptions(**{name: options.pop(name) for name in FallbackOptions.declared})
    subtitles.check(word_timestamps=options["word_timestamps"])
    options |= {"temperature": fallback.temperatures, "explain": explain}
    _, parts, _ = options_of(options, *RECORDING_OPTIONS)  # a wrong value is found before the model is loaded
    loaded = load_model(model, offline)
    prepare_detector(parts)
    batch = loaded.batch(audio, **options)
    if output_dir is not None:
        make_folder(output_dir)
        check_files(file for output in outputs for file in output.values())
    display = Display(run.streams, loaded.tokenizer, verbose=verbose, explain=explain)

    texts = Texts(outputs, subtitles, run.streams)
    failures = transcribe_files(audio, batch, display, texts, run.interrupts)
    if failures and len(audio) == 1:
        raise failures[0]
    if failures:
        kind = UserError if all(isinstance(failure, UserError) for failure in failures) else MaxWhisperError
        raise kind(f"{len(failures)} of {len(audio)} recordings were not transcribed, for the reasons above")
    if (verbose or explain) and run.streams.stderr.failed:
        raise MaxWhisperError("not all that --verbose and --explain say could be written to standard error")
