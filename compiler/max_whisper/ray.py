"""Transcribes the recordings of a Ray Data dataset: `Transcriber` is a class for `Dataset.map_batches`.

dataset.map_batches(
    Transcriber,
    fn_constructor_kwargs={"model": "artifacts/base"},
    compute=ray.data.ActorPoolStrategy(size=8),
    num_cpus=2,
    batch_size=16,
)

Nothing here imports Ray, so that an object of the class is also a plain function of tables.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

from max_whisper.artifact.cores import core_sharing, usable_cores
from max_whisper.batch.inputs.source import local_source
from max_whisper.batch.keys import content_hash, key_of, run_hash
from max_whisper.batch.rows import Row, failed_row, recording_row, schema, shown_path
from max_whisper.errors import ArtifactError, ForkError, MaxWhisperError, UserError
from max_whisper.messages import printable, quote
from max_whisper.runtime.audio.load import open_audio
from max_whisper.runtime.transcription.options import TranscribeKeywords

if TYPE_CHECKING:
    import pyarrow

ATTEMPTS = 2
"""How often a recording is begun that is changed meanwhile."""
Batch: TypeAlias = "pyarrow.Table | Mapping[str, Any] | Any"
"""A table of pyarrow, a data frame of pandas, or arrays by the names of columns: the formats of Ray Data."""


@dataclass(frozen=True)
class _Recording:
    """A recording to transcribe.

    Attributes:
        index: The index of its row.
        name: Its path as text.
        key: Its key.
        size: Its bytes.
        source: Where its sound is.
        stamp: What differs as soon as its file was changed; "" for bytes.
    """

    index: int
    name: str | None
    key: str
    size: int
    source: str | bytes
    stamp: str = ""

    @property
    def is_changed(self) -> bool:
        """Whether the file was changed after its key was made."""
        return isinstance(self.source, str) and local_source(self.source, "").stamp != self.stamp


class Transcriber:
    """Transcribes the recordings of a batch; each object, and so each actor of Ray, loads the artifact once.

    The rows that it returns have the columns of `max-whisper batch` and the same keys. A recording that cannot be
    transcribed is a row with an `error`.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        path_column: str = "path",
        bytes_column: str | None = None,
        done: Collection[str] = (),
        isolated: bool = False,
        **options: Unpack[TranscribeKeywords],
    ) -> None:
        """Loads an artifact. An actor of Ray binds itself to as many cores as its `num_cpus`, the least busy ones.

        Args:
            model: The folder of the artifact, which every machine has under this path.
            path_column: The column with the paths of the recordings, as text, or as bytes where they are no UTF-8. With
                `bytes_column` it only names them, and need not be there.
            bytes_column: The column with the recordings themselves, which the result does not have.
            done: The keys of recordings that are done, which are left out.
            isolated: Whether every recording is decoded in a child process, which takes 0.2 s: one that ends this
                process would end an actor again and again, because Ray starts it again.
            **options: Those of `Model.transcribe`.

        Raises:
            UserError: The value of an option is wrong, or pyarrow is not installed.
            ArtifactError: There is no artifact, it is damaged, or not for this machine or this version of MAX. In an
                actor of Ray, such errors are raised for its first batch.
        """
        try:
            self._schema = schema("recording")
        except ImportError as error:
            raise UserError(f"max_whisper.ray needs pyarrow: pip install 'max-whisper[ray]' ({error})") from error
        assigned = _assigned_cpus()
        _bind_to_cores(assigned)
        self._path_column, self._bytes_column = path_column, bytes_column
        self._done = frozenset(done)
        self._isolated = isolated
        self._track = options.get("audio_track")
        self._options: dict[str, Any] = {name: value for name, value in options.items() if name != "audio_track"}
        self._broken: MaxWhisperError | None = None
        try:
            from max_whisper.runtime.model import load  # imports MAX, which starts a thread for each core

            self._run = run_hash(model, options)
            self._model = load(model)
            self._model.batch([], **options)  # checks the options
        except MaxWhisperError as error:
            if assigned is None:
                raise
            self._broken = error  # for the first batch: of an actor that cannot start, Ray shows 70 lines

    def __call__(self, batch: Batch) -> pyarrow.Table:
        """Transcribes the recordings of a batch, as many at once as the artifact has rows, the longest first.

        Args:
            batch: A table of pyarrow, a data frame of pandas, or arrays by the names of columns.

        Returns:
            A row for each recording that is not done yet, in their order: the columns of the input but that of bytes,
            and those of the results (max_whisper/batch/rows.py).

        Raises:
            UserError: A column is missing, or has the name of a column of the results.
            ArtifactError: The artifact was changed in place.
        """
        if self._broken is not None:
            raise self._broken.with_traceback(None) from None
        columns = _columns(batch)
        paths, contents = self._recordings_of(columns)
        kept = {name: _as_arrow(name, column) for name, column in columns.items()}  # an error comes before the work
        rows: dict[int, Row] = {}
        recordings: list[_Recording] = []
        for index, (path, content) in enumerate(zip(paths, contents, strict=True)):
            found = self._found(index, path, content)
            if not isinstance(found, _Recording):
                rows[index] = found
            elif found.key not in self._done:
                recordings.append(found)
        recordings.sort(key=lambda recording: -recording.size)  # those of like length share the batches of the model
        with ThreadPoolExecutor(self._model.scheduler.batch) as threads:
            for recording, row in zip(recordings, threads.map(self._row, recordings), strict=True):
                rows[recording.index] = row
        return self._table(kept, rows)

    def _recordings_of(self, columns: dict[str, Any]) -> tuple[list[Any], list[Any]]:
        """Returns the path of each row, and its bytes, None where there are none; removes what the results replace."""
        needed = self._bytes_column or self._path_column
        if needed not in columns:
            raise UserError(
                f"there is no column {quote(needed)} with recordings, but {', '.join(columns) or 'none at all'}: name "
                "it as path_column, or as bytes_column if it has the recordings themselves"
            )
        nothing = [None] * len(columns[needed])
        contents = _values(columns.pop(self._bytes_column)) if self._bytes_column else nothing
        paths = _values(columns[self._path_column]) if self._path_column in columns else nothing
        if self._path_column == "path":
            columns.pop("path", None)
        for name in columns:
            if name in self._schema.names:
                raise UserError(
                    f"the input has a column {quote(name)}, and so have the results: rename it first, such as with "
                    "Dataset.rename_columns, or drop it"
                )
        return paths, contents

    def _found(self, index: int, path: Any, content: Any) -> _Recording | Row:
        """Returns the recording of a row, or the row of a recording that is not there, which has no key."""
        named = isinstance(path, str | bytes)
        name = shown_path(path) if named else None
        if self._bytes_column is not None:
            if isinstance(content, bytes):
                return _Recording(index, name, key_of(content_hash(content), self._run), len(content), content)
            reason = f"expected the bytes of a recording, got {type(content).__name__}"
        elif named:
            file = os.fsdecode(path)
            try:
                source = local_source(file, "")  # before its content is read
                key = key_of(content_hash(file), self._run)
                return _Recording(index, name, key, source.size, file, source.stamp)
            except (OSError, ValueError) as error:
                reason = f"{name} cannot be read: {getattr(error, 'strerror', None) or error}"
        else:
            reason = f"expected the path of a recording, got {type(path).__name__}"
        return {**failed_row("", "", printable(reason)), "path": name, "key": None}

    def _row(self, recording: _Recording) -> Row:
        """Returns the row of a recording, with its text or with an error. One whose file is changed is tried again.

        Raises ArtifactError or ForkError where no recording can be transcribed.
        """
        for _ in range(ATTEMPTS):
            row = self._transcribed(recording)
            if not recording.is_changed:
                return row
            found = self._found(recording.index, recording.source, None)
            if not isinstance(found, _Recording):
                return {**found, "path": recording.name}
            recording = found
        error = f"{recording.name} was changed while it was transcribed, {ATTEMPTS} times: wait until it is done"
        return {**failed_row("", "", error), "path": recording.name, "key": None}

    def _transcribed(self, recording: _Recording) -> Row:
        name = recording.name or "the recording"
        source = io.BytesIO(recording.source) if isinstance(recording.source, bytes) else Path(recording.source)
        try:
            with closing(open_audio(source, track=self._track, isolated=self._isolated, name=name)) as sound:
                result = self._model.transcribe(sound, **self._options)
                row = recording_row(name, recording.key, result, sound.warnings)
        except (ArtifactError, ForkError):
            raise
        except MaxWhisperError as error:
            row = failed_row(name, recording.key, str(error))
        return {**row, "path": recording.name}

    def _table(self, columns: Mapping[str, Any], rows: Mapping[int, Row]) -> pyarrow.Table:
        """Returns the rows of results in the order of their indices, and before them the columns of the input."""
        import pyarrow as pa

        indices = sorted(rows)
        table = pa.Table.from_pylist([rows[index] for index in indices], schema=self._schema)
        for position, (name, column) in enumerate(columns.items()):
            table = table.add_column(position, name, column.take(pa.array(indices, pa.int64())))
        return table


def _columns(batch: Batch) -> dict[str, Any]:
    """Returns the columns of a batch by their names."""
    names = getattr(batch, "column_names", None) or (batch if hasattr(batch, "keys") else None)
    if names is None:
        raise UserError(f"expected a pyarrow.Table, a pandas.DataFrame or a dict of arrays, got {type(batch).__name__}")
    return {str(name): batch[name] for name in names}


def _as_arrow(name: str, column: Any) -> Any:
    """Returns a column as pyarrow has it. Raises UserError where it cannot hold the values."""
    import pyarrow as pa

    if _is_arrow(column):
        return column
    try:
        return pa.array(column.tolist() if getattr(column, "ndim", 1) > 1 else column)  # of arrays: nested lists
    except pa.ArrowException as error:
        raise UserError(f"the column {quote(name)} has values of several types ({error}): drop it") from error


def _is_arrow(column: Any) -> bool:
    return hasattr(column, "to_pylist")


def _values(column: Any) -> list[Any]:
    """Returns the values of a column of any format."""
    return column.to_pylist() if _is_arrow(column) else [*column]


def _assigned_cpus() -> float | None:
    """Returns the CPUs that Ray has assigned to this actor; None outside of an actor."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return None
    return float(ray.get_runtime_context().get_assigned_resources().get("CPU", 0))


def _bind_to_cores(count: float | None) -> None:
    """Limits this process to so many of its cores, the least busy ones, for as long as it lives; None leaves it all.

    Processes of max-whisper see each other's cores. MAX starts a thread for each core when it is imported.
    """
    usable = usable_cores()
    if count is not None and count < len(usable):
        cores = core_sharing.reserve(max(1, int(count)))
        for thread in (0, os.getpid()):  # this one and the main one, which differ where an actor has several
            os.sched_setaffinity(thread, cores)
        core_sharing.__enter__()
