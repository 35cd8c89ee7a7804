"""Fetches checkpoints from the Hugging Face Hub, by its own client and through its own cache.

What the client leaves open is settled here: which files are needed, that all of them are of one commit, that their
content is what the Hub says it is, when the cache may answer instead of the Hub, and one sentence for every failure.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from max_whisper.errors import HubError, MaxWhisperError, UserError, WeightsError
from max_whisper.files import open_regular
from max_whisper.messages import printable, quote
from max_whisper.progress import OnProgress, Progress, ignore_progress
from max_whisper.weights.hub_files import COMPANIONS, CONFIGURATION, INDEX, WEIGHTS, read_index, weights_missing
from max_whisper.weights.json_files import MAX_BYTES

if TYPE_CHECKING:
    from max_whisper.weights.guard import Download


OFFLINE_ADVICE = "run once with a connection, or give a local folder"
MAX_WEIGHTS = 50_000_000_000  # bytes; the client gives up on larger files, too
REVISION = re.compile(r"(?!.*(\.\.|//|@\{|/\.))[^-./\x00-\x20\x7f~^:?*\[\\][^\x00-\x20\x7f~^:?*\[\\]{0,249}")
"""What git allows as the name of a branch or tag, or nearly: it becomes a path in the cache."""
REPORTED_BYTES = 10_000_000  # the progress of smaller files is not reported


@dataclass(frozen=True)
class Snapshot:
    """The files of one commit of a repository, in the Hub client's cache."""

    repo: str
    commit: str  # 40 hexadecimal digits
    folder: Path


def fetch(
    repo: str,
    revision: str | None = None,
    *,
    weights: bool = True,
    offline: bool = False,
    progress: OnProgress = ignore_progress,
) -> Snapshot:
    """Returns the configuration, tokenizer and (with `weights`) safetensors files of a repository, all of one commit.

    revision: branch, tag or commit; None is "main".
    offline: use the cache only; HF_HUB_OFFLINE=1 in the environment does the same.
    progress: called when something happens, and once a second during downloads of large files.

    A commit whose files are all cached is served without any request. If the Hub cannot be reached and the revision
    is cached, the cache answers, and `progress` says so. Every file is checked against the hash that the Hub gave
    for it, cached ones too: a file that differs is removed from the cache and refused.

    Raises UserError (no such repository or revision), WeightsError (no safetensors in it) or HubError (all else).
    """
    # The client reads the environment once, when it is first imported; what the user has set there wins. Xet, the
    # Hub's chunked transfer, is native code beside the HTTP path with retries, errors and a cache of its own: off,
    # so that what runs is what is tested. HF_HUB_DISABLE_XET=0 turns it on again.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if revision is not None and not REVISION.fullmatch(revision):
        raise UserError(f"revision {quote(revision)}: expected the name of a branch, a tag or a commit")

    def say(said: Progress) -> None:
        progress(replace(said, message=printable(said.message)))

    request = _Request(repo, revision or "main", weights, say)
    try:
        return request.from_cache() if offline else request.from_hub()
    except MaxWhisperError:
        raise
    except Exception as e:  # the client's own errors, those of its HTTP library, OSError and ValueError
        raise _explain(e, request) from e


class _NotCached(Exception):
    """A file is not cached, and it is not known that the repository does not have it."""


@dataclass(frozen=True)
class _Request:
    """One call of `fetch`."""

    repo: str
    revision: str
    weights: bool
    progress: OnProgress

    def __str__(self) -> str:
        return f"Hub repository {quote(self.repo)} at revision {quote(self.revision)}"

    def from_hub(self) -> Snapshot:
        """Returns the revision as the Hub has it now; from the cache if it is a commit or the Hub is out of reach."""
        from huggingface_hub.errors import OfflineModeIsEnabled

        cached = self._cached_commit()
        if cached is not None and cached == self.revision:  # a commit never changes
            try:
                return self._collect(cached, self._refuse)
            except _NotCached:
                pass
        try:
            commit = self._resolve()
        except OfflineModeIsEnabled:
            return self.from_cache()
        except Exception as e:
            if cached is None or not _is_unreachable(e):
                raise
            self.progress(Progress(f"{_explain(e, self)}; using the cached commit {cached[:12]}"))
            return self.from_cache()
        return self._collect(commit, self._download)

    def from_cache(self) -> Snapshot:
        """Returns what the cache has of the revision, without asking the Hub."""
        commit = self._cached_commit()
        if commit is None:
            raise HubError(f"{self} is not in the cache at {_cache_folder()}: {OFFLINE_ADVICE}")
        return self._collect(commit, self._do_without)

    def _cached_commit(self) -> str | None:
        """Returns the commit of the revision when the Hub was last asked; None if its configuration is not cached."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repo, CONFIGURATION, revision=self.revision)
        return Path(path).parent.name if isinstance(path, str) else None

    def _resolve(self) -> str:
        """Asks the Hub which commit the revision is; the cache remembers it for runs without the Hub."""
        from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url
        from huggingface_hub.errors import RemoteEntryNotFoundError

        # The client's download falls back to the cache silently: first see whether the Hub answers.
        try:
            with self._guarded(self._expected(CONFIGURATION)):
                get_hf_file_metadata(hf_hub_url(self.repo, CONFIGURATION, revision=self.revision), token=get_token())
        except RemoteEntryNotFoundError:
            raise WeightsError(f"{self} has no {CONFIGURATION}: it is no checkpoint in transformers' layout") from None
        return Path(self._hub_download(CONFIGURATION, self.revision)).parent.name

    def _collect(self, commit: str, otherwise: Callable[[str, str], Path | None]) -> Snapshot:
        """Returns the needed files of a commit. `otherwise` gets those that are not cached, by name and commit."""
        from huggingface_hub import try_to_load_from_cache

        if not re.fullmatch("[0-9a-f]{40}", commit):
            raise HubError(f"{self}: the cache at {_cache_folder()} says it is {quote(commit)}, which is no commit")

        def find(name: str) -> Path | None:
            cached = try_to_load_from_cache(self.repo, name, revision=commit)
            if isinstance(cached, str):
                path: Path | None = Path(cached)
            else:  # None: unknown; any other value: it is known that the commit has no such file
                path = otherwise(name, commit) if cached is None else None
            if path is not None:
                _check_place(path, self)
                _check_content(path, self)
            return path

        configuration = find(CONFIGURATION)
        if configuration is None:
            raise WeightsError(f"{self} has no {CONFIGURATION}: it is no checkpoint in transformers' layout")
        for name in COMPANIONS:
            find(name)
        if self.weights and find(WEIGHTS) is None:
            index = find(INDEX)
            if index is None:
                raise weights_missing(str(self), self._names(commit))
            for shard in sorted(set(read_index(index).values())):
                if find(shard) is None:
                    raise WeightsError(f"{self}: {INDEX} names the file {shard}, which is not there")
        return Snapshot(self.repo, commit, configuration.parent)

    def _refuse(self, name: str, commit: str) -> Path | None:
        raise _NotCached(name)

    def _do_without(self, name: str, commit: str) -> Path | None:
        if name in COMPANIONS or name == WEIGHTS:  # without WEIGHTS, there may be an index
            return None
        what = "its weights are" if name == INDEX else f"its file {name} is"
        raise HubError(f"{self}: {what} not in the cache at {_cache_folder()}: {OFFLINE_ADVICE}")

    def _download(self, name: str, commit: str) -> Path | None:
        from huggingface_hub.errors import RemoteEntryNotFoundError

        try:
            return Path(self._hub_download(name, commit, commit))
        except RemoteEntryNotFoundError:
            return None  # the client's cache remembers it

    def _hub_download(self, name: str, revision: str, commit: str | None = None) -> str:
        from huggingface_hub import hf_hub_download

        expected = self._expected(name, commit)
        with self._guarded(expected):
            bar = _progress_bar(self.progress, name, expected.check_size)
            return hf_hub_download(self.repo, name, revision=revision, tqdm_class=bar)

    def _names(self, commit: str) -> list[str]:
        """Returns the names of the repository's files, for an error message; none if the Hub does not list them."""
        from huggingface_hub import HfApi

        from max_whisper.weights.guard import Download

        listing = Download(f"{self}: its list of files", limit=MAX_BYTES, room=MAX_BYTES, compressed=False)
        try:
            with self._guarded(listing):
                return HfApi().list_repo_files(self.repo, revision=commit)
        except Exception:
            return []

    def _expected(self, name: str, commit: str | None = None) -> Download:
        """Returns what the Hub may answer to a request for a file."""
        from max_whisper.weights.guard import Download

        heavy = name.endswith(".safetensors")
        return Download(
            f"{self}: {name}",
            limit=MAX_WEIGHTS if heavy else MAX_BYTES,
            room=_free_bytes(Path(_cache_folder())),
            size_required=heavy,
            commit=commit,
            progress=self.progress,
        )

    def _guarded(self, download: Download) -> AbstractContextManager[None]:
        from max_whisper.weights.guard import guarded

        return guarded(download)


def _free_bytes(folder: Path) -> int:
    """Returns the free bytes of the disk that a folder is on, or will be."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _check_place(path: Path, request: _Request) -> None:
    """Refuses a cached file that really lies somewhere else: it would be read, or removed, there."""
    really = Path(os.path.realpath(path))
    repository = path.parents[2]  # which may be a link to another disk, as may be the whole cache
    if not any(really.is_relative_to(os.path.realpath(home)) for home in (_cache_folder(), repository)):
        raise HubError(
            f"{request}: the cached {path.name} is a link that leaves the cache, to {really}: remove the folder "
            f"{repository}, and run the command again"
        )


def _check_content(path: Path, request: _Request) -> None:
    """Refuses, and removes, a cached file whose content is not what the Hub announced.

    The cache names a file's content by the Hub's etag: the SHA-256 of large files, the git hash of small ones. (Some
    mirrors give the plain SHA-1.) Other etags are no hashes, and where there are no symbolic links there is no name.
    """
    if not path.is_symlink():
        return
    etag = path.readlink().name
    if re.fullmatch("[0-9a-f]{64}", etag):
        hashes = [hashlib.sha256()]
    elif re.fullmatch("[0-9a-f]{40}", etag):
        hashes = [hashlib.sha1(b"blob %d\0" % path.stat().st_size), hashlib.sha1()]
    else:
        return
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            for digest in hashes:
                digest.update(block)
    if etag not in [digest.hexdigest() for digest in hashes]:
        path.resolve().unlink()
        path.unlink()
        raise HubError(
            f"{request}: the content of {path.name} is not what the Hub announced (hash {hashes[0].hexdigest()[:12]}, "
            f"not {etag[:12]}); it was removed from the cache: run the command again"
        )


def _progress_bar(progress: OnProgress, name: str, check_size: Callable[[int], None]) -> Any:
    """Returns a tqdm class for the client that draws nothing, and reports the progress of a large file once a second.

    check_size: called with the number of bytes before they are written; may raise.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # no thread

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


def _cache_folder() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _is_a(error: BaseException, name: str) -> bool:
    """Returns whether an error's class, or one that it derives from, has this name.

    For errors of the client's HTTP library, which is httpx or httpx2 by the client's version.
    """
    return any(base.__name__ == name for base in type(error).__mro__)


def _is_unreachable(error: BaseException) -> bool:
    """Returns whether an error means that the Hub is down or out of reach, rather than that it refused."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    return _is_a(error, "TransportError")


def _explain(error: BaseException, request: _Request) -> MaxWhisperError:
    """Returns one sentence for whatever the client raised: what failed, and what to do next."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # "not in the cache either": why the Hub did not answer says more
    if isinstance(error, errors.FileMetadataError):  # no etag, or no commit
        return HubError(
            f"{request}: what answers at {constants.ENDPOINT} is no Hub (it gives no etag or no commit): check "
            "HF_ENDPOINT and the proxy"
        )
    page = f"{constants.ENDPOINT}/{request.repo}"
    if isinstance(error, errors.GatedRepoError):
        return UserError(f"{request} is gated: accept its terms at {page}, then log in with `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(
            f"there is no Hub repository {quote(request.repo)}, or it is private: check the name at "
            f"{constants.ENDPOINT}, or log in with `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(
            f"Hub repository {quote(request.repo)} has no revision {quote(request.revision)}: give a branch, a tag or "
            f"a commit that {page} lists"
        )
    if isinstance(error, errors.HFValidationError):
        return UserError(f"{quote(request.repo)} is neither a path that exists nor the name of a Hub repository")
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return UserError(f"{request}: access denied (HTTP {status}): check HF_TOKEN, or `hf auth login` again")
        return HubError(f"{request}: the Hub at {constants.ENDPOINT} answered with HTTP {status}: try again later")
    if _is_a(error, "TimeoutException"):
        return HubError(f"{request}: the Hub at {constants.ENDPOINT} did not answer in time: try again later")
    if _is_a(error, "RemoteProtocolError") or _is_a(error, "ReadError"):
        return HubError(
            f"{request}: the connection was cut during a download, or was no HTTP ({error}): run the command again"
        )
    if _is_a(error, "TransportError"):
        return HubError(
            f"{request}: the Hub at {constants.ENDPOINT} cannot be reached ({error}): check the connection, "
            "or give a local folder"
        )
    if isinstance(error, OSError) and error.errno is not None:
        advice = "free some space, or set HF_HOME to another disk" if error.errno == errno.ENOSPC else "set HF_HOME"
        return HubError(f"{request}: the cache at {_cache_folder()} cannot be written ({error.strerror}): {advice}")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return HubError(f"{request}: the download failed ({reason}): run the command again")
