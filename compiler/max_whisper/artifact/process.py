"""What the threads of MAX mean for the end of a process, and for processes forked from it.

MAX keeps a pool of threads for the whole process. A forked child has the pool's memory but not its threads: whatever
is given to it waits for ever, a new session as well as an old one. And a thread that comes back from MAX after Python
has been torn down is ended by Python within C++ frames, which aborts the process.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from max_whisper.errors import ForkError

LONGEST_WAIT = 60.0  # seconds at the end of the interpreter, for the window or the token that is being computed
TO_THE_DOOR = 0.05  # seconds that a thread has to come to its next call, where it stays


class InsideMax:
    """`with inside_max:` stands around every call that MAX's threads work for. One for the process.

    It raises ForkError where these threads are those of another process. Once the interpreter ends, it waits for the
    threads that are inside, and lets none enter any more. May be nested.
    """

    def __init__(self) -> None:
        self._process: int | None = None  # where MAX's threads are; None before there are any
        self._inside: dict[int, int] = {}  # by thread, how often it has entered and not left
        self._ends: int | None = None  # the thread that ends the interpreter
        self._owners: weakref.WeakSet[Any] = weakref.WeakSet()

    def check(self) -> None:
        """Raises ForkError in a process that was forked after a model had been loaded."""
        if self._process is not None and self._process != os.getpid():
            raise ForkError(
                "a model cannot be used or loaded in a process that was forked from one that had loaded a model: load "
                "it in the child alone, or start the child by multiprocessing.get_context('spawn')"
            )

    def owns(self, owner: object) -> None:
        """Says that an object owns a compiled graph or what one gave, whose destructors wait for MAX's threads, too.

        A forked child keeps it for ever.
        """
        self._owners.add(owner)

    def __enter__(self) -> None:
        self.check()
        if self._process is None:
            self._process = os.getpid()
            os.register_at_fork(after_in_child=self._begin_child(ctypes.CDLL(None)))
            atexit.register(self._finish)
        thread = threading.get_ident()
        depth = self._inside.get(thread, 0) + 1
        self._inside[thread] = depth  # before it is asked whether the end has come, which asks in the other order
        if self._ends not in (None, thread) and depth == 1:
            del self._inside[thread]
            threading.Event().wait()  # a daemon thread: it ends with the process

    def __exit__(self, *error: object) -> None:
        thread = threading.get_ident()
        if self._inside[thread] > 1:
            self._inside[thread] -= 1
        else:
            del self._inside[thread]

    def _begin_child(self, libc: ctypes.CDLL) -> Callable[[], None]:
        """What lets a forked child live and end without the destructors of MAX.

        Those that C++ calls at the end would join threads that are not there, and abort the process for it. With them
        go other last steps of C libraries; Python's own (files, `atexit`) are done by then.
        """

        def begin() -> None:
            for owner in list(self._owners):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
            if hasattr(libc, "on_exit"):  # glibc, which MAX needs on Linux: what is given last is called first
                libc.on_exit(libc._exit, None)  # with the exit code

        return begin

    def _finish(self) -> None:
        """Python has ended all but daemon threads by now. Those that compute come to the door and stay there.

        A thread that has just left is given a moment: the arrays that it drops are MAX's, too.
        """
        if self._process != os.getpid():
            return
        self._ends = threading.get_ident()
        latest = time.monotonic() + LONGEST_WAIT
        while self._inside.keys() - {self._ends} and time.monotonic() < latest:
            time.sleep(0.002)
        if threading.active_count() > 1:
            time.sleep(TO_THE_DOOR)


inside_max = InsideMax()
