"""`transcribe_archive`, the batch for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Literal

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

from max_whisper.batch.batch import Batch, run_batch
from max_whisper.batch.options import AUTO, BatchOptions, Format, Rows
from max_whisper.batch.summary import BatchSummary, Status
from max_whisper.files import expanded
from max_whisper.options import OptionError, lists_options
from max_whisper.progress import OnProgress, Progress, check_progress, ignore_progress
from max_whisper.runtime.output.options import PLAIN, SubtitleOptions
from max_whisper.runtime.transcription.options import RECORDING_OPTIONS, TranscribeKeywords


@lists_options(*RECORDING_OPTIONS, leave_out=("prompt",))
def transcribe_archive(
    inputs: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    model: str | PathLike[str],
    out: str | PathLike[str],
    format: Format = "parquet",
    rows: Rows = "recording",
    subtitles: Sequence[str] = (),
    subtitle_options: SubtitleOptions = PLAIN,
    workers: int | Literal["auto"] = AUTO,
    threads: int | None = None,
    retry_failed: bool = False,
    watch: bool = False,
    progress: OnProgress = ignore_progress,
    failed: Callable[[str], None] = lambda error: None,
    stop: Callable[[], bool] = lambda: False,
    **options: Unpack[TranscribeKeywords],
) -> BatchSummary:
    """Transcribes an archive in several processes, and returns what came of it; the rows are in files.

    A run that is ended in any way is gone on with by another one: what has a row is skipped, and a long recording goes
    on behind its last window. A recording that cannot be transcribed has a row with an error. docs/batch.md says more.

    Args:
        inputs: Folders, patterns, lists (txt, tsv, csv, jsonl, parquet), recordings, and URLs of any of these.
        model: The folder of the artifact.
        out: The folder of the results, which is made if it is not there.
        format: "parquet" or "jsonl".
        rows: What a row is about: a "recording" or a "segment".
        subtitles: Formats of files that are written as well: "srt", "vtt", "txt", "tsv".
        subtitle_options: How srt and vtt are cut.
        workers: The number of processes; "auto" measures which is the fastest.
        threads: The number of CPU cores that they share, the least busy ones; None for all.
        retry_failed: Whether recordings that failed in earlier runs are tried again.
        watch: Whether to go on looking for recordings in the folders, until `stop` returns True.
        progress: Called several times a second with the seconds of sound that are done, and their total.
        failed: Called with a sentence for each recording that cannot be transcribed.
        stop: Returns whether to stop: the workers then end their windows, and all is kept.
        **options: As for `Model.transcribe`.

    Raises:
        UserError: Something cannot be done as asked; nothing was transcribed.
        MaxWhisperError: The run could not go on. What was done until then is kept.
    """
    check_progress(progress)
    given = [inputs] if isinstance(inputs, str | PathLike) else inputs
    if "prompt" in options:
        raise OptionError("{prompt}: belongs to one window; give the text before the recording as {initial_prompt}")
    batch = Batch(
        [os.fspath(one) for one in given],
        expanded(model),
        expanded(out),
        BatchOptions(format, rows, retry_failed, workers),
        subtitles,
        subtitle_options,
        threads,
        watch,
        {**options},
    )
    return run_batch(batch, _Caller(progress, failed), stop)


class _Caller:
    """Tells a program how its run goes."""

    def __init__(self, progress: OnProgress, failed: Callable[[str], None]) -> None:
        self._progress = progress
        self.failed = failed

    def examined(self, done: int, total: int) -> None:
        """Is told how many headers were read; a program is told nothing from other threads."""

    def progress(self, status: Status) -> None:
        """Tells how far the run is."""
        self._progress(status.progress)

    def say(self, message: str) -> None:
        """Tells anything else."""
        self._progress(Progress(message))
