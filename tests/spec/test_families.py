"""A family of models without encoder and decoder, whose only graph keeps a state from call to call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import max_whisper
import numpy as np
import pytest
from max import engine
from max.driver import CPU, Buffer
from max_whisper.compile.modules import cache_folder, external_modules
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.errors import SpecError, UserError
from max_whisper.lowering import family as graph_families
from max_whisper.lowering.builder import Builder
from max_whisper.lowering.family import GraphRecipe, graphs_of
from max_whisper.lowering.lower import lower
from max_whisper.lowering.ops import Input, Program
from max_whisper.plan import BuildPlan
from max_whisper.spec import Spec, json_schema, layer, load_spec
from max_whisper.spec import family as spec_families
from max_whisper.spec.document import SourceLocation
from max_whisper.spec.family import Family, Layers
from max_whisper.spec.layer import Context, Layer, Shape, kinds, option, register
from max_whisper.spec.tree import ModelPart, expand
from support.artifacts import plan_of

SPEC = """\
name: loudness
family: meter
dims: {channels: 4}
frame:
  - moving_average: {decay: 0.75}
  - silu
  - moving_average: {decay: 0.5}
"""
BATCH = 2


@dataclass(frozen=True, kw_only=True)
class MovingAverage(Layer):
    """Computes y = decay * (the last y) + (1 - decay) * x."""

    decay: float = option("weight of the last output", minimum=0, maximum=1)

    def states(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"last": (1, shape.channels)}

    def lower(self, ops, x):
        last = ops.state("last")
        before = ops.mul(ops.read(last), ops.constant(self.decay))
        y = ops.add(before, ops.mul(x, ops.constant(1 - self.decay)))
        ops.write(last, y)
        return y


def expand_meter(
    layers: Layers, dims: Mapping[str, int], locations: Mapping[str, SourceLocation]
) -> dict[str, ModelPart]:
    return {"frame": expand(layers["frame"], Shape(1, dims["channels"]), Context("frame", None))}


def frame(spec: Spec, plan: BuildPlan, kinds: Collection[str]) -> Program:
    x = Input((plan.batch, 1, spec.dims["channels"]))
    states = {
        f"{node.path}.{name}": Input((plan.batch, *shape), state=True)
        for node in spec.parts["frame"].walk()
        for name, shape in node.layer.states(node.input_shape).items()
    }
    builder = Builder(plan.by_name, kinds, {"x": x, **states})
    return builder.program("frame", {"y": spec.parts["frame"].lower(builder, x)})


@pytest.fixture
def meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Registers the family for the time of a test, and returns a spec of it."""
    monkeypatch.setattr(layer, "_kinds", dict(kinds()))
    monkeypatch.setattr(spec_families, "_families", dict(spec_families.families()))
    graphs_of("whisper")
    monkeypatch.setattr(graph_families, "_families", dict(graph_families._families))
    register("moving_average")(MovingAverage)
    spec_families.register(
        Family(
            "meter",
            {"frame": "The layers of one frame."},
            (),
            {"channels": "The channels of a frame."},
            {},
            expand_meter,
        )
    )
    graph_families.register("meter", {"meter": {"frame": GraphRecipe(frame)}})
    path = tmp_path / "loudness.yaml"
    path.write_text(SPEC)
    return path


def test_a_graph_keeps_its_state(meter: Path) -> None:
    spec = load_spec(meter)
    lowered = lower(spec, plan_of(spec, batch=BATCH), "meter", kernels=kernels_package(cache_folder()))
    assert [*lowered.graphs["frame"].inputs] == ["x", "frame.moving_average[0].last", "frame.moving_average[1].last"]
    session = engine.InferenceSession(devices=[CPU()])
    graph = session.load_all(lowered.module, custom_extensions=lowered.extensions)["frame"]
    states = [np.zeros((BATCH, 1, 4), np.float32) for _ in range(2)]
    buffers = [Buffer.from_numpy(state) for state in states]
    expected = [np.zeros((BATCH, 1, 4)) for _ in range(2)]
    rng = np.random.default_rng(0)
    for _ in range(4):
        x = rng.standard_normal((BATCH, 1, 4)).astype(np.float32)
        y = graph.execute(Buffer.from_numpy(x), *buffers)[0].to_numpy()
        expected[0] = 0.75 * expected[0] + 0.25 * x
        expected[1] = 0.5 * expected[1] + 0.5 * expected[0] / (1 + np.exp(-expected[0]))
        np.testing.assert_allclose(y, expected[1], atol=1e-6)
    np.testing.assert_allclose(states[0], expected[0], atol=1e-6)


def test_a_spec_of_another_family(meter: Path) -> None:
    spec = load_spec(meter)
    assert spec.family == "meter" and [*spec.parts] == ["frame"]
    assert Spec.from_canonical(spec.canonical()).hash == spec.hash
    assert "frame" in json_schema()["properties"] and "meter" in json_schema()["properties"]["family"]["enum"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("family: meter", "family: metre"), "loudness.yaml:2: family: unknown family 'metre'.*did you mean 'meter'"),
        (("frame:", "encoder:"), "loudness.yaml:4: unknown key 'encoder'; expected .*frame"),
        (("channels: 4", "channel: 4"), "loudness.yaml:3: dims.channel: expected the dimension channels; did you mean"),
        (("family: meter\n", ""), "unknown key 'frame'; expected .*encoder"),
    ],
)
def test_errors_know_the_family(meter: Path, change: tuple[str, str], message: str) -> None:
    meter.write_text(SPEC.replace(*change))
    with pytest.raises(SpecError, match=message):
        load_spec(meter)


def test_a_family_has_graphs(meter: Path) -> None:
    with pytest.raises(UserError, match=r"no graphs for the family 'meteor': expected .*did you mean 'meter'"):
        graphs_of("meteor")
    with pytest.raises(ValueError, match="two lists of graphs for the family 'meter'"):
        graph_families.register("meter", {})
    with pytest.raises(ValueError, match="two families of the name 'meter'"):
        spec_families.register(Family("meter", {}, (), {}, {}, expand_meter))


def test_the_compiler_imports_what_a_family_is_made_of(meter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert external_modules(load_spec("nano")) == []
    assert external_modules(load_spec(meter)) == [__name__]
    monkeypatch.setattr(frame, "__module__", "__main__")
    with pytest.raises(UserError, match="graphs of the family 'meter': it is defined in the program that runs"):
        external_modules(load_spec(meter))


def test_an_artifact_is_whispers(meter: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a spec of the family 'meter' cannot be built: expected one of whisper, vad"):
        max_whisper.build(meter, weights=tmp_path, out=tmp_path / "artifact")
