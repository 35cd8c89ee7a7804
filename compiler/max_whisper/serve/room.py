"""The room on the disk that requests share: what all of them keep together has a bound."""

from __future__ import annotations

import threading

from max_whisper.serve.errors import no_room


class Room:
    """A number of bytes that all requests share. Its methods may be called from any thread."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._left = size

    @property
    def left(self) -> int:
        """The bytes that nobody has."""
        return self._left

    def take(self, size: int) -> None:
        """Takes bytes, or gives them back where `size` is negative. Raises RequestError where fewer are left."""
        with self._lock:
            if size > self._left:
                raise no_room()
            self._left -= size


class Share:
    """What one request has of a room; its work does one thing at a time."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    def take(self, size: int) -> None:
        """Takes more bytes, or fewer where `size` is negative. Raises RequestError where there is no room for them."""
        self._room.take(size)
        self._size += size

    def give_back(self) -> None:
        """Gives all of it back."""
        self.take(-self._size)
