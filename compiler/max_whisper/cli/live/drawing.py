"""Keeps drawings on a terminal apart from each other, and from Ctrl-Z, at which the shell gets the terminal back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class DrawingLock:
    """A lock that a thread holds while it draws, as often as it likes. Ctrl-Z waits until nobody does."""

    def __init__(self) -> None:
        """Makes one that nobody holds."""
        self._lock = threading.RLock()
        self._depth = 0  # how often the thread that draws holds it
        self._is_stop_due = False

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        is_due = self._is_stop_due and not self._depth
        if is_due:
            self._is_stop_due = False
        self._lock.release()
        if is_due:
            os.kill(os.getpid(), signal.SIGTSTP)

    @contextmanager
    def stoppable(self, before: Callable[[], None], after: Callable[[], None]) -> Iterator[None]:
        """Lets Ctrl-Z stop the process between two drawings for the time of a block.

        Where the process ignores Ctrl-Z, or the block is not in the main thread, which alone gets signals, nothing is
        done.

        Args:
            before: Is called before the process stops, and takes away what is drawn. It must not wait for another lock:
                the main thread may hold that.
            after: Is called when the process goes on, with the cursor behind what the shell has written; as `before`.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if not self._lock.acquire(blocking=False):  # waiting could last forever, as for `before`
                self._is_stop_due = True
                return
            try:
                if self._depth:  # this thread is in the middle of a drawing
                    self._is_stop_due = True
                    return
                before()
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
                signal.raise_signal(signal.SIGTSTP)  # it returns when the process goes on
                signal.signal(signal.SIGTSTP, stop)
                after()
            finally:
                self._lock.release()

        signal.signal(signal.SIGTSTP, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
