"""How the threads that MAX starts share the CPUs with the kernels."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from max.driver import Buffer

from max_whisper.artifact.engine import Executable


class LowPriorityThreads:
    """A graph that runs before others do, so that the thread of MAX's log starts with it.

    That thread wakes every 100 us, written to or not. There are as many busy threads as CPUs while kernels run, so that
    it stopped one of them each time, for an eighth of the time that the encoder and a token take.
    """

    def __init__(self, graph: Executable) -> None:
        self._graph = graph

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """What the graph gives for its inputs."""
        with background_threads():
            return self._graph.execute(*inputs)


@contextlib.contextmanager
def background_threads() -> Iterator[None]:
    """Threads that start in here do not interrupt others when they wake: they wait for a turn (SCHED_BATCH, sched(7)).

    A thread inherits the policy of the one that starts it. Where that is not the usual one, or may not be changed, or
    where there are no such policies, nothing happens.
    """
    if sys.platform != "linux" or not _waits_for_a_turn():
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _waits_for_a_turn() -> bool:
    """Gives this thread another policy than the usual one, if it has that; says whether it did."""
    try:
        usual = os.sched_getscheduler(0) == os.SCHED_OTHER
        if usual:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:  # some containers forbid it
        return False
    return usual
