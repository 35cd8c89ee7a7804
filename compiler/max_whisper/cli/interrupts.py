"""Ends a command at Ctrl-C, SIGTERM or SIGHUP so that finished work is kept, and at a second Ctrl-C at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
SAME_SECONDS = 0.1
"""A second Ctrl-C within this time counts as the first one: `timeout -s INT` and other programs that pass it on send it
to the process, and once more to its whole group."""
SHOW_CURSOR = b"\x1b[?25h"
"""Makes a terminal show its cursor, which a progress bar hides, and "live", too."""


class Interrupted(BaseException):
    """Raised when a signal asks the process to end. It is no KeyboardInterrupt, which click would handle itself."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)

    @property
    def exit_code(self) -> int:
        """The exit code that shells give for a program that a signal ended: 130 for Ctrl-C."""
        return 128 + self.signal


class Interrupts:
    """A context in which the first signal raises `Interrupted` in the main thread.

    A signal that the process ignores, as under nohup, stays ignored. A second Ctrl-C ends the process at once, even
    while MAX computes and no Python runs in the main thread. A second SIGTERM or SIGHUP does not: closing a terminal
    sends two, and no text should be lost by that.
    """

    def __init__(self) -> None:
        self._first: int | None = None  # the first signal that came
        self._raised = False
        self._held = False
        self._handlers_before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is not threading.main_thread():
            return self
        # A background job of a shell ignores Ctrl-C, and one under nohup the end of its terminal.
        heeded = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=_end_at_the_second, args=(reading,), daemon=True)
        self._watcher.start()
        self._handlers_before = {number: signal.signal(number, self._handle) for number in heeded}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writing)  # which ends the watcher
        self._watcher.join()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._first is None:
            self._first = number
            self._raise_unless_held()

    def _raise_unless_held(self) -> None:
        if self._first is not None and not self._raised and not self._held:
            self._raised = True
            raise Interrupted(self._first)

    @property
    def waiting(self) -> bool:
        """Whether a signal came that `held` delays: the block should end soon."""
        return self._first is not None and not self._raised

    def take(self) -> Interrupted | None:
        """Returns the interrupt that `held` delays, and does not raise it any more; None where there is none."""
        if self._first is None or self._raised:
            return None
        self._raised = True
        return Interrupted(self._first)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delays `Interrupted` to the end of a block that must not be cut in two, such as the writing of a text.

        A block may be within another; the delay lasts to the end of the outer one.
        """
        held_before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = held_before
        self._raise_unless_held()


def _end_at_the_second(reading: int) -> None:
    """Reads the numbers of signals as they come, in a thread of its own: the main thread may be busy with the first."""
    first: float | None = None
    while numbers := os.read(reading, 1):
        if numbers[0] == signal.SIGINT:
            now = time.monotonic()
            if first is None:
                first = now
            elif now - first > SAME_SECONDS:
                for terminal in filter(os.isatty, (1, 2)):
                    with contextlib.suppress(OSError):
                        os.write(terminal, SHOW_CURSOR)
                os._exit(128 + signal.SIGINT)
    os.close(reading)
