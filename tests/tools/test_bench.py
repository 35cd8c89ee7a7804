"""`max-whisper bench`: what the clocks see, how layers are counted, and what the command says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from max.driver import Buffer
from max_whisper.artifact.load import open_artifact
from max_whisper.artifact.manifest import SPEC_FILE
from max_whisper.compile.modules import cache_folder
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.lowering.family import timed_graphs
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.lowering.lower import lower
from max_whisper.runtime.decoding.decoder import Decoder
from max_whisper.spec import Spec, load_spec
from max_whisper.spec.counts import weights_read
from max_whisper.tools.bench import peak_rates
from max_whisper.tools.bench.clocks import Instrumented, InstrumentedGraph, Times, compile_instrumented
from max_whisper.tools.bench.phases import NoiseWindows
from max_whisper.tools.bench.roofline import TOKEN_CHOICE, Roofline, for_one_token, roofline, whisper_layers
from support.artifacts import copy, plan_of
from support.command import error, run
from support.models.mini import MINI

GRAPHS = timed_graphs("whisper")
PEAK_RATES = {"float32": 200.0, "bfloat16": 400.0, "int8": 800.0, "memory": 40.0}
POSITION = 7


def kernel_calls(spec: Spec, **options) -> dict[str, list[KernelCall]]:
    """Of each graph that is measured, without compiling it."""
    cache, plan = cache_folder(), plan_of(spec, **options)
    packages = {"kernels": kernels_package(cache), "probes": kernels_package(cache, "probes")}
    calls = {**lower(spec, plan, "encoder", **packages).calls, **lower(spec, plan, "decoder", **packages).calls}
    assert [*calls] == [*GRAPHS]
    return calls


def rooflines(spec: Spec, calls: dict[str, list[KernelCall]], batch: int = 1) -> dict[str, Roofline]:
    """Of each graph: every kernel takes a millisecond."""
    return {
        graph: roofline(
            graph,
            for_one_token(calls[graph], batch),
            Times([1.0] * len(calls[graph]), len(calls[graph]) + 0.5),
            layers=whisper_layers(spec, graph, batch, POSITION),
            peak_rates=PEAK_RATES,
            position=POSITION,
        )
        for graph in GRAPHS
    }


@pytest.fixture(params=["tiny", "large-v3", "mini"])
def any_spec(request: pytest.FixtureRequest, tmp_path: Path) -> Spec:
    if request.param != "mini":
        return load_spec(request.param)
    path = tmp_path / "mini.yaml"
    path.write_text(MINI)
    return load_spec(path)


@pytest.mark.parametrize(("dtype", "batch"), [("float32", 1), ("bfloat16", 3), ("int8", 1)])
def test_the_kernels_do_the_flops_of_the_spec(any_spec: Spec, dtype: str, batch: int):
    found = rooflines(any_spec, kernel_calls(any_spec, dtype=dtype, batch=batch), batch)
    encoder = sum(node.flops_per_window for node in any_spec.encoder.nodes)
    assert found["encoder"].flops == batch * encoder
    assert found["cross_kv"].flops == batch * (any_spec.flops_per_window() - encoder)
    assert found["step"].flops == batch * any_spec.flops_per_token(POSITION)


def test_the_layers_of_a_row_have_its_flops(any_spec: Spec):
    nodes = {node.path: node for side in (any_spec.encoder, any_spec.decoder) for node in side.walk()}
    for graph, found in rooflines(any_spec, kernel_calls(any_spec)).items():
        for row in found.rows:
            layers = [nodes[path] for paths in row.copies for path in paths]
            per_token = graph == "step"
            assert (
                row.flops
                == row.layer_flops
                == sum(node.flops_per_token(POSITION) if per_token else node.flops_per_window for node in layers)
            )


def test_layers_without_our_kernels_have_the_flops_of_the_spec(any_spec: Spec):
    ours = rooflines(any_spec, kernel_calls(any_spec, batch=3), 3)
    of_max = rooflines(any_spec, {graph: [] for graph in GRAPHS}, 3)
    for graph, found in of_max.items():
        assert all(len(row.layers) == 1 and not row.kernels for row in found.rows)
        assert found.flops == ours[graph].flops > 0
        assert sum(len(row.copies) for row in found.rows) == sum(
            len(paths) for row in ours[graph].rows for paths in row.copies if row.layers != [TOKEN_CHOICE]
        )


def test_every_layer_is_in_one_row(any_spec: Spec):
    found = rooflines(any_spec, kernel_calls(any_spec))
    layers = {graph: [path for row in found[graph].rows for paths in row.copies for path in paths] for graph in GRAPHS}
    for graph, side in (("encoder", any_spec.encoder), ("step", any_spec.decoder)):
        assert sorted(layers[graph]) == sorted(node.path for node in side.walk() if not node.children)
    assert layers["cross_kv"] == [layer.path for layer in any_spec.cross_attentions()]


def test_copies_of_a_layer_are_added_up():
    spec = load_spec("tiny")
    tiny = rooflines(spec, kernel_calls(spec, dtype="int8"))
    first, second, attention, *_ = tiny["encoder"].rows
    assert first.layers == ["encoder.conv1d[0]", "encoder.gelu[0]"]
    assert second.layers == ["encoder.conv1d[1]", "encoder.gelu[1]", "encoder.positions"]
    assert len(attention.copies) == 4
    assert [kernel.name for kernel in attention.kernels] == ["gemm_qkv", "full_attention", "gemm"]
    assert all(kernel.ms == kernel.copies == 4 for kernel in attention.kernels)
    product, products_of_attention = attention.kernels[:2]
    assert product.arithmetic_ms == pytest.approx(product.flops / 800e6)
    assert products_of_attention.arithmetic_ms == pytest.approx(products_of_attention.flops / 800e6)
    assert tiny["encoder"].outside_kernels == pytest.approx(0.5)


def test_a_token_reads_its_weights_and_what_caches_hold():
    spec = load_spec("tiny")
    found = rooflines(spec, kernel_calls(spec))["step"]
    weights = 4 * weights_read(spec)[1]
    memory = 4 * 2 * 4 * 1500 * 384
    assert weights + memory < found.bytes < 1.02 * (weights + memory)
    (kernel,) = [kernel for row in found.rows for kernel in row.kernels if kernel.name == "decoder_layer"]
    activations = 4 * 384
    filled = 4 * 2 * (POSITION + 1) * activations
    table = 4 * 51865 * 384
    assert kernel.bytes == pytest.approx(weights - table + memory + filled, rel=1e-3)
    assert kernel.flops == 4 * 2 * (14 * 384**2 + 2 * 384 * (POSITION + 1) + 2 * 384 * 1500)
    assert found.rows[0].layers == ["decoder.embedding", "decoder.positions"]
    assert found.rows[0].bytes < 6 * activations


@pytest.fixture(scope="module")
def instrumented(artifact: Path) -> Instrumented:
    spec = Spec.from_canonical(json.loads((artifact / SPEC_FILE).read_text()))
    return compile_instrumented(open_artifact(artifact), spec, lambda message: None)


def test_clocks_change_nothing(artifact: Path, instrumented: Instrumented):
    windows = NoiseWindows(open_artifact(artifact), 20)
    graphs = {
        graph: InstrumentedGraph(instrumented.artifact.graphs[graph], len(instrumented.calls[graph]))
        for graph in GRAPHS
    }
    mel = windows.log_mel()
    features = windows.encode(mel)
    (found,) = graphs["encoder"].execute(Buffer.from_numpy(mel))
    assert np.array_equal(found.to_numpy(), features.to_numpy())
    decoder = Decoder(replace(windows.artifact, graphs={**windows.artifact.graphs, **graphs}))
    memory, expected = decoder.cross_kv(features), windows.decoder.cross_kv(features)
    for one, other in zip(memory, expected, strict=True):
        assert np.array_equal(one.to_numpy(), other.to_numpy())
    tokens = windows.decode(expected, 20)
    assert windows.decode(memory, 20, decoder) == tokens
    assert len(tokens[0]) == 20
    assert len(graphs["step"].runs) == 19
    for graph in GRAPHS:
        assert all((kernels > 0).all() for kernels in graphs[graph].runs)


def test_no_two_kernels_run_at_once(artifact: Path, instrumented: Instrumented):
    windows = NoiseWindows(open_artifact(artifact), 2)
    times = np.zeros(2 * len(instrumented.calls["encoder"]), np.int64)
    instrumented.artifact.graphs["encoder"].execute(Buffer.from_numpy(windows.log_mel()), Buffer.from_numpy(times))
    assert (np.diff(times) > 0).all()


# --- the command


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """PeakRates that are no good."""
    monkeypatch.setattr(peak_rates, "RUNS", 1)
    monkeypatch.setattr(peak_rates, "STEPS", 1000)
    monkeypatch.setattr(peak_rates, "MEMORY", 1 << 20)


def test_bench(artifact: Path, instrumented: Instrumented, tmp_path: Path, quick: None):
    file = tmp_path / "figures.json"
    outcome = run("bench", artifact, "--tokens", "5", "--rounds", "2", "--json", file)
    assert outcome.code == 0
    for text in ("a window of 2 s, 5 tokens", "each later token", "peak memory", "machine's peak rates"):
        assert text in outcome.stdout
    assert "encoder.layers[0].residual[0].layernorm + attention  × 2" in outcome.stdout
    figures = json.loads(file.read_text())
    assert (figures["dtype"], figures["tokens"], figures["rounds"], figures["seconds"]) == ("float32", 5, 2, 2.0)
    assert set(figures["phases"]) == {"load", "log_mel", "encoder", "cross_kv", "first", "token", "total"}
    assert {"float32", "memory"} <= set(figures["peak_rates"])
    for graph in GRAPHS:
        found = figures["graphs"][graph]
        assert found["outside_kernels_ms"] == pytest.approx(found["graph_ms"] - found["kernels_ms"])
        assert found["flops"] == sum(row["flops"] for row in found["rows"])
        assert all(kernel["ms"] > 0 for row in found["rows"] for kernel in row["kernels"])


def test_bench_with_max_kernels(max_artifact: Path, tmp_path: Path, quick: None):
    """Nothing is compiled once more: MAX's kernels have no clocks around them."""
    file = tmp_path / "figures.json"
    outcome = run("bench", max_artifact, "--tokens", "5", "--rounds", "2", "--json", file)
    assert outcome.code == 0 and "compiled" not in outcome.stderr
    assert "with MAX's own kernels" in outcome.stdout and "all kernels" not in outcome.stdout
    figures = json.loads(file.read_text())
    assert figures["kernels"] == "max" and figures["phases"]["total"] > 0
    for graph in GRAPHS:
        found = figures["graphs"][graph]
        assert found["graph_ms"] > 0
        assert found["flops"] == sum(row["flops"] for row in found["rows"]) > 0
        assert not any(row["kernels"] for row in found["rows"])


def test_only_artifacts_for_a_cpu_are_measured(cuda_artifact: Path):
    assert "only artifacts for a CPU" in error(run("bench", cuda_artifact))


def test_wrong_use(artifact: Path, tmp_path: Path):
    assert "there is no folder" in error(run("bench", tmp_path / "nothing"))
    assert "expected 2 to 445" in error(run("bench", artifact, "--tokens", "446"))
    assert "expected 2 to 100000, got 1" in error(run("bench", artifact, "--tokens", "1"))
    said = error(run("bench", artifact, "--json", tmp_path / "no" / "x.json"))
    assert f"there is no folder {tmp_path / 'no'} that can be written to" in said
    assert "--rounds" in error(run("bench", artifact, "--rounds", "0"))
    assert "--threads" in error(run("bench", artifact, "--threads", "4096"))
    damaged = copy(artifact, tmp_path / "damaged")
    (damaged / "encoder.mef").unlink()
    assert "there is none" in error(run("bench", damaged), code=1)
