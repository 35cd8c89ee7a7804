"""Replaces the eight ops of a decoder layer, as `fuse` leaves them, by one `decoder_layer`.

    qkv_projections -> cached_attention -> fused_linear + x
    fused_linear    -> cross_attention  -> fused_linear + that
    fused_linear with an activation     -> fused_linear + that

Each op of a token wakes the threads of the CPU for a few microseconds of work, so that a layer is faster as one call.
The queries of its cross-attention are an output, too, as the graph `alignment` takes them. A layer of another form, or
one of which something else is read, or whose matrices differ in dtype, stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from max_whisper.lowering.ops import Op, Program, Value, WeightValue
from max_whisper.lowering.passes.fuse import PLAIN, layers_of

LINEAR = frozenset({"x", "weight", "bias"})
NORMED = LINEAR | {"norm_weight", "norm_bias"}
SUMMED = LINEAR | {"residual"}


def fuse_layers(program: Program) -> Program:
    """Returns the program with one op for each layer of the decoder."""
    producers = {output: op for op in program.ops for output in op.outputs}
    uses = program.uses()
    replaced: dict[Op, Op] = {}  # the last op of a layer -> the op that takes its place
    parts: set[Op] = set()
    exposed = {*program.outputs.values()}
    for op in program.ops:
        layer = _Layer(producers).of(op)
        if layer is not None and layer.can_be_joined(uses, exposed):
            replaced[op] = layer.fused()
            parts.update(layer.ops)
    return replace(program, ops=[replaced.get(op, op) for op in program.ops if op not in parts or op in replaced])


class _Layer:
    """The ops that end in one, if these are a layer of the decoder."""

    def __init__(self, producers: Mapping[Value, Op]) -> None:
        self._producers = producers
        self.ops: list[Op] = []
        self.reads: dict[Value, int] = {}
        """How often each value inside the layer is read there."""
        self.inputs: dict[str, Value] = {}
        self.outputs: tuple[Value, ...] = ()
        self.eps: float
        self.activation: str

    def of(self, op: Op) -> _Layer | None:
        """Returns this layer, read from its last op backwards; None where an op is not what it has to be."""
        fc2 = self._linear(op, SUMMED, "fc2")
        fc1 = self._linear(self._before(fc2, "x"), NORMED, "fc1", norm="mlp_norm")
        cross_out = self._linear(self._before(fc2, "residual"), SUMMED, "cross_out")
        cross = self._attention(self._before(cross_out, "x"), "cross_attention")
        cross_q = self._linear(self._before(cross, "q"), NORMED, "cross_q", norm="cross_norm")
        self_out = self._linear(self._before(cross_out, "residual"), SUMMED, "self_out")
        self_attention = self._attention(self._before(self_out, "x"), "cached_attention")
        qkv = self._before(self_attention, "q")
        if None in (fc1, cross_q, qkv) or qkv is None or qkv.kind != "qkv_projections":
            return None
        assert fc1 is not None and cross_q is not None and self_out is not None
        assert self_attention is not None and fc2 is not None and cross is not None and cross_out is not None
        x, after_self, after_cross = self_out.inputs["residual"], self_out.outputs[0], cross_out.outputs[0]
        same_rows = qkv.inputs["x"] is x and cross_q.inputs["x"] is after_self and fc1.inputs["x"] is after_cross
        projected = tuple(self_attention.inputs[name] for name in "qkv")
        eps = {qkv.attributes["eps"], cross_q.attributes["eps"], fc1.attributes["eps"]}
        if not same_rows or projected != qkv.outputs or len(eps) > 1 or "norm_weight" not in qkv.inputs:
            return None
        self.inputs |= {f"self_{name}" if name.startswith("norm") else name: v for name, v in qkv.inputs.items()}
        self.inputs |= {n: v for n, v in self_attention.inputs.items() if n not in ("q", "k", "v")}
        self.inputs |= {f"cross_{name}": value for name, value in cross.inputs.items() if name != "q"}
        self.ops = [qkv, self_attention, self_out, cross_q, cross, cross_out, fc1, fc2]
        inside = [part for part in self.ops[:-1] if part is not cross_q]
        self.reads = {output: 1 for part in inside for output in part.outputs} | {after_self: 2, after_cross: 2}
        self.outputs = (fc2.outputs[0], cross_q.outputs[0])
        (self.eps,) = eps
        self.activation = fc1.attributes["activation"]
        return self if self._has_matrices_of_the_kernel() else None

    def can_be_joined(self, uses: Mapping[Value, int], outputs: Collection[Value]) -> bool:
        """Returns whether nothing else reads a value inside the layer, but that the queries may be an output."""
        queries = self.outputs[1]
        inside = all(uses[value] == reads for value, reads in self.reads.items())
        return inside and uses[queries] == 1 + (queries in outputs)

    def fused(self) -> Op:
        """Returns the op that takes the place of the last one."""
        attributes = {"eps": self.eps, "activation": self.activation}
        return Op("decoder_layer", self.inputs, self.outputs, attributes, layers_of(*self.ops))

    def _has_matrices_of_the_kernel(self) -> bool:
        """Returns whether all matrices have one dtype and are not packed, and those of the attentions are square."""
        matrices = {n: v for n, v in self.inputs.items() if n.endswith("weight") and "norm" not in n}
        stored = [value.stored for value in matrices.values() if isinstance(value, WeightValue)]
        if len(stored) < len(matrices) or any(tensor.packed for tensor in stored):
            return False
        square = all(len({*value.shape}) == 1 for name, value in matrices.items() if not name.startswith("fc"))
        return square and len({value.dtype for value in matrices.values()}) == 1

    def _before(self, op: Op | None, name: str) -> Op | None:
        """Returns the op that computes an input of another."""
        return self._producers.get(op.inputs[name]) if op is not None else None

    def _linear(self, op: Op | None, inputs: frozenset[str], name: str, *, norm: str = "") -> Op | None:
        """Returns a `fused_linear` with just these inputs, which become the layer's, or None."""
        if op is None or op.kind != "fused_linear" or op.inputs.keys() != inputs:
            return None
        allowed: dict[str, Any] = {**PLAIN, "eps": op.attributes["eps"]}
        if name == "fc1":
            allowed["activation"] = op.attributes["activation"]
        if op.attributes != allowed:
            return None
        self.inputs |= {f"{name}_{part}": op.inputs[part] for part in ("weight", "bias")}
        if norm:
            self.inputs |= {f"{norm}_{part}": op.inputs[f"norm_{part}"] for part in ("weight", "bias")}
        return op

    def _attention(self, op: Op | None, kind: str) -> Op | None:
        return op if op is not None and op.kind == kind else None
