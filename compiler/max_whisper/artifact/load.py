"""Loads an artifact folder, or refuses it with one sentence that says why.

MAX checks nothing: a MEF has no version, no target and no checksum, and a weight of another shape is read out of
bounds. So everything in the manifest is checked here, before MAX sees a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from blake3 import blake3
from max.driver import CPU, Accelerator, Buffer, Device
from max.dtype import DType

from max_whisper.artifact.cores import core_sharing
from max_whisper.artifact.engine import MAX_VERSION, Executable, load_graphs
from max_whisper.artifact.family import artifact_family, shape_of
from max_whisper.artifact.manifest import MANIFEST_FILE, WEIGHTS_FILE, WHISPER, File, Manifest, WhisperManifest
from max_whisper.artifact.process import inside_max
from max_whisper.artifact.read import holds, read_manifest
from max_whisper.artifact.rebuild import package_version, rebuild_command
from max_whisper.artifact.scheduling import LowPriorityThreadsGraph
from max_whisper.artifact.target import check_machine
from max_whisper.artifact.unchanged import Unchanged
from max_whisper.errors import ArtifactError, UserError, WeightsError
from max_whisper.files import expanded
from max_whisper.plan import BuildPlan
from max_whisper.tensors import safetensors_file
from max_whisper.tensors.dtypes import BFLOAT16

IMPORTING_PROCESS = os.getpid()
ManifestType = TypeVar("ManifestType", bound=Manifest)


@dataclass(frozen=True)
class Artifact(Generic[ManifestType]):
    """An artifact that has been checked and is ready to run.

    Attributes:
        folder: Its folder.
        manifest: Its manifest.
        graphs: Its graphs, by name.
        device: The device that they run on.
        weights: The weights, by name; MAX reads them in place, so they must live as long as the graphs.
        files: The files that are mapped into memory.
    """

    folder: Path
    manifest: ManifestType
    graphs: Mapping[str, Executable]
    device: Device
    weights: Mapping[str, Buffer]
    files: Unchanged

    @property
    def core_sharing(self) -> AbstractContextManager[None]:
        """A context that claims CPU cores; each execution enters it, and entering it once for many saves 40 us each."""
        return core_sharing if self.device.is_host else nullcontext()

    def check(self) -> None:
        """Checks, in a microsecond, that the artifact can still be run; to be called before each window.

        Raises ForkError in a forked process, and ArtifactError where a file was changed in place.
        """
        inside_max.check()
        self.files.check()


WhisperArtifact: TypeAlias = Artifact[WhisperManifest]


def open_artifact(folder: str | PathLike[str]) -> WhisperArtifact:
    """Checks the artifact of a Whisper, makes it ready to run, and returns it, as `open_family` does."""
    return open_family(folder, WhisperManifest, WHISPER)


def open_family(folder: str | PathLike[str], manifest_type: type[ManifestType], family: str) -> Artifact[ManifestType]:
    """Checks an artifact of a family, makes it ready to run, and returns it.

    Its files are mapped into memory, so that processes share them. An artifact may be replaced as a folder, as `build`
    does, but its files must not be changed in place: `Artifact.check` notices that before the next window, and a file
    that is made shorter while it is being read ends the process (SIGBUS).

    Raises UserError where there is no artifact or one of another family, ArtifactError where it is damaged or not for
    this machine or this MAX, and ForkError in a process that was forked from one that had loaded an artifact.
    """
    folder = expanded(folder)
    with inside_max:
        manifest = check_artifact(folder)
        if not isinstance(manifest, manifest_type) or manifest.family != family:
            raise UserError(
                f"{folder} is an artifact of the family '{manifest.family}' ({manifest.plan.spec.name}), expected "
                f"one of the family '{family}'"
            )
        artifact = bind(folder, folder, manifest)
        if not holds(folder, manifest):
            raise ArtifactError(f"{folder} was replaced while it was being loaded; load it again")
        return artifact


def bind(folder: Path, compiled: Path, manifest: ManifestType) -> Artifact[ManifestType]:
    """Binds the weights of an artifact to compiled graphs on the device of its plan.

    Args:
        folder: The folder of the artifact.
        compiled: The folder of the graphs: the same one, or another with graphs that were compiled for the same plan.
        manifest: The manifest, whose graphs are those in `compiled`.

    Raises:
        ArtifactError: MAX refuses a file, or a graph has other inputs and outputs than the manifest says. Nothing else
            is checked here.
    """
    device: Device = CPU() if manifest.plan.target.on_host else Accelerator()
    try:
        compiled_files = [compiled / name for name in sorted({graph.file for graph in manifest.graphs.values()})]
        files = Unchanged([folder / WEIGHTS_FILE, *compiled_files])
        arrays = safetensors_file.open_tensors(folder / WEIGHTS_FILE)
        weights = {name: _to_device(array, device) for name, array in arrays.items()}
        loaded = load_graphs(compiled_files, device, weights)
    except OSError as e:
        raise ArtifactError(f"{folder}: {e.strerror}; expected files that can be read") from e
    except (RuntimeError, ValueError, WeightsError) as e:
        raise ArtifactError(f"{folder}: MAX cannot load it ({_first_line(e)}); build the artifact again") from e
    for name, graph in manifest.graphs.items():
        expected = [[(port.dtype, shape_of(port)) for port in ports] for ports in (graph.inputs, graph.outputs)]
        if name not in loaded or loaded[name].ports() != expected:
            raise ArtifactError(
                f"{compiled / graph.file}: expected a graph '{name}' with the inputs and outputs in {MANIFEST_FILE}, "
                "found another; build the artifact again"
            )
    graphs: dict[str, Executable] = {**loaded}
    first = artifact_family(manifest.family).first_graphs
    graphs |= {name: LowPriorityThreadsGraph(graphs[name]) for name in first}
    return Artifact(folder, manifest, graphs, device, weights, files)


def check_artifact(folder: Path, *, machine: bool = True) -> Manifest:
    """Returns the manifest of an artifact after all checks of `open_artifact` that need no MAX.

    It raises the same errors. `machine` says whether the artifact must also fit this machine and this version of MAX.
    """
    folder = expanded(folder)
    try:
        folder.stat()
        is_artifact = (folder / MANIFEST_FILE).is_file()
    except FileNotFoundError:
        raise UserError(f"there is no folder {folder}; make one with: max-whisper build --spec tiny.yaml") from None
    except (OSError, ValueError) as e:  # ValueError: a name with NUL
        raise UserError(
            f"{folder}: {e.strerror if isinstance(e, OSError) else e}; expected a folder that can be read"
        ) from e
    if not is_artifact:
        raise UserError(
            f"{folder} is no artifact (it has no {MANIFEST_FILE}); make one with: max-whisper build --spec tiny.yaml"
        )
    manifest = read_manifest(folder)
    if machine and manifest.max != MAX_VERSION:
        raise ArtifactError(
            f"{folder} was compiled by MAX {manifest.max} (max-whisper {manifest.builder}), this is MAX {MAX_VERSION} "
            f"(max-whisper {package_version()}); install max=={manifest.max}, or build the artifact "
            f"again: {rebuild_command(folder, manifest)}"
        )
    if machine:
        check_machine(manifest.plan.target, folder, rebuild_command(folder, manifest, here=True))
    for name, file in manifest.files.items():
        try:
            _check_file(folder, name, file)
        except OSError as e:
            raise ArtifactError(f"{folder / name}: {e.strerror}; expected a file that can be read") from e
    _check_tensors(folder / WEIGHTS_FILE, manifest.plan)
    artifact_family(manifest.family).check_files(folder, manifest)
    return manifest


def _check_file(folder: Path, name: str, file: File) -> None:
    """Raises ArtifactError unless a file has the size and the content that the manifest says."""
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(f"{path}: expected a file of {file.size} bytes, there is none; build the artifact again")
    size = path.stat().st_size
    if size != file.size:
        raise ArtifactError(f"{path}: expected {file.size} bytes, found {size}; build the artifact again")
    actual = hash_file(path)
    if actual != file.blake3:
        raise ArtifactError(
            f"{path}: expected content with BLAKE3 {file.blake3[:16]}…, found {actual[:16]}…; "
            "the file was damaged after the build, build the artifact again"
        )


def _check_tensors(path: Path, plan: BuildPlan) -> None:
    """Raises ArtifactError unless weights.safetensors holds exactly the tensors of the plan."""
    try:
        header = safetensors_file.read_header(path)
    except WeightsError as e:
        raise ArtifactError(f"{e}; build the artifact again") from e
    for name, dtype, shape in [entry for tensor in plan.tensors for entry in tensor.entries]:
        info = header.pop(name, None)
        if info is None:
            raise ArtifactError(f"{path}: tensor '{name}' is missing; build the artifact again")
        if (info.dtype, info.shape) != (dtype, shape):
            raise ArtifactError(
                f"{path}: expected '{name}' as {dtype} {list(shape)}, found {info.dtype} {list(info.shape)}; build the "
                "artifact again"
            )
    if header:
        raise ArtifactError(f"{path}: unexpected tensor '{next(iter(header))}'; build the artifact again")


def hash_file(path: Path) -> str:
    """Returns the BLAKE3 of a file in hexadecimal, computed on all cores, in 20 ms for 150 MB that are in memory.

    A forked process computes it with one thread, because the pool of threads is its parent's.
    """
    threads = blake3.AUTO if os.getpid() == IMPORTING_PROCESS else 1
    return blake3(max_threads=threads).update_mmap(path).hexdigest()


def _to_device(array: np.ndarray, device: Device) -> Buffer:
    """Returns an array as a buffer on the device; an array of unsigned 16-bit integers holds the bits of bfloat16."""
    buffer = Buffer.from_numpy(array)
    if array.dtype == BFLOAT16.numpy:
        buffer = buffer.view(DType.bfloat16)
    return buffer if device.is_host else buffer.to(device)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
