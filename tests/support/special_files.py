"""Things in a file system that are no files, which a path from a user or from a foreign file may lead to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    """A bound socket; the name is given relative to its folder, since those of sockets have at most 107 characters."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


def make_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def make_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def make_link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


SPECIAL: dict[str, Callable[[Path], None]] = {
    "it is a folder": make_folder,
    "it is a pipe": make_pipe,
    "it is a socket": make_socket,
    "it is a link to nothing, which is not there": make_link_to_nothing,
    "Too many levels of symbolic links": make_link_to_itself,
    "it is a device": make_link_to_device,
}
"""What a message says of each, and how it is made."""


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read every file: meanwhile, this process is somebody else."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)
