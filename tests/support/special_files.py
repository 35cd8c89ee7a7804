"""Makes things in a file system that are not files, to which a path from a user or a foreign file may lead."""

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
    """Makes a bound socket, by a name relative to its folder: names of sockets have at most 107 characters."""
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
"""What a message says about each of them, and the function that makes it."""


@contextmanager
def as_nobody() -> Iterator[None]:
    """Gives up the rights of root inside the `with`, because root may read every file."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)
