"""The option `--threads`: chooses the CPU cores that a command uses."""

from __future__ import annotations

import os

import click

from max_whisper.errors import UserError


def use_threads(count: int | None, *, waits: bool = False) -> None:
    """Limits this process to its least busy CPU cores, and keeps other processes of max-whisper from them.

    MAX starts as many threads as the process may use cores, so this is called before MAX is imported.

    Args:
        count: The number of cores, None for all.
        waits: Whether the command may wait for long, as for standard input. It then counts as at work only while it
            computes; otherwise it does from now to its end.
    """
    from max_whisper.artifact.cores import core_sharing, usable_cores

    context = click.get_current_context()
    if count is not None:
        if not hasattr(os, "sched_setaffinity"):
            raise UserError("--threads needs Linux, where a process can be bound to cores: leave the option out")
        usable = usable_cores()
        if count > len(usable):
            raise UserError(f"--threads {count}: this process may use {len(usable)} cores; give at most that")
        if count < len(usable):

            @context.call_on_close
            def give_back() -> None:  # a program that calls `main` goes on after it
                core_sharing.reset()
                os.sched_setaffinity(0, usable)

            os.sched_setaffinity(0, core_sharing.reserve(count))
            waits = False
    if not waits:
        context.with_resource(core_sharing)
