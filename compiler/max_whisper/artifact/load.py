"""A folder -> compiled graphs that can be executed, or one sentence why not.

MAX checks nothing: a MEF has no version, no target and no checksum, and a weight of another shape is read out of
bounds. So everything in the manifest is checked here before MAX sees a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3
from max.driver import CPU, Accelerator, Buffer, Device
from max.dtype import DType

from max_whisper import safetensors
from max_whisper.artifact.engine import MAX_VERSION, Executable, load_graphs
from max_whisper.artifact.manifest import FILE, File, Manifest, Tensor, read_manifest
from max_whisper.artifact.scheduling import RunsFirst
from max_whisper.artifact.target import check_machine
from max_whisper.errors import ArtifactError, UserError, WeightsError

WEIGHTS = "weights.safetensors"
VOCABULARY = "vocab.tiktoken"
SPEC = "spec.json"
GRAPHS = ("encoder", "cross_kv", "decoder", "step", "alignment")
ONCE_A_WINDOW = ("encoder", "cross_kv")  # one of them runs before the others can


@dataclass(frozen=True)
class Artifact:
    """An artifact that was checked and is ready to run."""

    folder: Path
    manifest: Manifest
    graphs: Mapping[str, Executable]  # by the names in GRAPHS
    device: Device
    weights: Mapping[str, Buffer]  # MAX reads these in place: they must live as long as the graphs


def open_artifact(folder: str | Path) -> Artifact:
    """Checks an artifact and makes it ready to run.

    Raises UserError where there is no artifact; ArtifactError where it is damaged or not for this machine or this MAX.
    """
    folder = Path(folder)
    manifest = check_artifact(folder)
    device: Device = CPU() if manifest.target.device == "cpu" else Accelerator()
    return start(folder, folder, manifest, device)


def start(folder: Path, compiled: Path, manifest: Manifest, device: Device) -> Artifact:
    """Gives the weights of an artifact to the compiled graphs, which are the artifact's own or others for it.

    Nothing is checked. Raises ArtifactError where MAX refuses a file.
    """
    try:
        arrays = safetensors.open_tensors(folder / WEIGHTS)
        weights = {name: _placed(array, device) for name, array in arrays.items()}
        files = sorted({graph.file for graph in manifest.graphs.values()})
        graphs: dict[str, Executable] = {**load_graphs([compiled / file for file in files], device, weights)}
    except (RuntimeError, ValueError) as e:
        raise ArtifactError(f"{folder}: MAX cannot load it ({_first_line(e)}); build the artifact again") from e
    graphs |= {name: RunsFirst(graphs[name]) for name in ONCE_A_WINDOW}
    return Artifact(folder, manifest, graphs, device, weights)


def check_artifact(folder: Path, *, machine: bool = True) -> Manifest:
    """All that open_artifact checks without MAX's engine; the errors are the same.

    machine: whether it must fit this machine and this MAX, too.
    """
    if not folder.exists():
        raise UserError(f"there is no folder {folder}; make one with: max-whisper build --spec tiny.yaml")
    if not (folder / FILE).is_file():
        raise UserError(
            f"{folder} is no artifact (it has no {FILE}); make one with: max-whisper build --spec tiny.yaml"
        )
    manifest = read_manifest(folder)
    if machine and manifest.max != MAX_VERSION:
        raise ArtifactError(
            f"{folder} was compiled by MAX {manifest.max}, this is MAX {MAX_VERSION}; build the artifact again, "
            f"or install max=={manifest.max}"
        )
    if machine:
        check_machine(manifest.target, folder)
    for name, file in manifest.files.items():
        try:
            _check_file(folder, name, file)
        except OSError as e:
            raise ArtifactError(f"{folder / name}: {e.strerror}; expected a file that can be read") from e
    expected = {WEIGHTS, VOCABULARY, SPEC, *(graph.file for graph in manifest.graphs.values())}
    if missing := sorted(expected - manifest.files.keys()) + sorted(set(GRAPHS) - manifest.graphs.keys()):
        raise ArtifactError(f"{folder / FILE}: expected {', '.join(missing)} to be listed; build the artifact again")
    _check_tensors(folder / WEIGHTS, manifest.tensors)
    return manifest


def _check_file(folder: Path, name: str, file: File) -> None:
    path = folder / name
    if Path(name).name != name or name in ("", ".", ".."):
        raise ArtifactError(f"{folder / FILE}: expected plain file names, found '{name}', which leaves the folder")
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(f"{path}: expected a file of {file.size} bytes, there is none; build the artifact again")
    size = path.stat().st_size
    if size != file.size:
        raise ArtifactError(f"{path}: expected {file.size} bytes, found {size}; build the artifact again")
    found = hash_file(path)
    if found != file.blake3:
        raise ArtifactError(
            f"{path}: expected content with BLAKE3 {file.blake3[:16]}…, found {found[:16]}…; "
            "the file was damaged after the build, build the artifact again"
        )


def _check_tensors(path: Path, expected: list[Tensor]) -> None:
    try:
        found = safetensors.read_header(path)
    except WeightsError as e:
        raise ArtifactError(f"{e}; build the artifact again") from e
    for tensor in expected:
        info = found.pop(tensor.name, None)
        if info is None:
            raise ArtifactError(f"{path}: tensor '{tensor.name}' is missing; build the artifact again")
        if (info.dtype, list(info.shape)) != (tensor.dtype, tensor.shape):
            raise ArtifactError(
                f"{path}: expected '{tensor.name}' as {tensor.dtype} {tensor.shape}, found {info.dtype} "
                f"{list(info.shape)}; build the artifact again"
            )
    if found:
        raise ArtifactError(f"{path}: unexpected tensor '{next(iter(found))}'; build the artifact again")


def hash_file(path: Path) -> str:
    """BLAKE3 in hexadecimal, over all cores: 20 ms for 150 MB that are in memory."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def _placed(array: np.ndarray, device: Device) -> Buffer:
    """bfloat16, which numpy lacks, comes as uint16."""
    buffer = Buffer.from_numpy(array)
    if array.dtype == np.uint16:
        buffer = buffer.view(DType.bfloat16)
    return buffer if device.is_host else buffer.to(device)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
