"""Makes the output of every layer an output of the program, for `verify`."""

from __future__ import annotations

from dataclasses import replace

from max_whisper.lowering.ops import Program


def expose(program: Program) -> Program:
    """Returns the program with one more output for each layer, under the layer's path."""
    return replace(program, outputs={**program.outputs, **program.layers})
