"""The results of an archive: which recordings have a row, and what is kept of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from max_whisper.batch.checkpoints import Checkpoints
from max_whisper.batch.copies import COPIES, Copies
from max_whisper.batch.index import Index
from max_whisper.batch.inputs.source import Source
from max_whisper.batch.journal import Done, Journal
from max_whisper.batch.keys import key_of
from max_whisper.batch.options import BatchOptions
from max_whisper.batch.prepare import Job, place_bytes, unreadable_content
from max_whisper.batch.rows import failed_row, shown_path
from max_whisper.batch.subtitles import Subtitles
from max_whisper.errors import MaxWhisperError


class Archive:
    """The results in a folder, for one artifact and its options.

    Attributes:
        journal: The rows.
        checkpoints: The windows of recordings that are not finished.
        unwritten: The number of recordings whose files with subtitles could not be written.
    """

    def __init__(
        self,
        out: Path,
        state: Path,
        run: str,
        options: BatchOptions,
        subtitles: Subtitles,
        failed: Callable[[str], None],
    ) -> None:
        """Reads what earlier runs have left.

        Args:
            out: The folder of the results.
            state: The folder of what runs remember.
            run: The hash of the artifact and the options.
            options: What is written.
            subtitles: The files for players.
            failed: Called with a sentence for each recording whose files could not be written.

        Raises:
            MaxWhisperError: Something cannot be read or written.
        """
        self.journal = Journal(out, state, options.format, options.rows)
        self.checkpoints = Checkpoints(state)
        for key in self.checkpoints.keys():  # noqa: SIM118 (it is no dictionary)
            if key in self.journal.done:  # the run was killed before it was removed
                self.checkpoints.remove(key)
        self.unwritten = 0
        self._index = Index(state / "index")
        self._copies = Copies(out / COPIES)
        self._run = run
        self._subtitles, self._failed = subtitles, failed
        self._retried: set[str] = set()
        self._outdated: set[str] = set()  # the keys of rows with errors of what the recordings were before
        self._failed_at = {done.path: key for key, done in self.journal.done.items() if done.failed}

    def key(self, content: str) -> str:
        """Returns the key of a recording, by the hash of its content."""
        return key_of(content, self._run)

    def take(self, sources: Sequence[Source], retry_failed: bool) -> tuple[list[tuple[Source, float]], int, int]:
        """Returns the recordings that are to be transcribed, and counts those that are done, and those that failed.

        Only those that changed are read. Files with subtitles that are missing are written from the rows.

        Args:
            sources: The recordings.
            retry_failed: Whether those that failed are transcribed again; their rows are removed.

        Returns:
            The recordings, each with its seconds (0 where these are not known), and the two counts.

        Raises:
            MaxWhisperError: A part cannot be read or written.
        """
        for clash in self._subtitles.take(sources):
            self._leave_unwritten(clash)
        known = {source.place: self._index.find(place_bytes(source), source.stamp) for source in sources}
        keys = {place: self.key(one.content) for place, one in known.items() if one is not None}
        if retry_failed:  # all rows at once: a part is written again for each time that this is done
            last = (self._index.last(place_bytes(source)) for source in sources)
            contents = {one.content for one in last if one is not None}
            self.retry(map(self.key, contents.union(map(unreadable_content, sources))))
        left: list[tuple[Source, float]] = []
        missing: dict[str, list[Source]] = defaultdict(list)
        skipped = failed = 0
        for source in sources:
            one, done = known[source.place], self.journal.done.get(keys.get(source.place, ""))
            if done is None:
                left.append((source, 0.0 if one is None else one.seconds))
                continue
            self._note_repaired(source, keys[source.place])
            self.note_copy(source, keys[source.place])
            failed += done.failed
            skipped += not done.failed
            if not done.failed and self._subtitles.missing(source):
                missing[keys[source.place]].append(source)
        self._write_missing(missing)
        return left, skipped, failed

    def retry(self, keys: Iterable[str]) -> None:
        """Removes the rows of recordings that failed, each once in a run."""
        failed = {key for key in keys if (done := self.journal.done.get(key)) is not None and done.failed}
        failed -= self._retried
        self._retried |= failed
        if failed:
            self.journal.forget(failed)

    def note_content(self, job: Job) -> None:
        """Remembers the content of a recording that was read."""
        self._index.add(job.known)
        self._note_repaired(job.source, job.key)

    def note_copy(self, source: Source, key: str) -> None:
        """Takes note of a recording whose row is there; under another path, it is a copy."""
        path = shown_path(source.place)
        if self.journal.done[key].path != path:
            self._copies.add(path, key)

    def add(self, job: Job, row: bytes, followers: Sequence[Job]) -> None:
        """Adds the row of a recording, and writes its files and those of its copies."""
        self.journal.add(row)
        self.checkpoints.remove(job.key)
        self._note_copies(job, followers)
        self._write_files([job.source, *(follower.source for follower in followers)], row)

    def add_failed(self, job: Job, error: str, followers: Sequence[Job]) -> None:
        """Adds a row with an error, unless the recording has one."""
        if job.key not in self.journal.done:
            self.journal.add(msgspec.json.encode(failed_row(job.name, job.key, error)))
            self.checkpoints.remove(job.key)
            self._failed_at[job.name] = job.key
        self._note_copies(job, followers)

    def write_files_again(self, job: Job) -> None:
        """Writes the files of a recording whose row was there already, if they are missing."""
        if self._subtitles.missing(job.source) and not self.journal.done[job.key].failed:
            self._write_missing({job.key: [job.source]})

    def finish(self) -> None:
        """Writes the rows that are in no part yet, and removes those that are outdated."""
        if outdated := self._outdated & self.journal.done.keys():
            self.journal.forget(outdated)
        self._outdated = set()
        self.journal.publish()

    def close(self) -> None:
        """Closes all files. Nothing that was added is lost."""
        self.journal.close()
        self.checkpoints.close()
        self._index.close()

    def find(self, key: str) -> Done | None:
        """Returns the row of a key, if it is there."""
        return self.journal.done.get(key)

    def _note_repaired(self, source: Source, key: str) -> None:
        """Takes note of the key of a recording: an error of what it was before is removed at the end of the run."""
        failed = self._failed_at.get(shown_path(source.place))
        if failed is not None and failed != key and failed in self.journal.done:
            self._outdated.add(failed)

    def _note_copies(self, job: Job, followers: Sequence[Job]) -> None:
        """Takes note of the recordings that have waited for the row of another one; it is there now."""
        for follower in followers:
            self.note_copy(follower.source, job.key)

    def _write_missing(self, missing: dict[str, list[Source]]) -> None:
        for row in self.journal.rows(missing):
            for source in missing[row["key"]]:
                self._write_file(source, row)

    def _write_files(self, sources: Iterable[Source], row: bytes) -> None:
        wanted = [source for source in sources if self._subtitles.is_wanted(source)]
        if wanted:
            decoded = msgspec.json.decode(row)
            for source in wanted:
                self._write_file(source, decoded)

    def _write_file(self, source: Source, row: dict[str, object]) -> None:
        try:
            self._subtitles.write(source, row)
        except MaxWhisperError as error:
            self._leave_unwritten(error)

    def _leave_unwritten(self, error: MaxWhisperError) -> None:
        self.unwritten += 1
        self._failed(str(error))
