"""Spec and weights -> artifact folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.artifact.folder import new_folder
from max_whisper.artifact.load import SPEC, VOCABULARY, WEIGHTS, check_artifact, hash_file
from max_whisper.artifact.manifest import FILE, UNSEALED, VERSION, File, Graph, Manifest, Source, Tensor
from max_whisper.artifact.target import parse_target
from max_whisper.compile.modules import Report, compile_modules
from max_whisper.compile.options import BuildOptions
from max_whisper.compile.stored import read_spec
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.files import expanded
from max_whisper.lowering.storage import Stored, storage, token_matrices
from max_whisper.plan import SpecName, Target
from max_whisper.spec import Spec, load_spec
from max_whisper.tensors import safetensors_file
from max_whisper.tensors.dtypes import FLOAT32, ComputeDtype, byte_count
from max_whisper.tensors.pack import as_matrix, pack
from max_whisper.tensors.quantize import quantize
from max_whisper.tokens import Tokens
from max_whisper.weights.alignment import read_alignment_heads
from max_whisper.weights.architecture import check_architecture
from max_whisper.weights.checkpoint import Checkpoint, open_checkpoint
from max_whisper.weights.vocabulary import read_vocabulary, write_tiktoken

COMPILED_SIZE = 64 << 20  # bytes, more than the MEF files of any model take


def build(
    spec: str | Path,
    *,
    weights: str | Path | None = None,
    revision: str | None = None,
    out: str | Path | None = None,
    dtype: str = "float32",
    target: str = "cpu",
    batch: int = 1,
    force: bool = False,
    offline: bool = False,
    report: Report = lambda message: None,
) -> Path:
    """Compiles a spec with its weights to an artifact folder, and returns the folder.

    spec: a YAML file, or the name of a spec that ships with the package.
    weights: a Hub repository, a local folder in Hub layout or a safetensors file; None is the source in the spec.
    revision: of the Hub repository; None is the one in the spec for its own source, else the main branch.
    out: the folder; None is `artifacts/` and the spec's file name, with dtype and target unless they are the default.
    dtype: of the weights of matrix products, "float32", "bfloat16" or, for a CPU, "int8".
    target: "cpu" is this machine's own; "cpu:x86-64-v3", "cuda:sm_90a", "hip:gfx942" and others are cross-compiled.
    batch: windows that are computed at once.
    force: replace an artifact that is already there.
    offline: never connect to the Hub; what it gave before is in its cache.
    report: called with a sentence after each phase, and during downloads.

    Raises UserError (SpecError and WeightsError among them) for wrong input, before anything is compiled; HubError,
    CompileError and MaxWhisperError for failures. Whenever it ends, the folder is the old one or the whole new one.
    """
    options = BuildOptions(revision, dtype, target, batch, force, offline)
    revision, dtype, batch = options.revision, options.dtype, options.batch  # in plain types
    model = load_spec(spec)
    machine = parse_target(target)
    if dtype == "int8" and machine.device != "cpu":
        raise UserError(f"dtype int8 is for a CPU only: build for {target} with bfloat16")
    folder = expanded(out if out is not None else default_folder(spec, dtype=dtype, target=target))
    with new_folder(folder, replace=force) as new:
        own = weights is None
        checkpoint = open_checkpoint(
            weights,
            repo=model.repo,
            revision=revision or (model.revision if own else None),
            folder=model.folder,
            offline=offline,
            progress=report,
        )
        if revision is not None and checkpoint.repo is None:
            raise UserError(f"revision '{revision}' is for a Hub repository, the weights are a {checkpoint.describe()}")
        check_architecture(checkpoint, model)
        given = [tensor for tensor in model.tensors() if tensor.computed is None]
        checkpoint.check([(tensor.name, tensor.shape) for tensor in given])
        vocabulary = read_vocabulary(checkpoint.file, model.n_vocab)
        heads = read_alignment_heads(checkpoint.file, [layer.heads for layer in model.cross_attentions()])
        report(f"checked {len(given)} tensors of {checkpoint.describe()}")
        on_cpu = machine.device == "cpu"
        halves = checkpoint.lossless(token_matrices(model)) if on_cpu and dtype == "float32" else {}
        stored = storage(model, dtype=dtype, on_cpu=on_cpu, exact_halves=halves)
        _check_space(folder, new, model, stored.values())
        tensors = write_weights(new / WEIGHTS, stored.values(), checkpoint)
        write_tiktoken(vocabulary.ranks, new / VOCABULARY)
        (new / SPEC).write_text(json.dumps(model.canonical(), indent=1) + "\n")
        report(f"packed the weights{_halves_told(halves)}")
        compiled = compile_modules(
            model,
            new,
            dtype=dtype,
            batch=batch,
            target=machine,
            alignment_heads=heads,
            exact_halves=halves,
            report=report,
        )
        manifest = _manifest(
            new,
            model,
            checkpoint,
            tokens=vocabulary.tokens,
            alignment_heads=heads,
            tensors=tensors,
            graphs=compiled.graphs,
            target=machine,
            dtype=dtype,
            batch=batch,
        )
        (new / FILE).write_bytes(manifest.sealed())
        _read_back(new, folder)
    return folder


def _read_back(new: Path, folder: Path) -> None:
    """Raises MaxWhisperError for an artifact that `load` would refuse, so that it never takes the place of another."""
    try:
        read_spec(new, check_artifact(new, machine=False))
    except MaxWhisperError as e:
        said = str(e).replace(str(new), str(folder)).removesuffix("; build the artifact again")
        raise MaxWhisperError(
            f"what was built could not be loaded, so that nothing was changed: {said}; look into the checkpoint's JSON "
            "files for such a value, or report it"
        ) from e


def _halves_told(halves: Mapping[str, str]) -> str:
    counts = Counter(halves.values())
    told = ", ".join(f"{count} as {dtype}" for dtype, count in sorted(counts.items()))
    return f"; of the decoder's matrices {told}, which holds their numbers exactly" if halves else ""


def default_folder(spec: str | Path, *, dtype: str = "float32", target: str = "cpu") -> Path:
    """Where an artifact goes if no folder is named: `artifacts/tiny`, `artifacts/tiny-bfloat16-cuda-sm_90a`."""
    parts = [Path(spec).name.removesuffix(".yaml").removesuffix(".yml")]
    parts += [dtype] * (dtype != "float32") + [target.replace(":", "-")] * (target != "cpu")
    return Path("artifacts") / "-".join(parts)


def write_weights(path: Path, tensors: Iterable[Stored], checkpoint: Checkpoint) -> list[Tensor]:
    """The tensors as the graphs read them, under the checkpoint's names, in the order of the spec."""
    entries = [entry for stored in tensors for entry in _entries(stored, checkpoint)]
    safetensors_file.write(path, entries)
    return [Tensor(entry.name, entry.dtype, list(entry.shape)) for entry in entries]


def _entries(stored: Stored, checkpoint: Checkpoint) -> Iterator[safetensors_file.Entry]:
    """A tensor and, of int8, its scales."""
    name = stored.tensor.name

    def given(dtype: ComputeDtype) -> NDArray[Any]:
        if stored.tensor.computed is not None:
            return sinusoids(*stored.tensor.shape)
        return checkpoint.read(name, dtype)

    def values() -> NDArray[Any]:
        if stored.dtype == "int8":
            array, _ = quantize(as_matrix(given("float32")))
        elif stored.dtype == "bfloat16":
            array = given("bfloat16")
        else:  # float16 holds the numbers exactly, or it would not be here
            array = given("float32").astype(stored.dtype, copy=False)
        return pack(as_matrix(array), stored.dtype) if stored.packed else array.reshape(stored.shape)

    yield safetensors_file.Entry(name, stored.format, stored.shape, values)
    if stored.scales is not None:
        yield safetensors_file.Entry(
            stored.scales, FLOAT32.format, stored.scales_shape, lambda: quantize(as_matrix(given("float32")))[1]
        )


def sinusoids(length: int, channels: int) -> NDArray[np.float32]:
    """Sines and cosines of timescales from 1 to 10000, float32 [length, channels] (openai/whisper, model.py)."""
    rates = np.exp(-np.log(10000) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _check_space(folder: Path, new: Path, spec: Spec, tensors: Iterable[Stored]) -> None:
    sizes = [byte_count(stored.format, stored.shape) for stored in tensors]
    needed = sum(sizes) + COMPILED_SIZE
    free = shutil.disk_usage(new).free
    if free < needed:
        raise MaxWhisperError(
            f"{folder}: the disk has {free >> 20} MB free, the artifact of {spec.name} takes {needed >> 20} MB; "
            "make room or choose another place with --out"
        )


def _manifest(
    new: Path,
    spec: Spec,
    checkpoint: Checkpoint,
    *,
    tokens: Tokens,
    alignment_heads: list[tuple[int, int]],
    tensors: list[Tensor],
    graphs: dict[str, Graph],
    target: Target,
    dtype: str,
    batch: int,
) -> Manifest:
    return Manifest(
        manifest_version=VERSION,
        hash=UNSEALED,
        builder=version("max-whisper"),
        max=version("max"),
        target=target,
        spec=SpecName(spec.name, spec.hash),
        source=Source(checkpoint.repo, checkpoint.commit),
        dtype=dtype,
        batch=batch,
        dims={**spec.dims, "n_frames": spec.n_frames},
        tokens=tokens,
        alignment_heads=alignment_heads,
        graphs=graphs,
        files={path.name: File(path.stat().st_size, hash_file(path)) for path in sorted(new.iterdir())},
        tensors=tensors,
    )
