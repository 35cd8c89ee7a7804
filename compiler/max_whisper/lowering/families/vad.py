"""The graphs of voice activity detectors.

    recording   samples [n_chunks, n_context + n_samples]  -> probabilities [n_chunks]
    step        the samples of one chunk                   -> its probability

Both read the recurrent states of the chunk before, and write those of their last one, in buffers that are inputs. The
convolutions of `recording` see all chunks as one batch; only the recurrent layer takes one after the other.
"""

from __future__ import annotations

from collections.abc import Collection

from max_whisper.lowering.builder import Builder
from max_whisper.lowering.family import GraphRecipe, register
from max_whisper.lowering.ops import Dim, Input, Program
from max_whisper.plan import BuildPlan
from max_whisper.spec import Spec


def recording(spec: Spec, plan: BuildPlan, kinds: Collection[str]) -> Program:
    """Returns the graph from the samples of any number of chunks to their probabilities."""
    return _detector("recording", "n_chunks", spec, plan, kinds)


def step(spec: Spec, plan: BuildPlan, kinds: Collection[str]) -> Program:
    """Returns the graph from the samples of one chunk to its probability."""
    return _detector("step", 1, spec, plan, kinds)


def _detector(name: str, n_chunks: Dim, spec: Spec, plan: BuildPlan, kinds: Collection[str]) -> Program:
    n_samples = spec.dims["n_context"] + spec.dims["n_samples"]
    part = spec.parts["detector"]
    states = {
        f"{node.path}.{state}": Input((1, *shape), state=True)
        for node in part.walk()
        for state, shape in node.layer.states(node.input_shape).items()
    }
    inputs = {"samples": Input((n_chunks, n_samples)), **states}
    builder = Builder(plan.by_name, kinds, inputs)
    rows = builder.reshape(inputs["samples"], (n_chunks, n_samples, 1))
    probabilities = builder.reshape(part.lower(builder, rows), (n_chunks,))
    return builder.program(name, {"probabilities": probabilities})


register(
    "vad",
    {
        "detector": {
            "recording": GraphRecipe(recording),
            "step": GraphRecipe(step, exposed=True, timed=True),
        }
    },
)
