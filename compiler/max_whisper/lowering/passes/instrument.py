"""Instruments a program: timestamps before and after every call of our kernels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import count

from max_whisper.lowering.ops import Input, Program

TIMES = "times"
"""The input that instrumented programs write times to, int64 [slots]: before and after each call, in nanoseconds."""


def instrument(program: Program, kernels: Collection[str]) -> Program:
    """Returns the program with the additional input TIMES, and a slot for each op whose kind is in `kernels`."""
    slots = count()
    ops = [replace(op, slot=next(slots)) if op.kind in kernels else op for op in program.ops]
    times = Input(("slots",), "int64", state=True, host=True)
    return replace(program, ops=ops, inputs={**program.inputs, TIMES: times})
