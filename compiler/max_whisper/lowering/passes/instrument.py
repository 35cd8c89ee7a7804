"""Times the kernels of a program: timestamps before and after every call of one of ours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import count

from max_whisper.lowering.ops import Input, Program

TIMES = "times"
"""The input of instrumented programs for the times, int64 [slots]: nanoseconds before and after each call, in turns."""


def instrument(program: Program, kernels: Collection[str]) -> Program:
    """Returns the program with one more input, TIMES, and with a slot for each op whose kind is in `kernels`."""
    slots = count()
    ops = [replace(op, slot=next(slots)) if op.kind in kernels else op for op in program.ops]
    times = Input(("slots",), "int64", state=True, host=True)
    return replace(program, ops=ops, inputs={**program.inputs, TIMES: times})
