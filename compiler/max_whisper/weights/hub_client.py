"""Fetches the files of a Hub revision with the Hub's own client, from the Hub or from its cache."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    HfApi,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import OfflineModeIsEnabled, RemoteEntryNotFoundError
from huggingface_hub.utils.tqdm import tqdm

from max_whisper.errors import HubError, WeightsError
from max_whisper.messages import quote
from max_whisper.progress import OnProgress, Progress
from max_whisper.weights.hub_cache import cache_folder, check_content, check_location, free_bytes
from max_whisper.weights.hub_errors import explain, is_unreachable
from max_whisper.weights.hub_files import (
    COMPANIONS,
    CONFIGURATION,
    CT2_VOCABULARIES,
    CT2_WEIGHTS,
    INDEX,
    WEIGHTS,
    FileFinder,
    RepoRevision,
    Snapshot,
    not_a_checkpoint,
    read_index,
    weights_missing,
)
from max_whisper.weights.hub_guard import Download, guarded
from max_whisper.weights.json_files import MAX_BYTES

OFFLINE_ADVICE = "run once with a connection, or give a local folder"
MAX_WEIGHTS = 50_000_000_000
"""The most bytes of a file of weights; the client gives up on larger files, too."""
REPORTED_BYTES = 10_000_000
"""The size from which the download of a file is reported."""


class _NotCached(Exception):
    """A file is not in the cache, and it is not known whether the repository has it."""


@dataclass(frozen=True)
class HubClient:
    """Fetches the files of a revision.

    Attributes:
        source: The revision.
        file: The name of the file of weights that is needed, if it is only one.
        weights: Whether files of weights are needed at all.
        progress: Called with each report of progress.
    """

    source: RepoRevision
    file: str | None
    weights: bool
    progress: OnProgress

    @property
    def _first(self) -> str:
        """The file that is asked for first, which the revision must have."""
        return self.file or CONFIGURATION

    def from_hub(self) -> Snapshot:
        """Returns the revision as the Hub has it now, or from the cache if it is a commit or the Hub is offline."""
        cached = self._cached_commit()
        if cached is not None and cached == self.source.revision:  # a commit never changes
            try:
                return self._collect(cached, self._refuse)
            except _NotCached:
                pass
        try:
            commit = self._resolve()
        except OfflineModeIsEnabled:
            return self.from_cache()
        except Exception as e:
            if cached is None or not is_unreachable(e):
                raise
            self.progress(Progress(f"{explain(e, self.source)}; using the cached commit {cached[:12]}"))
            return self.from_cache()
        return self._collect(commit, self._download)

    def from_cache(self) -> Snapshot:
        """Returns the revision from the cache, without asking the Hub."""
        commit = self._cached_commit()
        if commit is None:
            raise HubError(f"{self.source} is not in the cache at {cache_folder()}: {OFFLINE_ADVICE}")
        return self._collect(commit, self._do_without)

    def _cached_commit(self) -> str | None:
        """Returns the commit that the revision had when the Hub was last asked; None if it is not cached."""
        path = try_to_load_from_cache(self.source.repo, self._first, revision=self.source.revision)
        return Path(path).parent.name if isinstance(path, str) else None

    def _resolve(self) -> str:
        """Returns the revision's commit from the Hub; the cache remembers it for runs without the Hub."""
        # The client's download falls back to the cache silently, so this first tries whether the Hub answers.
        try:
            with guarded(self._limits(self._first)):
                get_hf_file_metadata(
                    hf_hub_url(self.source.repo, self._first, revision=self.source.revision), token=get_token()
                )
        except RemoteEntryNotFoundError:
            raise self._not_a_checkpoint(self.source.revision) from None
        return Path(self._hub_download(self._first, self.source.revision)).parent.name

    def _not_a_checkpoint(self, revision: str) -> WeightsError:
        """Returns the error for a repository without the first file."""
        return not_a_checkpoint(self.source, self._first, self._names(revision))

    def _collect(self, commit: str, otherwise: Callable[[str, str], Path | None]) -> Snapshot:
        """Returns the files of a commit that are needed.

        `otherwise` is called with the name and the commit of each file that is not cached, and returns its path.
        """
        if not re.fullmatch("[0-9a-f]{40}", commit):
            raise HubError(
                f"{self.source}: the cache at {cache_folder()} says it is {quote(commit)}, which is no commit"
            )

        def find(name: str) -> Path | None:
            cached = try_to_load_from_cache(self.source.repo, name, revision=commit)
            if isinstance(cached, str):
                path: Path | None = Path(cached)
            else:  # None: not known; any other value: the commit has no such file
                path = otherwise(name, commit) if cached is None else None
            if path is not None:
                check_location(path, self.source)
                check_content(path, self.source)
            return path

        first = find(self._first)
        if first is None:
            raise self._not_a_checkpoint(commit)
        if self.file is None or find(CONFIGURATION) is not None:  # a file without one has all that there is
            for name in COMPANIONS:
                find(name)
            if self.file == CT2_WEIGHTS:
                any(find(name) for name in CT2_VOCABULARIES)
        if self.file is None and self.weights:
            self._find_weights(find, commit)
        return Snapshot(self.source.repo, commit, first.parent)

    def _find_weights(self, find: FileFinder, commit: str) -> None:
        """Finds the files of weights: safetensors, in one file or several, or else those of CTranslate2.

        The file of CTranslate2 has a name that pickles have, too; it is asked for only beside CTranslate2's vocabulary.
        """
        if find(WEIGHTS) is not None:
            return
        if (index := find(INDEX)) is not None:
            for shard in sorted(set(read_index(index).values())):
                if find(shard) is None:
                    raise WeightsError(f"{self.source}: {INDEX} names the file {shard}, which is not there")
        elif not any(find(name) for name in CT2_VOCABULARIES) or find(CT2_WEIGHTS) is None:
            raise weights_missing(str(self.source), self._names(commit))

    def _refuse(self, name: str, commit: str) -> Path | None:
        """Raises _NotCached, so that the caller asks the Hub."""
        raise _NotCached(name)

    def _do_without(self, name: str, commit: str) -> Path | None:
        """Returns None for a file that is not necessary; raises HubError for any other."""
        optional = (*COMPANIONS, WEIGHTS, INDEX, CT2_VOCABULARIES[0])
        if name in optional or (self.file and name in (CONFIGURATION, *CT2_VOCABULARIES)):
            return None  # without them, there may be weights in another form
        missing = "its weights are" if name in (CT2_VOCABULARIES[1], CT2_WEIGHTS) else f"its file {name} is"
        raise HubError(f"{self.source}: {missing} not in the cache at {cache_folder()}: {OFFLINE_ADVICE}")

    def _download(self, name: str, commit: str) -> Path | None:
        """Downloads a file; returns None if the repository does not have it."""
        try:
            return Path(self._hub_download(name, commit, commit))
        except RemoteEntryNotFoundError:
            return None  # the client's cache remembers that there is no such file

    def _hub_download(self, name: str, revision: str, commit: str | None = None) -> str:
        limits = self._limits(name, commit)
        with guarded(limits):
            bar = progress_bar(self.progress, name, limits.check_size)
            return hf_hub_download(self.source.repo, name, revision=revision, tqdm_class=bar)

    def _names(self, commit: str) -> list[str]:
        """Returns the names of the repository's files for an error message; none if the Hub does not list them."""
        listing = Download(f"{self.source}: its list of files", limit=MAX_BYTES, room=MAX_BYTES, compressed=False)
        try:
            with guarded(listing):
                return HfApi().list_repo_files(self.source.repo, revision=commit)
        except Exception:
            return []

    def _limits(self, name: str, commit: str | None = None) -> Download:
        """Returns the limits on the download of a file."""
        large = name.endswith((".safetensors", ".bin"))
        return Download(
            f"{self.source}: {name}",
            limit=MAX_WEIGHTS if large else MAX_BYTES,
            room=free_bytes(cache_folder()),
            size_required=large,
            commit=commit,
            progress=self.progress,
        )


def progress_bar(progress: OnProgress, name: str, check_size: Callable[[int], None]) -> Any:
    """Returns a tqdm class for the client, which draws nothing, and reports the progress of a large file once a second.

    `check_size` is called with the number of bytes before they are written, and may raise.
    """

    class Bar(tqdm):
        monitor_interval = 0  # starts no thread

        def __init__(self, *args: Any, **options: Any) -> None:
            options |= {"file": io.StringIO(), "mininterval": 1.0, "disable": False}
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            check_size(int(self.n + (n or 0)))
            shown: bool | None = super().update(n)
            return shown

        def display(self, *args: Any, **options: Any) -> None:
            if self.total and self.total >= REPORTED_BYTES:
                message = f"downloading {name}: {self.n / 1e6:.0f} of {self.total / 1e6:.0f} MB"
                progress(Progress(message, self.n, self.total, "bytes"))

    return Bar
