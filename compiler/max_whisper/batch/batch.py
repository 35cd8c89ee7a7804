"""Runs a batch from its inputs to its summary."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from max_whisper.artifact.cores import least_busy, usable_cores
from max_whisper.artifact.manifest import MANIFEST_FILE, VOCABULARY_FILE, WHISPER, WhisperManifest
from max_whisper.artifact.read import read_manifest
from max_whisper.batch.archive import Archive
from max_whisper.batch.folder import DOWNLOADS, locked
from max_whisper.batch.inputs.find import find_all
from max_whisper.batch.inputs.source import Source
from max_whisper.batch.keys import run_hash
from max_whisper.batch.options import AUTO, BatchOptions
from max_whisper.batch.order import durations
from max_whisper.batch.parts import check_format
from max_whisper.batch.pool import Pool
from max_whisper.batch.prepare import Preparer
from max_whisper.batch.run import Observer, Run
from max_whisper.batch.subtitles import Subtitles
from max_whisper.batch.summary import BatchSummary, Status
from max_whisper.batch.watching import Watch
from max_whisper.batch.workers import choose_workers, cores_of, known_workers
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.files import is_folder, is_regular
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.transcription.checking import checked_options
from max_whisper.runtime.transcription.options import TranscribeKeywords

PUBLISH_AFTER = 60.0
"""The seconds after which rows appear that wait for others, where a folder is watched and nothing is to be done."""


@dataclass(frozen=True)
class Batch:
    """What a run is to do.

    Attributes:
        inputs: Folders, patterns, lists, recordings and URLs.
        model: The folder of the artifact.
        out: The folder of the results.
        options: What is written, and by how many processes.
        subtitles: The formats of files for players.
        subtitle_options: How these are cut.
        cores: The number of cores that are used; None for all.
        watch: Whether to go on looking for recordings in the folders, until `stop` says otherwise.
        transcription: The options of `Model.transcribe`.
    """

    inputs: Sequence[str]
    model: Path
    out: Path
    options: BatchOptions
    subtitles: Sequence[str] = ()
    subtitle_options: SubtitleOptions = field(default_factory=SubtitleOptions)
    cores: int | None = None
    watch: bool = False
    transcription: Mapping[str, Any] = field(default_factory=dict)


def run_batch(batch: Batch, observer: Observer, stop: Callable[[], bool]) -> BatchSummary:
    """Transcribes the recordings of a batch that have no row yet, and returns what came of it.

    Args:
        batch: What is to be done.
        observer: Is told how it goes.
        stop: Returns whether to stop: the workers then end their windows, and all is kept.

    Raises:
        UserError: The batch cannot be done as asked; nothing was transcribed.
        MaxWhisperError: It could not go on. What was done until then is kept.
    """
    started = time.monotonic()
    check_format(batch.options.format)
    _check_model(batch.model, batch.transcription)
    subtitles = Subtitles(batch.out / "subtitles", batch.subtitles, batch.subtitle_options)
    cores = _chosen_cores(batch.cores)
    watch = Watch(batch.inputs, batch.out) if batch.watch else None
    sources = [] if watch else find_all(batch.inputs, batch.out)
    for clash in subtitles.take(sources):
        raise clash
    run = run_hash(batch.model, batch.transcription)
    with (
        locked(batch.out, batch.options) as state,
        contextlib.closing(Archive(batch.out, state, run, batch.options, subtitles, observer.failed)) as archive,
    ):
        work = _Work(batch, archive, cores, observer, stop)
        try:
            left = work.do(sources, watch, state / DOWNLOADS)
        except MaxWhisperError:
            with contextlib.suppress(MaxWhisperError):  # the first error is the one to tell
                archive.finish()
            raise
        archive.finish()
        status = work.status
        return BatchSummary(
            done=status.done,
            skipped=status.skipped,
            failed=status.failed + status.failed_before,
            unwritten=archive.unwritten,
            left=left,
            audio_seconds=status.done_seconds - status.resumed_seconds,
            seconds=time.monotonic() - started,
            workers=status.workers,
            out=batch.out,
            parts=archive.journal.published,
        )


class _Work:
    """A run with its workers."""

    def __init__(
        self, batch: Batch, archive: Archive, cores: Sequence[int], observer: Observer, stop: Callable[[], bool]
    ) -> None:
        self.status = Status()
        self._batch, self._archive, self._cores, self._observer, self._stop = batch, archive, cores, observer, stop

    def do(self, sources: Sequence[Source], watch: Watch | None, downloads: Path) -> int:
        """Transcribes recordings, and then those that a watch finds; returns how many are not finished."""
        found = self._taken(sources)
        if not found and watch is None:
            return 0
        most = len(found) if watch is None else len(self._cores)
        with contextlib.ExitStack() as opened:
            known = self._known_workers(most)
            pool = None if known is None else self._pool(known, opened)  # it loads the model while headers are read
            recordings = self._with_seconds(found)
            if pool is None:
                pool = self._pool(self._choose_workers(recordings, most), opened)
            if self._stop():
                return len(recordings)
            preparer = opened.enter_context(contextlib.closing(Preparer(downloads, self._stop)))
            run = Run(self._archive, pool, preparer, self._observer, self.status, self._batch.options.retry_failed)
            run.add(recordings)
            while not (self._stop() and run.stop()):
                if watch is not None and not self._stop():
                    run.add(self._with_seconds(self._taken(watch.look())))
                    self._publish(run)
                elif watch is None and run.is_idle:
                    break
                run.step()
            return run.left

    def _taken(self, sources: Sequence[Source]) -> list[tuple[Source, float]]:
        """Returns those of some recordings that are to be transcribed, each with its seconds, 0 if not known."""
        if not sources:
            return []
        left, skipped, failed = self._archive.take(sources, self._batch.options.retry_failed)
        self.status.skipped += skipped
        self.status.failed_before += failed
        return left

    def _with_seconds(self, left: Sequence[tuple[Source, float]]) -> list[tuple[Source, float]]:
        """Returns recordings with their seconds, by their headers where these are not known."""
        unknown = [source for source, seconds in left if not seconds]
        if not unknown:
            return [*left]
        found = durations(
            unknown, len(self._cores), lambda done: self._observer.examined(done, len(unknown)), self._stop
        )
        seconds_of = {source.place: seconds for source, seconds in zip(unknown, found, strict=True)}
        return [(source, seconds or seconds_of[source.place]) for source, seconds in left]

    def _pool(self, workers: int, opened: contextlib.ExitStack) -> Pool:
        """Starts the workers, which end with `opened`."""
        self.status.workers = workers
        cores = cores_of(workers, self._cores)
        return opened.enter_context(contextlib.closing(Pool(self._batch.model, self._batch.transcription, cores)))

    def _known_workers(self, most: int) -> int | None:
        """Returns the number of workers; None where it may have to be measured."""
        asked = self._batch.options.workers
        return known_workers(self._batch.model, self._cores, most) if asked == AUTO else int(asked)

    def _choose_workers(self, recordings: Sequence[tuple[Source, float]], most: int) -> int:
        longest = sorted(recordings, key=lambda recording: -recording[1])
        return choose_workers(
            self._batch.model,
            self._batch.transcription,
            self._cores,
            [Path(source.place) for source, _ in longest if not source.is_remote],
            sum(seconds for _, seconds in recordings),
            most,
            self._observer.say,
            self._stop,
        )

    def _publish(self, run: Run) -> None:
        """Writes the rows that wait for others, where nothing else is done."""
        journal = self._archive.journal
        if run.is_idle and journal.waiting and time.monotonic() - journal.changed > PUBLISH_AFTER:
            self._archive.finish()


def _check_model(folder: Path, options: Mapping[str, Any]) -> None:
    """Raises UserError where there is no model in a folder, or where it does not support the options.

    The voice detector is compiled, if it is needed for the first time: not each worker should do that.
    """
    if not is_folder(folder):
        raise UserError(f"there is no folder {folder}; make one with: max-whisper build --spec tiny.yaml")
    if not is_regular(folder / MANIFEST_FILE):
        raise UserError(
            f"{folder} is no artifact (it has no {MANIFEST_FILE}); make one with: max-whisper build --spec tiny.yaml"
        )
    manifest = read_manifest(folder)
    if not isinstance(manifest, WhisperManifest) or manifest.family != WHISPER:
        raise UserError(f"{folder} is an artifact of the family '{manifest.family}', which does not transcribe")
    _, parts, _ = checked_options(
        cast(TranscribeKeywords, options), manifest, Tokenizer(folder / VOCABULARY_FILE, manifest.tokens)
    )
    if parts.detector == "silero":
        from max_whisper.runtime.vad.cached import find_detector  # imports MAX, which this process does not need else

        find_detector(parts.vad_model)


def _chosen_cores(count: int | None) -> list[int]:
    """Returns the cores that the workers use: the least busy ones, if not all."""
    usable = usable_cores()
    if count is None:
        return sorted(usable)
    if count > len(usable):
        raise UserError(f"--threads {count}: this process may use {len(usable)} cores; give at most that")
    return sorted(least_busy(usable)[:count])
