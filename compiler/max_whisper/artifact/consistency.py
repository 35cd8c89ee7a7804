"""Checks that the parts of a manifest fit together: dimensions, token ids, files, the plan, and the ports of graphs.

The runtime and MAX rely on all of this: with an id out of range, or a shape that is not the graph's, they would read
out of bounds. Each field by itself is checked by its type (manifest.py), and whether the compiled code has the ports of
the manifest is checked once MAX has loaded it (load.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from max_whisper.artifact.family import ArtifactFamily, Shape, Signature, artifact_family, shape_of
from max_whisper.artifact.manifest import SPEC_FILE, WEIGHTS_FILE, Manifest, Port
from max_whisper.plan import MATRIX_DTYPES, BuildPlan
from max_whisper.tensors.stored import StoredTensor

MAX_SPEC_BYTES = 16 << 20
MAX_DIMS = 8
"""The most dimensions of a tensor."""


def check_consistency(manifest: Manifest) -> None:
    """Raises a ValueError that says what was expected and what was found where two parts contradict each other."""
    family = artifact_family(manifest.family)
    _check_files(manifest, family)
    for name in family.dims:
        if name not in manifest.dims:
            raise ValueError(f"expected a dimension '{name}'")
    size = manifest.files[SPEC_FILE].size
    if size > MAX_SPEC_BYTES:
        raise ValueError(f"expected at most {MAX_SPEC_BYTES} bytes of {SPEC_FILE}, found {size}")
    _check_plan(manifest.plan)
    family.check(manifest)
    for name, (inputs, outputs) in family.signatures(manifest).items():
        _check_ports(f"graph {name}: input", inputs, manifest.graphs[name].inputs)
        _check_ports(f"graph {name}: output", outputs, manifest.graphs[name].outputs)


def _check_files(manifest: Manifest, family: ArtifactFamily) -> None:
    """Raises ValueError unless the manifest lists exactly the files and graphs that an artifact has."""
    for name in manifest.files:
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"expected plain file names, found '{name}', which leaves the folder")
    graphs = manifest.graphs
    expected = [
        WEIGHTS_FILE,
        *family.files,
        SPEC_FILE,
        *(graph.file for graph in graphs.values()),
        *family.graphs.values(),
    ]
    missing = [name for name in dict.fromkeys(expected) if name not in manifest.files]
    missing += [name for name in family.graphs if name not in graphs]
    if missing:
        raise ValueError(f"expected {', '.join(missing)} to be listed")
    unknown = [*(manifest.files.keys() - set(expected)), *(graphs.keys() - family.graphs.keys())]
    if unknown:
        raise ValueError(f"expected no '{min(unknown)}' to be listed")
    for name, file in family.graphs.items():
        if graphs[name].file != file:
            raise ValueError(f"expected graph {name} in {file}, found {graphs[name].file}")


def _check_plan(plan: BuildPlan) -> None:
    """Raises ValueError where the target, kernels, dtype and tensors of a plan do not fit together."""
    if plan.kernels not in plan.target.kernels:
        raise ValueError(f"expected kernels for {plan.target}, found '{plan.kernels}'")
    if plan.dtype not in MATRIX_DTYPES[plan.kernels]:
        raise ValueError(f"expected a dtype that kernels '{plan.kernels}' support, found {plan.dtype}")
    for tensor in plan.tensors:
        _check_tensor(plan, tensor)
    names = Counter(name for tensor in plan.tensors for name in (tensor.name, tensor.scales) if name is not None)
    if twice := next((name for name, count in names.items() if count > 1), None):
        raise ValueError(f"expected each tensor once, found '{twice}' twice")
    if not any(tensor.matrix and tensor.dtype == plan.dtype for tensor in plan.tensors):
        raise ValueError(f"expected matrices of dtype {plan.dtype}, the dtype of the build, found none")


def _check_tensor(plan: BuildPlan, tensor: StoredTensor) -> None:
    """Raises ValueError for a rank, a layout or a dtype that no tensor has in a build of this plan."""
    least = 2 if tensor.matrix else 1
    if not least <= len(tensor.shape) <= MAX_DIMS:
        raise ValueError(f"expected {least} to {MAX_DIMS} dimensions of '{tensor.name}', found {tensor.shape[:100]}")
    if tensor.packed and not (tensor.matrix and plan.packed):
        raise ValueError(f"expected '{tensor.name}' not to be packed")
    expected: list[str] = [plan.dtype if tensor.matrix else "float32"]
    if tensor.matrix and not tensor.packed:
        expected += {*plan.lossless_dtypes, plan.logits_dtype} - {plan.dtype}
    if tensor.dtype not in expected:
        raise ValueError(
            f"expected '{tensor.name}' as {' or '.join(expected)} in a build of {plan.dtype}, found {tensor.dtype}"
        )


def _check_ports(where: str, expected: Signature, ports: Sequence[Port]) -> None:
    """Raises ValueError unless the ports of a graph are the expected ones."""
    if len(expected) != len(ports):
        raise ValueError(f"{where}s: expected {len(expected)}, found {len(ports)}")
    for number, ((name, dtype, shape), port) in enumerate(zip(expected, ports, strict=True)):
        if (name, dtype, shape) != (port.name, port.dtype, shape_of(port)):
            raise ValueError(
                f"{where} {number}: expected '{name}' as {dtype} {_format(shape)}, found '{port.name}' as {port.dtype} "
                f"{_format(shape_of(port))}"
            )


def _format(shape: Shape) -> str:
    return "[" + ", ".join("any" if dim is None else str(dim) for dim in shape) + "]"
