"""The JSON Schema, and a new layer kind from one class."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pytest
import yaml
from max_whisper.errors import SpecError
from max_whisper.lowering.ops import Value
from max_whisper.spec import Spec, json_schema, layer, load_spec, shipped_specs
from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, Workload, kinds, option, register, weight_name
from support.models.mini import MINI, changed, recorded, write

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float, "boolean": bool}
KEYWORDS = {
    *("$schema", "$defs", "$ref", "title", "description", "default", "type", "enum", "anyOf", "properties", "required"),
    *("additionalProperties", "propertyNames", "minProperties", "maxProperties", "items", "minItems", "pattern"),
    *("minLength", "minimum", "maximum"),
}


def valid(data, schema, root) -> bool:
    """Returns whether `data` fits `schema`, which may have no other keywords than the generator uses."""
    assert set(schema) <= KEYWORDS, set(schema) - KEYWORDS
    if "$ref" in schema and not valid(data, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root):
        return False
    if "type" in schema and not has_type(data, schema["type"]):
        return False
    if "enum" in schema and data not in schema["enum"]:
        return False
    if "anyOf" in schema and not any(valid(data, choice, root) for choice in schema["anyOf"]):
        return False
    if isinstance(data, dict):
        return valid_object(data, schema, root)
    if isinstance(data, list):
        return len(data) >= schema.get("minItems", 0) and all(
            valid(item, schema.get("items", {}), root) for item in data
        )
    if isinstance(data, str):
        return bool(re.search(schema.get("pattern", ""), data)) and len(data) >= schema.get("minLength", 0)
    return data is None or schema.get("minimum", data) <= data <= schema.get("maximum", data)


def has_type(data, names) -> bool:
    if isinstance(names, list):
        return any(has_type(data, name) for name in names)
    if isinstance(data, bool) or data is None:
        return names == {True: "boolean", False: "boolean", None: "null"}[data]
    return names != "null" and isinstance(data, TYPES[names])


def valid_object(data, schema, root) -> bool:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not set(schema.get("required", [])) <= set(data):
        return False
    if not schema.get("minProperties", 0) <= len(data) <= schema.get("maxProperties", 1000):
        return False
    if not all(valid(key, schema.get("propertyNames", {}), root) for key in data):
        return False
    extra = set(data) - set(properties)
    if isinstance(others, bool):
        extra_fit = others or not extra
    else:
        extra_fit = all(valid(data[key], others, root) for key in extra)
    return extra_fit and all(valid(value, properties[key], root) for key, value in data.items() if key in properties)


def fits(text: str) -> bool:
    schema = json_schema()
    return valid(yaml.safe_load(text), schema, schema)


def test_the_schema_is_json_of_draft_2020_12():
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("name", sorted(shipped_specs()))
def test_shipped_specs_fit(name):
    assert fits(shipped_specs()[name].read_text())


def test_canonical_specs_fit():
    schema = json_schema()
    assert valid(load_spec("tiny").canonical(), schema, schema)


def test_a_spec_of_ones_own_fits():
    assert fits(MINI.replace("1e-6", "1.0e-6"))  # PyYAML's own reader still follows YAML 1.1
    assert fits(changed(("weights: enc.pos", "sinusoidal: true"), ("1e-6", "0.1"), ("- gelu", "- gelu:")))


# fmt: off
WRONG = [
    ("- gelu", "- gleu"), ("stride: 2", "strid: 2"), ("- gelu", "- gelu: {out: 3}"), (", weights: enc.conv", ""),
    ("- gelu", "- 12"), ("- gelu", "- [gelu]"), ("- gelu", "-"), ("kernel: 3", "kernel: three"),
    ("kernel: 3", "kernel: 3.5"), ("kernel: 3", "kernel: true"), ("padding: 1", "padding: -1"),
    ("stride: 2", "stride: 0"), ("times: 2", "times: 1001"), ("causal: true", "causal: 1"), ("eps: 1e-6", "eps: 2.0"),
    ("memory: encoder", "memory: decoder"), ("weights: enc.conv", "weights: 12"),
    ("weights: enc.conv", "weights: enc conv"), ("as: i", "as: i-1"), ("d_model: 12", "d_model: 12.5"),
    ("d_model: 12", "d_model: 0"), ("n_heads: 3", "n-heads: 3"), ("name: mini", "name: 12"), ("name: mini\n", ""),
    ("encoder:", "encoders:"), ("{repo: someone/mini}", "someone/mini"), ("repo: someone", "repo: /a"),
    ("  - gelu", "  - residual: []"), ("- gelu", "- {gelu: , relu: }"), ("heads: $n_heads", "heads: $n-heads"),
]
# fmt: on


@pytest.mark.parametrize("change", WRONG)
def test_wrong_specs_do_not_fit(change):
    assert not fits(changed(change).replace("1e-6", "1.0e-6"))


def test_every_field_is_explained():
    forms = json_schema()["$defs"]["layer"]["anyOf"][1]["properties"]
    assert set(forms) == set(kinds())
    for form in forms.values():
        assert form["description"]
        assert all(field.get("description") or "$ref" in field for field in form.get("properties", {}).values())


@dataclass(frozen=True, kw_only=True)
class Bottleneck(Layer):
    """Projects down to `out` channels, and up again."""

    out: int = option("channels in between")
    weights: str = weight_name("prefix of the tensors `down` and `up`")

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        if self.out >= shape.channels:
            raise self.error(f"expected fewer than the {shape.channels} channels of the input, got {self.out}", "out")
        return shape

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        down = self.matrix(f"{self.weights}.down", self.out, shape.channels)
        return [down, self.matrix(f"{self.weights}.up", shape.channels, self.out)]

    def flops(self, workload: Workload) -> int:
        return 4 * workload.query_length * workload.channels * self.out

    def lower(self, ops, x):
        down = ops.linear(x, ops.weight(f"{self.weights}.down"), None)
        return ops.linear(down, ops.weight(f"{self.weights}.up"), None)


def test_a_new_kind_is_one_class(tmp_path, monkeypatch):
    monkeypatch.setattr(layer, "_kinds", dict(kinds()))
    text = changed(("- silu\n", '- silu\n            - bottleneck: {out: 5, weights: "enc.{i}.neck"}\n'))
    path = write(tmp_path, text)
    with pytest.raises(SpecError, match="unknown layer 'bottleneck'"):
        load_spec(path)
    assert not fits(text.replace("1e-6", "1.0e-6"))

    register("bottleneck")(Bottleneck)
    spec = load_spec(path)
    assert fits(text.replace("1e-6", "1.0e-6"))
    shapes = {tensor.name: tensor.shape for tensor in spec.tensors()}
    assert shapes["enc.0.neck.down"] == (5, 24) and shapes["enc.1.neck.up"] == (24, 5)
    node = next(node for node in spec.encoder.walk() if node.path == "encoder.layers[1].residual[1].bottleneck")
    assert (node.input_shape, node.output_shape, node.flops_per_window) == ((50, 24), (50, 24), 4 * 50 * 24 * 5)
    program = recorded(spec, "encoder", Value((1, 100, 16)))
    assert program.outputs["y"].shape == (1, 50, 12)
    assert program.layers[node.path].shape == (1, 50, 24)
    assert Spec.from_canonical(spec.canonical()).hash == spec.hash
    with pytest.raises(SpecError, match=r"mini.yaml:25: .*bottleneck.out: expected fewer than the 24 channels"):
        load_spec(write(tmp_path, text.replace("out: 5", "out: 24")))
    with pytest.raises(ValueError, match="two classes for the layer kind 'bottleneck'"):
        register("bottleneck")(Bottleneck)
