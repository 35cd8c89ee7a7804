"""Checks the files in the Hub client's cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from huggingface_hub import constants

from max_whisper.errors import HubError
from max_whisper.files import open_regular
from max_whisper.weights.hub_files import RepoRevision


def cache_folder() -> Path:
    """Returns the folder of the cache."""
    return Path(constants.HF_HUB_CACHE)


def free_bytes(folder: Path) -> int:
    """Returns the free bytes of the disk that holds a folder, or will hold it."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_location(path: Path, source: RepoRevision) -> None:
    """Raises HubError for a cached file that is a link to a file outside the cache, which would be read or removed."""
    target = Path(os.path.realpath(path))
    repository = path.parents[2]  # this, and the whole cache, may be links to another disk
    if not any(target.is_relative_to(os.path.realpath(home)) for home in (cache_folder(), repository)):
        raise HubError(
            f"{source}: the cached {path.name} is a link that leaves the cache, to {target}: remove the folder "
            f"{repository}, and run the command again"
        )


def check_content(path: Path, source: RepoRevision) -> None:
    """Removes a cached file whose content is not the one that the Hub announced, and raises HubError.

    The cache names the content of a file by the Hub's etag: the SHA-256 of a large file, the git hash of a small one,
    or the plain SHA-1 on some mirrors. Other etags are no hashes. Where there are no symbolic links, the name of the
    content is not known.
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
            f"{source}: the content of {path.name} is not what the Hub announced (hash {hashes[0].hexdigest()[:12]}, "
            f"not {etag[:12]}); it was removed from the cache: run the command again"
        )
