"""Ctrl-C, SIGTERM and SIGHUP: what was done is kept, and who asks twice does not wait."""

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
SAME = 0.1
"""Seconds within which a second Ctrl-C is the first one: `timeout -s INT` and other programs that pass it on send it
to the process, and once more to its whole group."""
CURSOR = b"\x1b[?25h"
"""Shows a terminal's cursor, which a progress bar hides."""


class Interrupted(BaseException):
    """The process was asked to end; no KeyboardInterrupt, for which click has plans of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)

    @property
    def exit_code(self) -> int:
        """What shells give for a program that a signal ended: 130 for Ctrl-C."""
        return 128 + self.signal


class Interrupts:
    """While it is entered, the first signal raises `Interrupted` in the main thread, unless it is ignored (nohup).

    A second Ctrl-C ends the process at once, even while MAX computes and no Python runs in the main thread. A second
    SIGTERM or SIGHUP does not: whoever closes a terminal sends two, and nobody wants to lose text by that.
    """

    def __init__(self) -> None:
        self._came: int | None = None  # the first signal
        self._raised = False
        self._held = False
        self._before: dict[int, Any] = {}

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
        self._before = {number: signal.signal(number, self._handle) for number in heeded}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writing)  # which ends the watcher
        self._watcher.join()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._came is None:
            self._came = number
            self._raise_unless_held()

    def _raise_unless_held(self) -> None:
        if self._came is not None and not self._raised and not self._held:
            self._raised = True
            raise Interrupted(self._came)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What must not be cut in two, such as the writing of a text; an interrupt is raised after it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self._raise_unless_held()


def _end_at_the_second(reading: int) -> None:
    """Reads the numbers of signals as they come, as another thread than the one that may be busy with the first."""
    first: float | None = None
    while numbers := os.read(reading, 1):
        if numbers[0] == signal.SIGINT:
            now = time.monotonic()
            if first is None:
                first = now
            elif now - first > SAME:
                with contextlib.suppress(OSError):
                    if os.isatty(2):
                        os.write(2, CURSOR)
                os._exit(128 + signal.SIGINT)
    os.close(reading)
