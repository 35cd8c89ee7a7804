"""Joining the ops of a decoder's layer. What the kernel computes is compared with its parts in test_kernels.py."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import max_whisper
import pytest
from max_whisper.lowering.families.whisper import decoder, step
from max_whisper.lowering.ops import Program
from max_whisper.lowering.passes.expose import expose
from max_whisper.lowering.passes.fuse import fuse
from max_whisper.lowering.passes.fuse_layers import fuse_layers
from max_whisper.plan import INT8_FEATURE
from max_whisper.spec import load_spec
from support.artifacts import plan_of

TINY = (Path(max_whisper.__file__).parents[2] / "specs" / "tiny.yaml").read_text()


def kinds(program: Program) -> Counter[str]:
    return Counter(op.kind for op in program.ops if op.kind != "weight")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("graph", [step, decoder])
def test_each_layer_of_the_decoder_is_one_op(graph, dtype: str) -> None:
    spec = load_spec("tiny")
    plan = plan_of(spec, dtype=dtype, features=[INT8_FEATURE])
    apart = fuse(graph(spec, plan, ()))
    joined = fuse_layers(apart)
    assert kinds(apart)["cross_attention"] == 4
    others = {"cached_attention", "cross_attention", "qkv_projections"}
    assert kinds(joined)["decoder_layer"] == 4 and not others & kinds(joined).keys()
    assert joined.outputs == apart.outputs and joined.inputs == apart.inputs
    computed = {output for op in joined.ops for output in op.outputs} | {*joined.inputs.values()}
    assert {*joined.outputs.values()} <= computed
    assert all(value in computed for op in joined.ops for value in op.inputs.values())
    parts = {layer for op in apart.ops for layer in op.layers}
    assert {layer for op in joined.ops for layer in op.layers} == parts


def test_layers_that_are_outputs_stay_apart() -> None:
    spec = load_spec("tiny")
    assert kinds(fuse_layers(fuse(expose(decoder(spec, plan_of(spec), ())))))["decoder_layer"] == 0


def test_a_layer_whose_inside_is_read_elsewhere_stays_apart() -> None:
    spec = load_spec("tiny")
    program = fuse(step(spec, plan_of(spec), ()))
    inside = next(op for op in program.ops if op.kind == "cached_attention").outputs[0]
    read = replace(program, outputs={**program.outputs, "inside": inside})
    assert kinds(fuse_layers(read))["decoder_layer"] == 3


FC2 = '- linear: {out: $d_model, weights: "model.decoder.layers.{i}.fc2"}'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('layernorm: {weights: "model.decoder.layers.{i}.self_attn_layer_norm"}', "gelu"),
        ('{weights: "model.decoder.layers.{i}.final', '{eps: 1e-6, weights: "model.decoder.layers.{i}.final'),
        (FC2, f"{FC2}\n            - gelu"),
        ('fc2"}', 'fc2", bias: false}'),
    ],
    ids=["no normalization", "another eps", "an activation at the end", "no bias"],
)
def test_a_layer_of_another_form_stays_apart(tmp_path: Path, old: str, new: str) -> None:
    encoder, decoder_part = TINY.split("\ndecoder:")
    assert old in decoder_part
    path = tmp_path / "other.yaml"
    path.write_text(encoder + "\ndecoder:" + decoder_part.replace(old, new))
    spec = load_spec(path)
    assert kinds(fuse_layers(fuse(step(spec, plan_of(spec), ()))))["decoder_layer"] == 0


def test_the_activation_is_that_of_the_spec(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(TINY.replace("- gelu", "- silu"))
    spec = load_spec(path)
    layers = [op for op in fuse_layers(fuse(step(spec, plan_of(spec), ()))).ops if op.kind == "decoder_layer"]
    assert [op.attributes for op in layers] == [{"eps": 1e-5, "activation": "silu"}] * 4
