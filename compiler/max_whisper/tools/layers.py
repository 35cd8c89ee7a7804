"""Returns the layers of an artifact as JSON values, with the times of a benchmark where one was kept beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from max_whisper.artifact.manifest import MANIFEST_FILE, WhisperManifest
from max_whisper.artifact.read import read_manifest
from max_whisper.compile.stored_spec import read_spec
from max_whisper.errors import UserError
from max_whisper.plan import BuildPlan
from max_whisper.spec import Spec
from max_whisper.spec.layer import Layer
from max_whisper.spec.tree import LayerNode, ModelPart

BENCH_SUFFIX = ".bench.json"
MAX_BENCH_BYTES = 16 << 20
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]


class BenchRow(msgspec.Struct):
    """A row of a benchmark: layers that are computed together, in each of their copies, and their time."""

    layers: list[list[str]]
    ms: Milliseconds


class BenchGraph(msgspec.Struct):
    """The rows of a graph, and the time of the whole graph, in which no clocks run."""

    graph_ms: Milliseconds
    rows: list[BenchRow]


class BenchFile(msgspec.Struct):
    """What is read of the file that `max-whisper bench ARTIFACT --json FILE` writes."""

    model: str
    dtype: str
    kernels: str
    batch: int
    tokens: int
    seconds: float
    threads: int
    graphs: dict[str, BenchGraph]


def layer_report(folder: Path) -> dict[str, Any]:
    """Returns the layers of a Whisper's artifact: shapes, parameters, FLOPs, and times where a benchmark is at hand.

    The repeated layers of a part are listed once, with the number of their copies.

    Raises ArtifactError where the folder holds no sound artifact, UserError where it is no Whisper.
    """
    manifest = read_manifest(folder)
    if not isinstance(manifest, WhisperManifest):
        raise UserError(f"{folder}: it is an artifact of the family {manifest.family}, expected a Whisper")
    spec = read_spec(folder, manifest)
    times, why_not = bench_times(folder, manifest.plan)
    return {
        "spec": spec.name,
        "dtype": manifest.plan.dtype,
        "parameters": sum(tensor.size for tensor in spec.tensors() if tensor.computed is None),
        "parts": {name: [*_layers(spec, part)] for name, part in spec.parts.items()},
        "times": times,
        "no_times": why_not,
    }


def bench_times(folder: Path, plan: BuildPlan) -> tuple[dict[str, Any] | None, str]:
    """Returns the times of the benchmark beside an artifact; None, and a sentence that says why, where there are none.

    The file is called as the folder is, with `.bench.json` behind it. One of another build is not shown.
    """
    folder = folder.resolve()
    path = folder.with_name(folder.name + BENCH_SUFFIX)
    # Without the folders that they are in: who may use a server need not learn where its files are.
    command = f"max-whisper bench {folder.name} --json {path.name}"
    try:
        if path.stat().st_size > MAX_BENCH_BYTES:
            raise ValueError(f"it has more than {MAX_BENCH_BYTES} bytes")
        bench = msgspec.json.decode(path.read_bytes(), type=BenchFile)
        older = path.stat().st_mtime < (folder / MANIFEST_FILE).stat().st_mtime
    except OSError:
        how = f"run {command} in the folder that the artifact is in, and open this page again"
        return None, f"No times were measured yet: {how}."
    except ValueError as error:  # msgspec.DecodeError is one
        return None, f"The times in {path.name} cannot be read ({error}): run {command} again."
    measured = (bench.model, bench.dtype, bench.kernels, bench.batch)
    if older or measured != (plan.spec.name, plan.dtype, plan.kernels, plan.batch):
        return None, f"The times in {path.name} are of another build: run {command} again."
    graphs = {
        name: {
            "ms": graph.graph_ms,
            "rows": [{"layers": row.layers[0], "copies": len(row.layers), "ms": row.ms} for row in graph.rows],
        }
        for name, graph in bench.graphs.items()
        if all(row.layers and row.layers[0] for row in graph.rows)
    }
    about = {"threads": bench.threads, "tokens": bench.tokens, "seconds": bench.seconds, "batch": bench.batch}
    return {**about, "measured": path.stat().st_mtime, "graphs": graphs}, ""


def _layers(spec: Spec, part: ModelPart) -> Iterator[dict[str, Any]]:
    """Yields the layers of a part, without the containers that they are in."""
    copies: dict[str, int] = {}
    for node, alike in shown_layers(part):
        copies |= {below.path: copies.get(below.path, 1) * alike for below in node.walk()}
        if node.children:
            continue
        yield {
            "path": node.path,
            "kind": node.layer.kind,
            "copies": copies[node.path],
            "output": list(map(str, node.output_shape)),
            "parameters": sum(tensor.size for tensor in node.tensors if tensor.computed is None),
            "flops_per_window": node.flops_per_window,
            "flops_per_token": node.flops_per_token(spec.n_text_ctx - 1),
        }


def shown_layers(tree: ModelPart | LayerNode, *, every: bool = False) -> Iterator[tuple[LayerNode, int]]:
    """Yields the nodes to show, each with the number of copies that it stands for.

    every: whether each copy of a repeated layer is shown, instead of the first alone.
    """
    nodes = tree.nodes if isinstance(tree, ModelPart) else tree.children
    for place, node in enumerate(nodes):
        repeated = node.layer.kind == "repeat" and not every
        if repeated and place > 0 and _are_copies(nodes[place - 1].layer, node.layer):
            continue
        copies = sum(_are_copies(node.layer, other.layer) for other in nodes) if repeated else 1
        yield node, copies
        yield from shown_layers(node, every=every)


def _are_copies(one: Layer, other: Layer) -> bool:
    """Returns whether two nodes are copies of one layer of the spec."""
    return one.kind == other.kind and one.canonical() == other.canonical()
