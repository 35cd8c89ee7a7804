"""Protects a process from MAX's threads when it forks, and when it ends.

MAX keeps a pool of threads for the whole process. A forked child has the pool's memory but not its threads: work that
it gives to the pool waits forever, in a new session as well as in an old one. And a thread that returns from MAX after
Python has been torn down is ended by Python within C++ frames, which aborts the process.
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

LONGEST_WAIT = 60.0
"""The seconds that the end of the interpreter waits for windows and tokens that are being computed."""
GRACE_PERIOD = 0.05
"""The seconds that a thread has, after leaving MAX, to drop its arrays and to block at its next call."""


class InsideMax:
    """The context of every call that MAX's threads work for: `with inside_max:`. It can be nested.

    Entering it raises ForkError where these threads are another process's. At the end of the interpreter, it waits for
    the threads that are inside, and blocks those that would enter.
    """

    def __init__(self) -> None:
        self._process: int | None = None  # the process that MAX's threads are in; None before there are any
        self._depths: dict[int, int] = {}  # by thread, how often it has entered and not yet left
        self._ending_thread: int | None = None  # the thread that ends the interpreter
        # Plain references: a set of weak ones runs Python code when an owner goes, and Ctrl-C in there would be lost.
        self._owners: list[weakref.ref[Any]] = []
        self._owners_lock = threading.Lock()
        self._when_blocked: list[weakref.WeakMethod[Callable[[], None]]] = []

    def check(self) -> None:
        """Raises ForkError in a process that was forked after a model had been loaded."""
        if self._process is not None and self._process != os.getpid():
            raise ForkError(
                "a model cannot be used or loaded in a process that was forked from one that had loaded a model: load "
                "it in the child alone, or start the child by multiprocessing.get_context('spawn')"
            )

    def keep_in_forks(self, owner: object) -> None:
        """Keeps an object that owns a compiled graph or its outputs alive in forked children, forever.

        The destructors of these wait for MAX's threads, which a child does not have.
        """
        with self._owners_lock:
            self._owners = [known for known in self._owners if known() is not None]
            self._owners.append(weakref.ref(owner))

    def call_when_blocked(self, method: Callable[[], None]) -> None:
        """Calls a method, while its object lives, in each thread that is blocked: to release what others wait for."""
        self._when_blocked = [known for known in self._when_blocked if known() is not None]
        self._when_blocked.append(weakref.WeakMethod(method))

    def __enter__(self) -> None:
        self.check()
        if self._process is None:
            self._process = os.getpid()
            os.register_at_fork(after_in_child=self._begin_child(ctypes.CDLL(None)))
            atexit.register(self._finish)
        thread = threading.get_ident()
        depth = self._depths.get(thread, 0) + 1
        self._depths[thread] = depth  # before the check for the end; `_finish` works in the opposite order
        if self._ending_thread not in (None, thread) and depth == 1:
            del self._depths[thread]
            for method in self._when_blocked:
                if (release := method()) is not None:
                    release()
            threading.Event().wait()  # this is a daemon thread, which ends with the process

    def __exit__(self, *error: object) -> None:
        thread = threading.get_ident()
        if self._depths[thread] > 1:
            self._depths[thread] -= 1
        else:
            del self._depths[thread]

    def _begin_child(self, libc: ctypes.CDLL) -> Callable[[], None]:
        """Returns a function that lets a forked child live and end without MAX's destructors.

        Those that C++ calls at the end would join threads that do not exist, which aborts the process. They are skipped
        together with the other last steps of C libraries; Python's own (files, `atexit`) are done by then.
        """

        def begin() -> None:
            for reference in self._owners:
                if (owner := reference()) is not None:
                    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
            if hasattr(libc, "on_exit"):  # glibc, which MAX needs on Linux; the last function is called first
                libc.on_exit(libc._exit, None)  # `_exit` is called with the exit code

        return begin

    def _finish(self) -> None:
        """Waits for the threads that compute; by now, Python has ended all but daemon threads.

        A thread that has just left is given a moment, because the arrays that it drops are MAX's, too.
        """
        if self._process != os.getpid():
            return
        self._ending_thread = threading.get_ident()
        deadline = time.monotonic() + LONGEST_WAIT
        while self._depths.keys() - {self._ending_thread} and time.monotonic() < deadline:
            time.sleep(0.002)
        if threading.active_count() > 1:
            time.sleep(GRACE_PERIOD)


inside_max = InsideMax()
