"""Loads an artifact folder: its graphs ready to run, or one sentence why they cannot.

MAX checks nothing: a MEF has no version, no target and no checksum, and a weight of another shape is read out of
bounds. So everything in the manifest is checked here before MAX sees a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from blake3 import blake3
from max.driver import CPU, Accelerator, Buffer, Device
from max.dtype import DType

from max_whisper.artifact.consistency import shape_of
from max_whisper.artifact.cores import AT_WORK
from max_whisper.artifact.engine import MAX_VERSION, Executable, load_graphs
from max_whisper.artifact.manifest import MANIFEST_FILE, VOCABULARY_FILE, WEIGHTS_FILE, File, Manifest
from max_whisper.artifact.process import inside_max
from max_whisper.artifact.read import holds, read_manifest
from max_whisper.artifact.scheduling import LowPriorityThreads
from max_whisper.artifact.target import check_machine
from max_whisper.artifact.unchanged import Unchanged
from max_whisper.errors import ArtifactError, UserError, WeightsError
from max_whisper.files import expanded
from max_whisper.plan import BuildPlan
from max_whisper.tensors import safetensors_file
from max_whisper.tensors.dtypes import BFLOAT16

IMPORTED_IN = os.getpid()
ONCE_A_WINDOW = ("encoder", "cross_kv")  # of a window, before its other graphs can run


@dataclass(frozen=True)
class Artifact:
    """An artifact that was checked and is ready to run."""

    folder: Path
    manifest: Manifest
    graphs: Mapping[str, Executable]  # by their names
    device: Device
    weights: Mapping[str, Buffer]  # MAX reads these in place: they must live as long as the graphs
    files: Unchanged  # those that are mapped

    @property
    def at_work(self) -> AbstractContextManager[None]:
        """Returns a context that each execution enters by itself; entering it around many saves 40 us for each."""
        return AT_WORK if self.device.is_host else nullcontext()

    def check(self) -> None:
        """Checks, in a microsecond, that the artifact can still be run; to be called before each window.

        Raises ForkError in a forked process, ArtifactError where one of the files was changed in place.
        """
        inside_max.check()
        self.files.check()


def open_artifact(folder: str | PathLike[str]) -> Artifact:
    """Checks an artifact and makes it ready to run.

    Its files are mapped into memory, so that processes share them. An artifact may be replaced as a folder, as `build`
    does; its files must not be changed in place. `Artifact.check` finds that before the next window; a file that
    is made shorter while it is read ends the process (SIGBUS).

    Raises UserError where there is no artifact; ArtifactError where it is damaged or not for this machine or this MAX;
    ForkError in a process that was forked from one that had loaded an artifact.
    """
    folder = expanded(folder)
    with inside_max:
        manifest = check_artifact(folder)
        artifact = bind(folder, folder, manifest)
        if not holds(folder, manifest):
            raise ArtifactError(f"{folder} was replaced while it was being loaded; load it again")
        return artifact


def bind(folder: Path, compiled: Path, manifest: Manifest) -> Artifact:
    """Binds the weights of an artifact to compiled graphs, its own or others for the same plan, on the plan's device.

    folder: of the artifact. compiled: the folder that the graphs are in. Only that the graphs have the ports in the
    manifest is checked. Raises ArtifactError where they do not, and where MAX refuses a file.
    """
    device: Device = CPU() if manifest.plan.target.on_host else Accelerator()
    try:
        compiled_files = [compiled / name for name in sorted({graph.file for graph in manifest.graphs.values()})]
        files = Unchanged([folder / WEIGHTS_FILE, *compiled_files])
        arrays = safetensors_file.open_tensors(folder / WEIGHTS_FILE)
        weights = {name: _placed(array, device) for name, array in arrays.items()}
        loaded = load_graphs(compiled_files, device, weights)
    except OSError as e:
        raise ArtifactError(f"{folder}: {e.strerror}; expected files that can be read") from e
    except (RuntimeError, ValueError, WeightsError) as e:
        raise ArtifactError(f"{folder}: MAX cannot load it ({_first_line(e)}); build the artifact again") from e
    for name, graph in manifest.graphs.items():
        expected = [[(port.dtype, shape_of(port)) for port in ports] for ports in (graph.inputs, graph.outputs)]
        if name not in loaded or loaded[name].ports() != expected:
            raise ArtifactError(
                f"{compiled / graph.file}: expected a graph '{name}' with the inputs and outputs in {MANIFEST_FILE}, found "
                "another; build the artifact again"
            )
    graphs: dict[str, Executable] = {**loaded}
    graphs |= {name: LowPriorityThreads(graphs[name]) for name in ONCE_A_WINDOW}
    return Artifact(folder, manifest, graphs, device, weights, files)


def check_artifact(folder: Path, *, machine: bool = True) -> Manifest:
    """Returns the manifest of an artifact after all checks of `open_artifact` that need no MAX; raises the same.

    machine: whether the artifact must fit this machine and this MAX, too.
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
            f"{folder} was compiled by MAX {manifest.max}, this is MAX {MAX_VERSION}; build the artifact again, "
            f"or install max=={manifest.max}"
        )
    if machine:
        check_machine(manifest.plan.target, folder)
    for name, file in manifest.files.items():
        try:
            _check_file(folder, name, file)
        except OSError as e:
            raise ArtifactError(f"{folder / name}: {e.strerror}; expected a file that can be read") from e
    _check_tensors(folder / WEIGHTS_FILE, manifest.plan)
    _check_vocabulary(folder / VOCABULARY_FILE, manifest.tokens.eot)
    return manifest


def _check_file(folder: Path, name: str, file: File) -> None:
    """Raises ArtifactError unless a file has the size and content that the manifest says."""
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
    """Raises ArtifactError unless a file of weights holds exactly the tensors of the plan."""
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


def _check_vocabulary(path: Path, expected: int) -> None:
    """Raises ArtifactError unless there is a line for each text token; the tokenizer checks what the lines say."""
    lines = path.read_bytes().count(b"\n")
    if lines != expected:
        raise ArtifactError(f"{path}: expected {expected} tokens, found {lines}; build the artifact again")


def hash_file(path: Path) -> str:
    """Returns the BLAKE3 of a file in hexadecimal, computed on all cores: 20 ms for 150 MB that are in memory.

    A forked process computes it with one thread, because the parent's pool of threads is not in it.
    """
    threads = blake3.AUTO if os.getpid() == IMPORTED_IN else 1
    return blake3(max_threads=threads).update_mmap(path).hexdigest()


def _placed(array: np.ndarray, device: Device) -> Buffer:
    """Returns an array as a buffer on the device; bfloat16, which numpy lacks, comes as unsigned integers."""
    buffer = Buffer.from_numpy(array)
    if array.dtype == BFLOAT16.numpy:
        buffer = buffer.view(DType.bfloat16)
    return buffer if device.is_host else buffer.to(device)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
