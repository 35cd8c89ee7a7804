"""What is known of a recording before it is opened, and where manifests and folders have it from."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

import msgspec

SUFFIXES = frozenset(
    ".3g2 .3gp .aac .ac3 .aif .aifc .aiff .amr .asf .au .avi .caf .dts .eac3 .flac .flv .gsm .m2ts .m4a .m4b .m4v .mka "
    ".mkv .mov .mp2 .mp3 .mp4 .mpeg .mpg .mts .oga .ogg .ogv .opus .spx .ts .vob .w64 .wav .webm .wma .wmv .wv".split()
)
"""The suffixes of the files that are taken of a folder: what the audio reader reads (runtime/audio/formats.py)."""


class Source(msgspec.Struct, frozen=True):
    """A recording that was found.

    Attributes:
        place: Its path, or its URL.
        relative: Its path below the folder that was given, with slashes, or else its name.
        size: Its bytes; 0 where they are not known.
        stamp: Its size and when it was changed, which differ as soon as its content does; "" where that is not known.
    """

    place: str
    relative: str
    size: int = 0
    stamp: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether it lies behind a URL."""
        return is_url(self.place)


def is_url(place: str) -> bool:
    """Returns whether a text is a URL and not a path."""
    return "://" in place


def is_recording(name: str) -> bool:
    """Returns whether a file of a folder is taken for a recording, by its name."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def local_source(path: str, relative: str) -> Source:
    """Returns the source of a file here, whether it is there or not: opening it says what is wrong with it.

    Its place is absolute, so that another run knows it again, from wherever it is started.
    """
    path = os.path.abspath(path)  # noqa: PTH100 (Path would follow links)
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return Source(path, relative)
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return Source(path, relative, size, f"{status.st_size} {status.st_mtime_ns}")


def inner(path: str) -> str:
    """Returns a path with slashes that stays in the folder that it is put into, and names a file in it.

    It is the name alone where the path may lead out of the folder, and "recording" where there is none.
    """
    pure = PurePosixPath(path)
    kept = PurePosixPath(pure.name) if pure.is_absolute() or ".." in pure.parts else pure
    return "recording" if kept.name in ("", "..") else str(kept)
