"""Recording specs as lists of ops, and the passes over them. Nothing here is compiled."""

from __future__ import annotations

import ast
from pathlib import Path

import max_whisper.lowering
import pytest
from max_whisper.compile.modules import cache_folder
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.lowering.backends import max_ops
from max_whisper.lowering.backends.cpu.kernels import COSTS, CPU_KERNELS
from max_whisper.lowering.builder import Builder
from max_whisper.lowering.decoder_context import DecoderContext
from max_whisper.lowering.families.whisper import decoder, step
from max_whisper.lowering.family import graphs_of
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.lowering.lower import BACKENDS, lower
from max_whisper.lowering.ops import EFFECTS, Op, Program, Value
from max_whisper.lowering.passes.expose import expose
from max_whisper.lowering.passes.fuse import fuse
from max_whisper.lowering.passes.instrument import TIMES, instrument
from max_whisper.plan import INT8_FEATURE
from max_whisper.spec import Spec, load_spec
from max_whisper.spec.family import families
from max_whisper.spec.layer import kinds as kinds_of_layers
from max_whisper.spec.ops import ACTIVATIONS
from max_whisper.tensors.stored import StoredTensor
from support.artifacts import plan_of
from support.models.mini import MINI, recorded, write

LOWERING = Path(max_whisper.lowering.__file__).parent
X = Value((2, 10, 8))
SQUARE = {
    name: StoredTensor(name, [8, 8] if name.isupper() else [8], "float32", name.isupper(), packed=False)
    for name in ("A", "B", "C", "a", "b", "c")
}


def kinds(program: Program) -> list[str]:
    """Returns the kinds of the ops, without the weights."""
    return [op.kind for op in program.ops if op.kind != "weight"]


def linears(program: Program) -> list[Op]:
    return [op for op in program.ops if op.kind == "fused_linear"]


@pytest.fixture
def ops() -> Builder:
    return Builder(SQUARE, (), {})


def program_of(ops: Builder, *outputs: Value) -> Program:
    return fuse(ops.program("graph", {f"y{i}": y for i, y in enumerate(outputs)}))


# --- fusing


def test_a_feed_forward_is_two_kernels(ops: Builder) -> None:
    normed = ops.layernorm(X, ops.weight("a"), ops.weight("b"), eps=1e-5)
    inner = ops.activation(ops.linear(normed, ops.weight("A"), ops.weight("c")), "gelu")
    program = program_of(ops, ops.add(X, ops.linear(inner, ops.weight("B"), None)))
    assert kinds(program) == ["fused_linear"] * 2
    first, second = linears(program)
    assert (first.attributes["eps"], first.attributes["activation"]) == (1e-5, "gelu")
    assert first.inputs["x"] is second.inputs["residual"] is X
    assert "bias" in first.inputs and "bias" not in second.inputs
    assert second.inputs["x"] is first.outputs[0]


def test_what_another_op_reads_is_computed_by_itself(ops: Builder) -> None:
    y = ops.linear(X, ops.weight("A"), None)
    program = program_of(ops, ops.activation(y, "relu"), ops.exp(y))
    assert kinds(program) == ["fused_linear", "activation", "exp"]


def test_an_output_is_computed_by_itself(ops: Builder) -> None:
    y = ops.linear(X, ops.weight("A"), None)
    assert kinds(program_of(ops, y, ops.activation(y, "relu"))) == ["fused_linear", "activation"]


def test_a_sum_comes_last(ops: Builder) -> None:
    y = ops.activation(ops.add(X, ops.linear(X, ops.weight("A"), None)), "relu")
    program = program_of(ops, ops.add(X, y))
    assert kinds(program) == ["fused_linear", "activation", "add"]


def test_two_activations_are_two_ops(ops: Builder) -> None:
    y = ops.activation(ops.activation(ops.linear(X, ops.weight("A"), None), "relu"), "silu")
    assert kinds(program_of(ops, y)) == ["fused_linear", "activation"]


def test_only_the_second_of_a_sum_is_joined(ops: Builder) -> None:
    y = ops.add(ops.linear(X, ops.weight("A"), None), ops.linear(X, ops.weight("B"), None))
    program = program_of(ops, y)
    assert kinds(program) == ["fused_linear"] * 2
    assert linears(program)[1].inputs["residual"] is linears(program)[0].outputs[0]


@pytest.mark.parametrize(
    "other", [Value((8,)), Value((1, 10, 8)), Value((10, 8)), Value((2, 10, 1)), Value(())], ids=lambda x: str(x.shape)
)
def test_a_sum_that_broadcasts_is_an_op_of_its_own(ops: Builder, other: Value) -> None:
    """The kernels read a residual of the shape of their output, and would read beyond a smaller one."""
    program = program_of(ops, ops.add(other, ops.linear(X, ops.weight("A"), None)))
    assert kinds(program) == ["fused_linear", "add"]


def test_positions_join_packed_products_alone(ops: Builder) -> None:
    """The kernel for a few rows wants a residual for each window of the batch."""
    program = program_of(ops, ops.positions(ops.linear(X, ops.weight("A"), None), Value((10, 8))))
    assert kinds(program) == ["fused_linear", "positions"]


def test_projections_of_rows_that_are_normalized_otherwise_are_three(ops: Builder) -> None:
    one, other = (ops.layernorm(X, ops.weight("a"), ops.weight(bias), eps=1e-5) for bias in "bc")
    q, k = ops.linear(one, ops.weight("A"), ops.weight("a")), ops.linear(one, ops.weight("B"), None)
    v = ops.linear(other, ops.weight("C"), ops.weight("c"))
    assert kinds(program_of(ops, ops.self_attention(q, k, v, heads=2, causal=False)))[-1] == "full_attention"
    assert "qkv_projections" not in kinds(program_of(ops, ops.self_attention(q, k, v, heads=2, causal=False)))


def test_a_normalization_is_done_by_each_linear_layer_after_it(ops: Builder) -> None:
    normed = ops.layernorm(X, ops.weight("a"), ops.weight("b"), eps=1e-5)
    ys = [ops.linear(normed, ops.weight(name), None) for name in "AB"]
    assert kinds(program_of(ops, *ys)) == ["fused_linear"] * 2
    assert kinds(program_of(ops, *ys, normed)) == ["layernorm", "fused_linear", "fused_linear"]


def attention(ops: Builder, *, key_rows: Value = X, key_bias: Value | None = None) -> Program:
    q = ops.linear(X, ops.weight("A"), ops.weight("a"))
    k = ops.linear(key_rows, ops.weight("B"), key_bias)
    v = ops.linear(X, ops.weight("C"), ops.weight("c"))
    return program_of(ops, ops.self_attention(q, k, v, heads=2, causal=False))


def test_projections_are_one_kernel(ops: Builder) -> None:
    program = attention(ops)
    assert kinds(program) == ["qkv_projections", "full_attention"]
    joint, after = (op for op in program.ops if op.kind != "weight")
    assert [after.inputs[name] for name in "qkv"] == [*joint.outputs]


def test_projections_with_a_bias_of_the_keys_are_three(ops: Builder) -> None:
    assert kinds(attention(ops, key_bias=ops.weight("b"))) == ["fused_linear"] * 3 + ["full_attention"]


def test_projections_of_different_rows_are_three(ops: Builder) -> None:
    program = attention(ops, key_rows=ops.exp(X))
    assert kinds(program) == ["exp"] + ["fused_linear"] * 3 + ["full_attention"]


def test_layers_of_a_fused_op_are_those_of_its_parts(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, MINI))
    program = fuse(recorded(spec, "encoder", Value((1, 100, 16))))
    first, fc1 = linears(program)[0], linears(program)[2]
    assert first.layers == ("encoder.conv1d", "encoder.gelu", "encoder.positions")
    inside = "encoder.layers[0].residual[1]."
    assert fc1.layers == (inside + "linear[0]", inside + "silu")
    leaves = {node.path for node in spec.encoder.walk() if not node.children}
    assert {path for op in program.ops if op.kind != "weight" for path in op.layers} == leaves


def test_logits_are_not_written_where_nobody_asks_for_them() -> None:
    spec = load_spec("tiny")
    assert kinds(fuse(step(spec, plan_of(spec), ())))[-1] == "fused_choose_token"
    last = kinds(fuse(decoder(spec, plan_of(spec), ())))[-4:]
    assert last == ["rows_from", "fused_linear", "choose_token", "token_probability"]


def test_the_last_rows_are_taken_before_they_are_normalized() -> None:
    spec = load_spec("tiny")
    program = fuse(decoder(spec, plan_of(spec), ()))
    rows = next(op for op in program.ops if op.kind == "rows_from")
    logits = linears(program)[-1]
    assert logits.inputs["x"] is rows.outputs[0] and logits.attributes["eps"] == 1e-5


# --- the other passes


def test_exposed_layers_are_outputs(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, MINI))
    program = recorded(spec, "encoder", Value((1, 100, 16)))
    paths = {node.path for node in spec.encoder.walk() if node.layer.kind != "repeat"}
    exposed = expose(program)
    assert {*exposed.outputs} == {"y", *paths}
    fused = fuse(exposed)
    assert all(any(value in op.outputs for op in fused.ops) for value in fused.outputs.values())


def test_every_kernel_has_a_slot_of_its_own() -> None:
    spec = load_spec("tiny")
    program = instrument(fuse(step(spec, plan_of(spec), ())), CPU_KERNELS.kernels)
    assert [op.slot for op in program.ops if op.slot is not None] == [
        *range(sum(op.kind != "weight" for op in program.ops))
    ]
    assert [*program.inputs][-1] == TIMES and program.inputs[TIMES].state


def test_ops_that_nobody_reads_are_pruned(ops: Builder) -> None:
    ops.exp(ops.exp(X))
    state = Value((2, 8))
    ops.write(state, ops.exp(state))
    assert "cached_attention" in EFFECTS
    assert kinds(ops.program("graph", {"y": ops.tanh(X)}).pruned()) == ["exp", "write", "tanh"]


# --- recording


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda ops: ops.add(X, Value((2, 10, 3))), r"shapes that broadcast, found \(2, 10, 8\) and \(2, 10, 3\)"),
        (lambda ops: ops.matmul(X, X), r"matmul: expected 8 rows in the second matrix, found shape \(2, 10, 8\)"),
        (lambda ops: ops.slice(X, 4, 9), "slice: expected 0 <= start < stop <= 8, found 4 and 9"),
        (lambda ops: ops.write(Value((2, 8)), X), r"write: expected the shape of the buffer, \(2, 8\), found"),
        (lambda ops: ops.self_attention(X, X, X, heads=2, causal=True), "causal attention needs a KV cache"),
        (lambda ops: ops.weight("nothing"), "there is no tensor 'nothing': expected one that the layer's `tensors`"),
        (lambda ops: ops.mul(X, 2.0), r"mul: expected a value of the program, found 2.0; `ops.constant` makes one"),
        (
            lambda ops: ops.mul(X, ops.weight("A")),
            "mul: 'y' is a matrix, which only conv1d, linear, .* take; declare it",
        ),
        (lambda ops: ops.linear(X, ops.weight("a"), None), "linear: expected 'weight' to be a matrix"),
        (lambda ops: ops.linear(Value((2, 10, 3)), ops.weight("A"), None), "linear: expected weights for 3 inputs"),
        (
            lambda ops: ops.linear(X, ops.weight("A"), Value((3,))),
            r"linear: expected 'bias' of shape \(8,\), found \(3,\)",
        ),
        (lambda ops: ops.layernorm(X, Value((3,)), ops.weight("b"), eps=1.0), "layernorm: expected 'weight' of shape"),
        (lambda ops: ops.activation(X, "swish"), "activation: expected one of gelu, .* found 'swish'"),
        (lambda ops: ops.self_attention(X, X, X, heads=3, causal=False), "expected a number of heads that divides 8"),
        (lambda ops: ops.self_attention(X, X, Value((2, 5, 8)), heads=2, causal=False), "expected one shape, found"),
        (
            lambda ops: ops.positions(X, Value((9, 8))),
            r"positions: expected a table for \(2, 10, 8\), found shape \(9, 8\)",
        ),
        (lambda ops: ops.reshape(X, (2, 79)), r"reshape: expected as many elements as \(2, 10, 8\) has"),
        (lambda ops: ops.state("last"), "there is no buffer 'last' for this layer"),
        (lambda ops: ops.call("linear", lambda ops: X), "call: 'linear' is an operation that every backend has"),
        (lambda ops: ops.cross_attention(X, heads=2), "cross-attention needs the encoder's features"),
    ],
)
def test_what_does_not_fit_is_refused(ops: Builder, record, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(ops)


def test_attention_without_a_cache_says_how_a_layer_gets_one() -> None:
    ops = Builder(SQUARE, (), {}, DecoderContext(Value((), "int64"), iter([]), iter([])))
    with pytest.raises(ValueError, match=r"no KV cache for this layer: .* must say `self_attention = True`"):
        ops.self_attention(X, X, X, heads=2, causal=True)
    with pytest.raises(ValueError, match="no KV cache for this layer: only cross_attention"):
        ops.cross_attention(X, heads=2)


def test_a_cache_is_not_hidden_in_an_op_of_ones_own() -> None:
    cache = iter([(Value((2, 2, 20, 4)), Value((2, 2, 20, 4)))])
    ops = Builder(SQUARE, ("mine",), {}, DecoderContext(Value((), "int64"), cache, iter([])))
    with pytest.raises(ValueError, match="call: 'mine' is one op of this backend, and cannot contain an attention"):
        ops.call("mine", lambda ops, x: ops.self_attention(x, x, x, heads=2, causal=True), X)


def test_shapes_of_primitives(ops: Builder) -> None:
    y = Value((2, "length", 8))
    assert ops.mean(y).shape == (2, "length", 1)
    assert ops.mul(y, Value((8,))).shape == ops.div(ops.constant(1.0), y).shape == y.shape
    assert ops.matmul(y, ops.transpose(y, (0, 2, 1))).shape == (2, "length", "length")
    assert ops.reshape(y, (2, "length", 2, 4)).shape == (2, "length", 2, 4)
    assert ops.concat([y, ops.slice(y, 0, 3)]).shape == (2, "length", 11)
    assert ops.rows(Value((20, 4)), y).shape == ("length", 4)


def test_a_decoder_counts_its_positions() -> None:
    position = Value((), "int64")
    ops = Builder(SQUARE, (), {}, DecoderContext(position, iter([]), iter([])))
    ops.rows(Value((20, 8)), X)
    ops.positions(X, Value((20, 8)))
    program = ops.program("graph", {})
    assert [op.inputs["position"] for op in program.ops] == [position, position]


# --- backends


OURS_ALONE = {"lstm"}
"""The ops that only our kernels have, because the one family that needs them is compiled with these alone."""


def test_both_backends_have_an_emitter_for_every_op_that_is_recorded() -> None:
    tree = ast.parse((LOWERING / "builder.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    recorders = {"_op", "_record", "_elementwise", "_same_shape"}
    kinds = {
        call.args[0].value for call in calls if call.func.attr in recorders and isinstance(call.args[0], ast.Constant)
    }
    assert len(kinds) > 30
    missing = {name: kinds - backend.emitters.keys() for name, backend in BACKENDS.items()}
    assert missing == {"ours": set(), "max": OURS_ALONE}
    assert families()["vad"].kernels == ("ours",)


def kernel_calls(spec: Spec, kernels: str, *, dtype: str = "float32", expose: bool = False) -> list[KernelCall]:
    calls = []
    plan = plan_of(spec, kernels=kernels, dtype=dtype, features=[INT8_FEATURE])
    for module in graphs_of(spec.family):
        lowered = lower(spec, plan, module, kernels=kernels_package(cache_folder()), expose=expose)
        assert [*lowered.calls] == [*lowered.graphs]
        calls += [call for of_graph in lowered.calls.values() for call in of_graph]
    return calls


def test_every_kernel_call_of_a_model_is_described() -> None:
    called = set()
    for name, dtype in (("tiny", "float32"), ("tiny", "int8"), ("silero-vad", "float32")):
        spec = load_spec(name)
        calls = kernel_calls(spec, "ours", dtype=dtype) + kernel_calls(spec, "ours", dtype=dtype, expose=True)
        weights = {operand.weight for call in calls for operand in call.operands}
        assert {tensor.name for tensor in spec.tensors() if tensor.matrix} <= weights
        called |= {call.kernel for call in calls}
    assert called == {*COSTS}


def test_max_kernels_are_not_ours() -> None:
    assert kernel_calls(load_spec("tiny"), "max") == []


def test_the_activations_are_those_that_the_spec_language_has() -> None:
    assert {*max_ops.ACTIVATIONS} == {*ACTIVATIONS} == {*kinds_of_layers()} & {*ACTIVATIONS}


def test_no_class_has_two_bases() -> None:
    for path in LOWERING.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                assert len(node.bases) <= 1, (path.name, node.name)
