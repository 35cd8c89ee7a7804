"""Makes artifacts that have something wrong, for the tests of loading."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import max_whisper
import msgspec
import pytest
from blake3 import blake3
from max_whisper.artifact.manifest import MANIFEST_FILE, NO_HASH, File, Manifest, Port
from max_whisper.artifact.read import read_manifest
from max_whisper.compile.planning import with_tensors
from max_whisper.errors import MaxWhisperError
from max_whisper.plan import BuildPlan, SpecIdentity, Target
from max_whisper.spec import Spec

FILES = ("manifest.json", "encoder.mef", "decoder.mef", "weights.safetensors", "vocab.tiktoken", "spec.json")


def copy(artifact: Path, to: Path) -> Path:
    """Returns a copy whose files are links to the original's: change them by `replace` only."""
    shutil.copytree(artifact, to, copy_function=os.link)
    return to


def replace(path: Path, content: bytes) -> None:
    """Writes a new file in place of another, to which other copies may be linked."""
    path.unlink()
    path.write_bytes(content)


def flip(path: Path, position: int, bit: int) -> None:
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    replace(path, bytes(content))


def reseal(folder: Path, **changes: Any) -> Manifest:
    """Changes fields of the manifest, and makes every size and hash right again, its own too."""
    manifest = msgspec.structs.replace(read_manifest(folder), **changes)
    if "files" not in changes:
        files = {name: _file(folder / name) for name in manifest.files}
        manifest = msgspec.structs.replace(manifest, files=files)
    replace(folder / MANIFEST_FILE, manifest.sealed())
    return manifest


def replan(folder: Path, **changes: Any) -> Manifest:
    """Changes fields of the plan, and reseals."""
    return reseal(folder, plan=msgspec.structs.replace(read_manifest(folder).plan, **changes))


def plan_of(
    spec: Spec,
    *,
    dtype: str = "float32",
    kernels: str = "ours",
    batch: int = 1,
    device: str = "cpu",
    features: Sequence[str] = (),
) -> BuildPlan:
    """Returns a plan without a checkpoint; the heads of the first cross-attention, if any, are alignment heads."""
    whisper = spec.family == "whisper"
    heads = [(0, head) for head in range(spec.cross_attentions()[0].heads)] if whisper else []
    target = Target(device, "x86_64" if device == "cpu" else "sm_90a", [*features])
    plan = BuildPlan(SpecIdentity(spec.name, spec.hash), target, dtype, kernels, batch, heads, tensors=[])
    return with_tensors(plan, spec, lossless={})


def plan_for_gpu(folder: Path, target: Target) -> Manifest:
    """Changes the plan to one for a GPU, with MAX's kernels, one text of a window and nothing packed, and reseals."""
    manifest = read_manifest(folder)
    tensors = [msgspec.structs.replace(tensor, packed=False) for tensor in manifest.plan.tensors]
    plan = msgspec.structs.replace(manifest.plan, target=target, kernels="max", tensors=tensors)
    graphs = {}
    for name, graph in manifest.graphs.items():
        sizes = {"texts": plan.batch, **({"length": 1} if name == "step" else {})}
        ports = [[_sized(port, sizes) for port in part] for part in (graph.inputs, graph.outputs)]
        graphs[name] = msgspec.structs.replace(graph, inputs=ports[0], outputs=ports[1])
    return reseal(folder, plan=plan, graphs=graphs)


def _sized(port: Port, sizes: Mapping[str, int]) -> Port:
    """Returns the port with sizes in place of the names of dimensions."""
    shape = [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in port.shape]
    return msgspec.structs.replace(port, shape=shape)


def _file(path: Path) -> File:
    content = path.read_bytes()
    return File(len(content), blake3(content).hexdigest())


def write_fields(folder: Path, fields: dict[str, Any]) -> None:
    """Writes any JSON object as the manifest, with the right hash if it has a field for one."""
    text = json.dumps(fields | ({"hash": NO_HASH} if "hash" in fields else {})).encode()
    replace(folder / MANIFEST_FILE, text.replace(NO_HASH.encode(), blake3(text).hexdigest().encode(), 1))


def refusal(folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[MaxWhisperError]) -> str:
    """Returns the sentence with which loading refuses an artifact, before MAX has read any of its files."""

    def reached(*args: Any, **options: Any) -> None:
        raise AssertionError("MAX was given a file of an artifact that should have been refused")

    with monkeypatch.context() as patch:
        patch.setattr("max_whisper.artifact.load.load_graphs", reached)
        with pytest.raises(MaxWhisperError) as raised:
            max_whisper.load(folder)
    assert type(raised.value) is error
    message = str(raised.value)
    assert "\n" not in message
    assert folder.name in message
    return message
