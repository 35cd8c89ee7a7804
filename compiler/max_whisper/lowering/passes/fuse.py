"""Fuses ops that one of our kernels does at once.

    layernorm -> linear -> activation -> add     one `fused_linear`, of which all but the linear may be absent
    conv1d    -> activation -> add               the same, over rows that overlap
    linear    -> split_heads                     a `fused_linear` that writes the layout of attention
    q, k, v of one attention                     one `qkv_projections`
    embedding -> positions                       one `token_embedding`
    logits    -> choose_token                    one `fused_choose_token`, so that the logits are not written to memory

An op is fused with the one after it only where nothing else reads its output; a layer normalization or an embedding
is cheap enough to be done twice. A fused op stands where the last of its parts stood, and has the layers of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from max_whisper.lowering.ops import Op, Program, Value, WeightValue

PLAIN: Mapping[str, Any] = {
    "activation": "none",
    "eps": None,  # of the layer normalization before it; None where there is none
    "stride": None,  # of a convolution, in rows; None where rows do not overlap
    "padding": 0,  # rows of zeros before the first
    "heads": None,  # that the output is split into; None where it is not
    "dtype": "float32",  # of the output
}
"""The attributes of a `fused_linear` that nothing else was fused into."""


def fuse(program: Program) -> Program:
    """Returns the program with fused ops in place of those that they are made of."""
    fuser = _Fuser(program.uses())
    for op in program.ops:
        fuser.take(op)
    return replace(program, ops=fuser.ops).pruned()


class _Fuser:
    def __init__(self, uses: Counter[Value]) -> None:
        self.ops: list[Op] = []
        self._uses = uses
        self._producers: dict[Value, Op] = {}

    def take(self, op: Op) -> None:
        """Adds an op, fused with those before it where a rule applies; what nothing reads then is pruned in the end."""
        rule = _RULES.get(op.kind)
        for fused in rule(self, op) if rule else (op,):
            self.ops.append(fused)
            self._producers |= dict.fromkeys(fused.outputs, fused)

    def _producer(self, value: Value, kind: str) -> Op | None:
        """Returns the op that computes a value, if it is of that kind."""
        op = self._producers.get(value)
        return op if op is not None and op.kind == kind else None

    def _linear_before(self, value: Value) -> Op | None:
        """Returns the `fused_linear` that computes `value`, if more can be fused into it.

        That needs a value with one reader, and neither a sum nor split heads yet, which come last in the kernel.
        """
        op = self._producer(value, "fused_linear")
        if op is None or self._uses[value] > 1 or "residual" in op.inputs or op.attributes["heads"] is not None:
            return None
        return op

    # --- one rule for each kind of op that fuses with those before it; each returns the ops that take its place

    def _linear(self, op: Op) -> Iterable[Op]:
        norm = self._producer(op.inputs["x"], "layernorm")
        return (_after_norm(op, norm),) if norm else (replace(op, kind="fused_linear", attributes=PLAIN),)

    def _logits(self, op: Op) -> Iterable[Op]:
        x, weight = op.inputs["x"], op.inputs["table"]
        linear = replace(op, kind="linear", inputs={"x": x, "weight": weight})
        rows = self._producer(x, "rows_from")
        norm = self._producer(rows.inputs["x"], "layernorm") if rows else None
        if rows is None or norm is None:
            return self._linear(linear)
        unnormed = replace(rows, inputs={**rows.inputs, "x": norm.inputs["x"]}, outputs=(Value(x.shape),))
        return unnormed, _after_norm(linear, replace(norm, inputs={**norm.inputs, "x": unnormed.outputs[0]}))

    def _conv1d(self, op: Op) -> Iterable[Op]:
        return (replace(op, kind="fused_linear", attributes={**PLAIN, **op.attributes}),)

    def _activation(self, op: Op) -> Iterable[Op]:
        linear = self._linear_before(op.inputs["x"])
        if linear is None or linear.attributes["activation"] != "none":
            return (op,)
        return (_extended(linear, op, attributes={"activation": op.attributes["function"]}),)

    def _add(self, op: Op) -> Iterable[Op]:
        linear, x = self._linear_before(op.inputs["y"]), op.inputs["x"]
        if linear is None or not x.shape == linear.outputs[0].shape == op.outputs[0].shape:
            return (op,)  # the kernels do not broadcast
        return (_extended(linear, op, inputs={"residual": x}),)

    def _positions(self, op: Op) -> Iterable[Op]:
        x, table = op.inputs["x"], op.inputs["table"]
        if "position" not in op.inputs:
            linear = self._linear_before(x)
            if linear is None or not _is_packed(linear):  # kernels for a few rows want a residual for each window
                return (op,)
            return (_extended(linear, op, inputs={"residual": table}),)
        embedding = self._producer(x, "embedding")
        if embedding is None:
            return (op,)
        inputs = {**embedding.inputs, "positions": table, "position": op.inputs["position"]}
        return (Op("token_embedding", inputs, op.outputs, {}, _layers(embedding, op)),)

    def _split_heads(self, op: Op) -> Iterable[Op]:
        linear = self._linear_before(op.inputs["x"])
        return (_extended(linear, op, attributes=op.attributes),) if linear else (op,)

    def _attention(self, op: Op) -> Iterable[Op]:
        q, k, v = (self._linear_before(op.inputs[name]) for name in "qkv")
        if q is None or k is None or v is None or not _are_projections(q, k, v):
            return (op,)
        inputs = {name: value for name, value in q.inputs.items() if name not in ("weight", "bias")}
        inputs |= {f"{name}_weight": part.inputs["weight"] for name, part in zip("qkv", (q, k, v), strict=True)}
        inputs |= {"q_bias": q.inputs["bias"], "v_bias": v.inputs["bias"]}
        outputs = tuple(Value(part.outputs[0].shape) for part in (q, k, v))
        joint = Op("qkv_projections", inputs, outputs, {"eps": q.attributes["eps"]}, _layers(q, k, v))
        return joint, replace(op, inputs={**op.inputs, **dict(zip("qkv", outputs, strict=True))})

    def _choose_token(self, op: Op) -> Iterable[Op]:
        logits = self._linear_before(op.inputs["logits"])
        if logits is None or logits.attributes["eps"] is None:
            return (op,)
        inputs = {**logits.inputs, **{name: value for name, value in op.inputs.items() if name != "logits"}}
        attributes = {"eps": logits.attributes["eps"]}
        return (Op("fused_choose_token", inputs, op.outputs, attributes, _layers(logits, op)),)


_RULES: Mapping[str, Callable[[_Fuser, Op], Iterable[Op]]] = {
    "linear": _Fuser._linear,
    "logits": _Fuser._logits,
    "conv1d": _Fuser._conv1d,
    "activation": _Fuser._activation,
    "add": _Fuser._add,
    "positions": _Fuser._positions,
    "split_heads": _Fuser._split_heads,
    "full_attention": _Fuser._attention,
    "cached_attention": _Fuser._attention,
    "choose_token": _Fuser._choose_token,
}


def _after_norm(linear: Op, norm: Op) -> Op:
    """Returns the `fused_linear` that normalizes the input of `norm` and then does `linear`."""
    inputs = {
        **linear.inputs,
        "x": norm.inputs["x"],
        "norm_weight": norm.inputs["weight"],
        "norm_bias": norm.inputs["bias"],
    }
    attributes = {**PLAIN, "eps": norm.attributes["eps"]}
    return Op("fused_linear", inputs, linear.outputs, attributes, _layers(norm, linear))


def _extended(
    linear: Op, op: Op, *, inputs: Mapping[str, Value] | None = None, attributes: Mapping[str, Any] | None = None
) -> Op:
    """Returns `linear` with `op` fused into it: with more inputs and attributes, and the outputs of `op`."""
    return replace(
        linear,
        inputs={**linear.inputs, **(inputs or {})},
        outputs=op.outputs,
        attributes={**linear.attributes, **(attributes or {})},
        layers=_layers(linear, op),
    )


def _is_packed(linear: Op) -> bool:
    weight = linear.inputs["weight"]
    return isinstance(weight, WeightValue) and weight.packed


def _are_projections(q: Op, k: Op, v: Op) -> bool:
    """Returns whether three linears read the same rows by equal matrices; only q and v have biases, as in Whisper."""
    ops, rows = (q, k, v), ("x", "norm_weight", "norm_bias")
    same_rows = all(op.inputs.get(name) is q.inputs.get(name) for op in ops for name in rows)
    plain = all(op.attributes == {**PLAIN, "eps": q.attributes["eps"]} for op in ops)
    alike = len({(op.inputs["weight"].shape, op.inputs["weight"].dtype) for op in ops}) == 1
    return same_rows and plain and alike and "bias" in q.inputs and "bias" not in k.inputs and "bias" in v.inputs


def _layers(*ops: Op) -> tuple[str, ...]:
    """Returns the layers of all ops, each once."""
    return tuple(dict.fromkeys(path for op in ops for path in op.layers))
