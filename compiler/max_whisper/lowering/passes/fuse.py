"""Replaces ops that one of our kernels computes together by one op.

    layernorm -> linear -> activation -> add     one `fused_linear`, of which all but the linear may be absent
    conv1d    -> activation -> add               the same, over rows that overlap
    linear    -> split_heads                     a `fused_linear` that writes the layout of attention
    q, k, v of one attention                     one `qkv_projections`
    embedding -> positions                       one `token_embedding`
    logits    -> choose_token                    one `fused_choose_token`, so that the logits are not written to memory

An op is fused with the one after it only where nothing else reads its output; a layer normalization or an embedding
is cheap enough to be computed twice. A fused op stands where the last of its parts stood, and has the layers of all.
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
    fused = _FusedOps(program.uses())
    for op in program.ops:
        rule = RULES.get(op.kind)
        fused.extend(rule(fused, op) if rule else (op,))
    return replace(program, ops=fused.ops).pruned()  # without the ops that were fused into others


class _FusedOps:
    """The ops of the fused program so far, and which of them computes a value."""

    def __init__(self, uses: Counter[Value]) -> None:
        self.ops: list[Op] = []
        self._uses = uses
        self._producers: dict[Value, Op] = {}

    def extend(self, ops: Iterable[Op]) -> None:
        """Adds ops to the program."""
        for op in ops:
            self.ops.append(op)
            self._producers |= dict.fromkeys(op.outputs, op)

    def producer(self, value: Value, kind: str) -> Op | None:
        """Returns the op that computes a value, if it is of that kind."""
        op = self._producers.get(value)
        return op if op is not None and op.kind == kind else None

    def open_linear(self, value: Value) -> Op | None:
        """Returns the `fused_linear` that computes `value`, if more can be fused into it.

        The value must have one reader. A sum and split heads come last in the kernel, so that nothing follows them.
        """
        op = self.producer(value, "fused_linear")
        if op is None or self._uses[value] > 1 or "residual" in op.inputs or op.attributes["heads"] is not None:
            return None
        return op


def _fuse_linear(fused: _FusedOps, op: Op) -> Iterable[Op]:
    """Returns a linear layer, with the layer normalization before it."""
    norm = fused.producer(op.inputs["x"], "layernorm")
    return (_after_norm(op, norm),) if norm else (replace(op, kind="fused_linear", attributes=PLAIN),)


def _fuse_logits(fused: _FusedOps, op: Op) -> Iterable[Op]:
    """Returns the product with the vocabulary, with the layer normalization before it.

    Where rows are selected between the two, they are selected before the layer normalization, so that it can be fused.
    """
    x, weight = op.inputs["x"], op.inputs["table"]
    linear = replace(op, kind="linear", inputs={"x": x, "weight": weight})
    rows = fused.producer(x, "rows_from")
    norm = fused.producer(rows.inputs["x"], "layernorm") if rows else None
    if rows is None or norm is None:
        return _fuse_linear(fused, linear)
    selected = replace(rows, inputs={**rows.inputs, "x": norm.inputs["x"]}, outputs=(Value(x.shape),))
    return selected, _after_norm(linear, replace(norm, inputs={**norm.inputs, "x": selected.outputs[0]}))


def _fuse_conv1d(fused: _FusedOps, op: Op) -> Iterable[Op]:
    """Returns a convolution as a linear layer over rows that overlap."""
    return (replace(op, kind="fused_linear", attributes={**PLAIN, **op.attributes}),)


def _fuse_activation(fused: _FusedOps, op: Op) -> Iterable[Op]:
    """Returns an activation, fused into the linear layer before it."""
    linear = fused.open_linear(op.inputs["x"])
    if linear is None or linear.attributes["activation"] != "none":
        return (op,)
    return (_extended(linear, op, attributes={"activation": op.attributes["function"]}),)


def _fuse_add(fused: _FusedOps, op: Op) -> Iterable[Op]:
    """Returns a sum, fused into the linear layer that computes its second term."""
    linear, x = fused.open_linear(op.inputs["y"]), op.inputs["x"]
    if linear is None or not x.shape == linear.outputs[0].shape == op.outputs[0].shape:
        return (op,)  # the kernels cannot broadcast
    return (_extended(linear, op, inputs={"residual": x}),)


def _fuse_positions(fused: _FusedOps, op: Op) -> Iterable[Op]:
    """Returns the addition of positions, fused into the token embedding or the linear layer before it."""
    x, table = op.inputs["x"], op.inputs["table"]
    if "position" not in op.inputs:
        linear = fused.open_linear(x)
        if linear is None or not _is_packed(linear):  # `gemv` needs a residual for each window
            return (op,)
        return (_extended(linear, op, inputs={"residual": table}),)
    embedding = fused.producer(x, "embedding")
    if embedding is None:
        return (op,)
    inputs = {**embedding.inputs, "positions": table, "position": op.inputs["position"]}
    return (Op("token_embedding", inputs, op.outputs, {}, layers_of(embedding, op)),)


def _fuse_split_heads(fused: _FusedOps, op: Op) -> Iterable[Op]:
    """Returns the split into heads, fused into the linear layer before it."""
    linear = fused.open_linear(op.inputs["x"])
    return (_extended(linear, op, attributes=op.attributes),) if linear else (op,)


def _fuse_attention(fused: _FusedOps, op: Op) -> Iterable[Op]:
    """Returns an attention, after the projections of its queries, keys and values as one op."""
    q, k, v = (fused.open_linear(op.inputs[name]) for name in "qkv")
    if q is None or k is None or v is None or not _are_projections(q, k, v):
        return (op,)
    inputs = {name: value for name, value in q.inputs.items() if name not in ("weight", "bias")}
    inputs |= {f"{name}_weight": part.inputs["weight"] for name, part in zip("qkv", (q, k, v), strict=True)}
    inputs |= {"q_bias": q.inputs["bias"], "v_bias": v.inputs["bias"]}
    outputs = tuple(Value(part.outputs[0].shape) for part in (q, k, v))
    joint = Op("qkv_projections", inputs, outputs, {"eps": q.attributes["eps"]}, layers_of(q, k, v))
    return joint, replace(op, inputs={**op.inputs, **dict(zip("qkv", outputs, strict=True))})


def _fuse_choose_token(fused: _FusedOps, op: Op) -> Iterable[Op]:
    """Returns the choice of the next token, with the logits and the layer normalization before it."""
    logits, noise = fused.open_linear(op.inputs["logits"]), op.inputs["noise"]
    if logits is None or logits.attributes["eps"] is None or noise.shape[1] != logits.outputs[0].shape[1]:
        return (op,)
    inputs = {**logits.inputs, **{name: value for name, value in op.inputs.items() if name != "logits"}}
    attributes = {"eps": logits.attributes["eps"]}
    return (Op("fused_choose_token", inputs, op.outputs, attributes, layers_of(logits, op)),)


def _after_norm(linear: Op, norm: Op) -> Op:
    """Returns the `fused_linear` that computes `norm` and then `linear`."""
    inputs = {
        **linear.inputs,
        "x": norm.inputs["x"],
        "norm_weight": norm.inputs["weight"],
        "norm_bias": norm.inputs["bias"],
    }
    attributes = {**PLAIN, "eps": norm.attributes["eps"]}
    return Op("fused_linear", inputs, linear.outputs, attributes, layers_of(norm, linear))


def _extended(
    linear: Op, op: Op, *, inputs: Mapping[str, Value] | None = None, attributes: Mapping[str, Any] | None = None
) -> Op:
    """Returns `linear` with `op` fused into it: with these inputs and attributes added, and the outputs of `op`."""
    return replace(
        linear,
        inputs={**linear.inputs, **(inputs or {})},
        outputs=op.outputs,
        attributes={**linear.attributes, **(attributes or {})},
        layers=layers_of(linear, op),
    )


def _is_packed(linear: Op) -> bool:
    weight = linear.inputs["weight"]
    return isinstance(weight, WeightValue) and weight.stored.packed


def _are_projections(q: Op, k: Op, v: Op) -> bool:
    """Returns whether `gemm_qkv` or `gemv_qkv` computes three linear ops: same rows, same shapes, no bias for k."""
    ops, rows = (q, k, v), ("x", "norm_weight", "norm_bias")
    same_rows = all(op.inputs.get(name) is q.inputs.get(name) for op in ops for name in rows)
    plain = all(op.attributes == {**PLAIN, "eps": q.attributes["eps"]} for op in ops)
    same_shape = len({(op.inputs["weight"].shape, op.inputs["weight"].dtype) for op in ops}) == 1
    return same_rows and plain and same_shape and "bias" in q.inputs and "bias" not in k.inputs and "bias" in v.inputs


def layers_of(*ops: Op) -> tuple[str, ...]:
    """Returns the layers of all ops, each once."""
    return tuple(dict.fromkeys(path for op in ops for path in op.layers))


RULES: Mapping[str, Callable[[_FusedOps, Op], Iterable[Op]]] = {
    "linear": _fuse_linear,
    "logits": _fuse_logits,
    "conv1d": _fuse_conv1d,
    "activation": _fuse_activation,
    "add": _fuse_add,
    "positions": _fuse_positions,
    "split_heads": _fuse_split_heads,
    "full_attention": _fuse_attention,
    "cached_attention": _fuse_attention,
    "choose_token": _fuse_choose_token,
}
"""The rule for each kind of op that may be fused with those before it. A rule returns the ops that take its place."""
