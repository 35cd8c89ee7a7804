"""`max-whisper live`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand
from max_whisper.cli.live.options import SourceOptions
from max_whisper.cli.models import load_model, prepare_silero
from max_whisper.cli.options import (
    FallbackOptions,
    FormatType,
    ThreadOptions,
    flag_of,
    heading,
    model_option,
    offline_option,
    options_from,
)
from max_whisper.cli.outputs import Output, Texts, check_files, formats_of, make_folder, output_files
from max_whisper.cli.threads import use_threads
from max_whisper.errors import UserError
from max_whisper.files import expanded
from max_whisper.options import options_of
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.streaming.options import NOT_FOR_STREAMS, OPTION_CLASSES, WITHOUT_SILERO, StreamOptions
from max_whisper.runtime.transcription.options import TranscribeOptions

STDIN = "-"

sound_option = heading("Sound")
output_option = heading("Output")

EXAMPLES = """
max-whisper live --model artifacts/base
max-whisper live --model artifacts/base --language de --output-format srt --output-dir notes
max-whisper live --list-devices
max-whisper live talk.mp3 --model artifacts/base
ffmpeg -i rtsp://camera/sound -f s16le -ac 1 -ar 16000 - | max-whisper live - --model artifacts/base
"""


def _list_devices(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """Prints the devices that record, and ends the command, which needs no model for that."""
    if not asked:
        return
    from max_whisper.cli.live.microphone import device_table
    from max_whisper.console import table_console

    current().streams.stdout.check()
    table_console().print(device_table())
    context.exit()


@click.command(cls=HeadedCommand, examples=EXAMPLES)
@click.argument("source", required=False)
@model_option
@sound_option(
    "--device",
    metavar="NAME_OR_NUMBER",
    help="Microphone, by its number or a part of its name.  [default: that of the system]",
)
@sound_option(
    "--list-devices",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_devices,
    help="Show the microphones, and exit.",
)
@options_from(SourceOptions)
@output_option(
    "--output-format",
    type=FormatType(),
    default="txt",
    help="Format of what is written at the end. txt is text alone, srt and vtt are subtitles, tsv is a table with "
    "times in milliseconds, json has all that is known of each phrase, all is every format at once.  [default: txt]",
)
@output_option(
    "--output-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder to write one file per format to, which is made if it is not there. The files are called as the "
    "recording is, or else by date and time.  [default: print the text]",
)
@options_from(StreamOptions)
@options_from(DecodingOptions, leave_out=("temperature", "prompt", *NOT_FOR_STREAMS))
@options_from(FallbackOptions)
@options_from(TranscribeOptions, leave_out=("temperature", *NOT_FOR_STREAMS))
@options_from(SubtitleOptions, below="Subtitles (srt and vtt)")
@options_from(ThreadOptions)
@offline_option
@click.pass_context
def live(
    context: click.Context,
    /,
    source: str | None,
    model: str,
    device: str | None,
    sample_rate: int,
    speed: float,
    output_format: str,
    output_dir: Path | None,
    threads: int | None,
    offline: bool,
    **options: Any,
) -> None:
    """Show what is said while it is said.

    Without SOURCE, that is what the microphone hears, until Ctrl-C. It needs pip install 'max-whisper[live]' and, on
    Debian or Ubuntu, apt install libportaudio2. SOURCE may be - for raw samples from stdin (s16le, mono), or an audio
    or video file, which is replayed.

    Words that stay are plain, and those that may still change are dim. A phrase ends at a pause; its final text
    replaces what was shown of it. Where stdout is no terminal, final texts alone are written, each on a line.
    """
    run = current()
    _check_given(context, source)
    if output_dir is None:
        run.streams.stdout.check()
    else:
        output_dir = expanded(output_dir)
    use_threads(threads, waits=True)
    formats = formats_of(output_format)
    name = source if source not in (None, STDIN) else _dated(output_dir, formats)
    (outputs,) = output_files((name,), formats, output_dir, model)
    subtitles = SubtitleOptions(**{name: options.pop(name) for name in SubtitleOptions.declared})
    fallback = FallbackOptions(**{name: options.pop(name) for name in FallbackOptions.declared})
    subtitles.check(word_timestamps=True)
    options["temperature"] = fallback.temperatures
    streaming, _, _ = options_of(options, *OPTION_CLASSES)  # a wrong value is found before the model is loaded
    with run.interrupts.held():  # a signal while a library is imported would end the process by another one
        from max_whisper.cli.live.captions import Captions
        from max_whisper.cli.live.microphone import Microphone
        from max_whisper.cli.live.session import Session
        from max_whisper.cli.live.sources import Source, replayed_file, standard_input

    sound: Source
    if source is None:
        sound = Microphone(device)
    else:
        sound = standard_input(sample_rate) if source == STDIN else replayed_file(source, speed)
    loaded = load_model(model, offline)
    if streaming.endpoints == "silero":
        prepare_silero(streaming.vad_model, WITHOUT_SILERO)
    stream = loaded.stream(sample_rate=sound.sample_rate, **options)
    if output_dir is not None:
        make_folder(output_dir)
        check_files(outputs.values())
    at_end: Output = {format: file for format, file in outputs.items() if file is not None or format != "txt"}
    texts = Texts([at_end], subtitles, run.streams) if at_end else None
    captions = Captions(run.streams, to_stdout=output_dir is not None or not at_end, for_files=bool(at_end))
    Session(stream, sound, captions, run.streams).run(texts, run.interrupts)


def _check_given(context: click.Context, source: str | None) -> None:
    """Raises UserError for an option that is for another kind of source."""
    fits = {
        "device": (source is None, "is for the microphone: leave it out, or the file"),
        "sample_rate": (source == STDIN, "is for sound from stdin: give - as well, or leave it out"),
        "speed": (source not in (None, STDIN), "is for a file that is replayed: give one, or leave it out"),
    }
    for name, (is_used, advice) in fits.items():
        if not is_used and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UserError(f"{flag_of(name)}: {advice}")


def _dated(folder: Path | None, formats: list[str]) -> str:
    """Returns a name for the files of a session: the time of its beginning, as no older file has it."""
    name = time.strftime("live-%Y-%m-%d_%H-%M-%S")
    taken = [] if folder is None else [path.name for path in folder.glob(f"{name}*")]
    count = 1
    while any(f"{name}{f'-{count}' if count > 1 else ''}.{format}" in taken for format in formats):
        count += 1
    return f"{name}-{count}" if count > 1 else name
