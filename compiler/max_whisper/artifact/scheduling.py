"""Gives the threads that MAX starts in the background a scheduling policy that does not disturb the kernels."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from max.driver import Buffer

from max_whisper.artifact.engine import Executable


class LowPriorityThreadsGraph:
    """A graph whose executions start MAX's background threads under SCHED_BATCH; for the graphs that run first.

    The thread of MAX's log starts with the first execution, and wakes every 100 us, whether there is something to write
    or not. While kernels run there are as many busy threads as CPUs, so each time it interrupted one of them, which
    took an eighth of the time of the encoder and of a token.
    """

    def __init__(self, graph: Executable) -> None:
        """Wraps a graph."""
        self._graph = graph

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """Runs the graph, and returns its outputs."""
        with low_priority_threads():
            return self._graph.execute(*inputs)


@contextlib.contextmanager
def low_priority_threads() -> Iterator[None]:
    """Lets threads that start inside run under SCHED_BATCH, so that they interrupt no others when they wake (sched(7)).

    A thread inherits the policy of the thread that starts it. If that has a special policy already, or its policy may
    not be changed, or the system has no such policies, this does nothing.
    """
    if sys.platform != "linux" or not _enter_batch_policy():
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _enter_batch_policy() -> bool:
    """Gives this thread the policy SCHED_BATCH if it has the normal one, and returns whether it did."""
    try:
        normal = os.sched_getscheduler(0) == os.SCHED_OTHER
        if normal:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:  # some containers forbid it
        return False
    return normal
