"""Builds artifacts: from a spec and its weights to a folder that `load` can run."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from max_whisper.artifact.folder import new_folder
from max_whisper.artifact.load import check_artifact, hash_file
from max_whisper.artifact.manifest import (
    MANIFEST_FILE,
    MANIFEST_VERSION,
    NO_HASH,
    SPEC_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    File,
    Graph,
    Manifest,
    Source,
)
from max_whisper.artifact.target import parse_target
from max_whisper.compile.modules import compile_modules
from max_whisper.compile.options import BuildOptions
from max_whisper.compile.planning import choose_dtype, choose_kernels, default_dtype, make_plan
from max_whisper.compile.stored_spec import read_spec
from max_whisper.compile.weights import stored_bytes, write_weights
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.files import expanded
from max_whisper.lowering.family import check_layers
from max_whisper.plan import BuildPlan, Kernels
from max_whisper.progress import OnProgress, Progress, check_progress, ignore_progress
from max_whisper.spec import Spec, load_spec
from max_whisper.spec.families.whisper import WHISPER
from max_whisper.tokens import Tokens
from max_whisper.weights.architecture import check_architecture
from max_whisper.weights.checkpoint import Checkpoint, open_checkpoint
from max_whisper.weights.vocabulary import write_tiktoken

COMPILED_SIZE = 64 << 20
"""The bytes that are reserved for MEF files, which is more than any model needs."""


def build(
    spec: str | Path,
    *,
    weights: str | Path | None = None,
    revision: str | None = None,
    out: str | Path | None = None,
    dtype: str | None = None,
    target: str = "cpu",
    kernels: str | None = None,
    batch: int = 1,
    force: bool = False,
    offline: bool = False,
    progress: OnProgress = ignore_progress,
) -> Path:
    """Compiles a spec with its weights to an artifact folder, as `max_whisper.build` documents, and returns the folder.

    However it ends, the folder is the old one or the complete new one.
    """
    check_progress(progress)
    options = BuildOptions(revision, dtype, target, kernels, batch, force, offline)
    model, machine = load_spec(spec), parse_target(options.target)
    if model.family != WHISPER.name:  # an artifact has a vocabulary, and the runtime is Whisper's
        raise UserError(f"{spec}: expected a spec of the family '{WHISPER.name}' to build, got '{model.family}'")
    chosen = choose_kernels(machine, options)
    chosen_dtype = choose_dtype(machine, chosen, options)
    revision = options.revision
    folder = default_folder(spec, dtype=options.dtype, target=options.target, kernels=options.kernels)
    folder = expanded(folder if out is None else out)
    with new_folder(folder, replace=force) as new:
        checkpoint = open_checkpoint(
            weights,
            repo=model.repo,
            revision=revision or (model.revision if weights is None else None),
            folder=model.folder,
            offline=offline,
            progress=progress,
        )
        if revision is not None and checkpoint.repo is None:
            raise UserError(f"revision '{revision}' is for a Hub repository, the weights are a {checkpoint.describe()}")
        check_architecture(checkpoint, model)
        expected = [(tensor.name, tensor.shape) for tensor in model.tensors() if tensor.computed is None]
        checkpoint.check(expected)
        vocabulary, alignment = checkpoint.vocabulary(model.n_vocab), checkpoint.alignment_heads(model)
        progress(
            Progress(f"checked {len(expected)} tensors of {checkpoint.describe()}, format {checkpoint.source.format}")
        )
        for origin in filter(None, (vocabulary.origin, alignment.origin)):
            progress(Progress(origin))
        plan = make_plan(model, checkpoint, alignment.heads, machine, chosen, chosen_dtype, options.batch)
        check_layers(model, plan)
        _check_space(folder, new, plan)
        write_weights(new / WEIGHTS_FILE, plan, model, checkpoint)
        write_tiktoken(vocabulary.ranks, new / VOCABULARY_FILE)
        (new / SPEC_FILE).write_text(json.dumps(model.canonical(), indent=1) + "\n")
        progress(Progress(f"packed the weights{_lossless_summary(plan)}"))
        compiled = compile_modules(plan, model, new, progress=progress)
        manifest = _manifest(new, plan, model, checkpoint, vocabulary.tokens, compiled.graphs)
        (new / MANIFEST_FILE).write_bytes(manifest.sealed())
        _read_back(new, folder)
    return folder


def _read_back(new: Path, folder: Path) -> None:
    """Raises MaxWhisperError for an artifact that `load` would refuse, so that it never replaces a good one."""
    try:
        read_spec(new, check_artifact(new, machine=False))
    except MaxWhisperError as e:
        reason = str(e).replace(str(new), str(folder)).removesuffix("; build the artifact again")
        raise MaxWhisperError(
            f"the new artifact could not be loaded, so nothing was changed: {reason}; look for such a value in "
            "the checkpoint's JSON files, or report it"
        ) from e


def _lossless_summary(plan: BuildPlan) -> str:
    """Returns how many matrices are stored in 16 bits without loss, as a part of a message; "" for none."""
    counts = Counter(tensor.dtype for tensor in plan.tensors if tensor.dtype in plan.lossless_dtypes)
    return "".join(
        f"; {dtype} holds the numbers of {count} of the decoder's matrices exactly, and is what each token reads"
        for dtype, count in sorted(counts.items())
    )


def default_folder(
    spec: str | Path, *, dtype: str | None = None, target: str = "cpu", kernels: str | None = None
) -> Path:
    """Returns the folder of an artifact where `out` is None; its name holds every option that is not the default.

    Examples are `artifacts/tiny`, `artifacts/tiny-int8-cpu-x86-64-v3` and `artifacts/tiny-max`.
    """
    parts = [Path(spec).name.removesuffix(".yaml").removesuffix(".yml")]
    machine = parse_target(target)
    default_kernels = machine.kernels[0]
    chosen: Kernels = kernels or default_kernels  # type: ignore[assignment]  # BuildOptions checks that it is one
    parts += [dtype] if dtype and dtype != default_dtype(machine, chosen) else []
    parts += [target.replace(":", "-")] if target != "cpu" else []
    parts += [chosen] if chosen != default_kernels else []
    return Path("artifacts") / "-".join(parts)


def _check_space(folder: Path, new: Path, plan: BuildPlan) -> None:
    """Raises MaxWhisperError where the disk of the folder `new` has no space for the artifact."""
    needed = stored_bytes(plan) + COMPILED_SIZE
    free = shutil.disk_usage(new).free
    if free < needed:
        raise MaxWhisperError(
            f"{folder}: the disk has {free >> 20} MB free, the artifact of {plan.spec.name} takes {needed >> 20} MB; "
            "make room or choose another place with --out"
        )


def _manifest(
    new: Path, plan: BuildPlan, spec: Spec, checkpoint: Checkpoint, tokens: Tokens, graphs: dict[str, Graph]
) -> Manifest:
    """Returns the manifest of an artifact whose other files are in the folder `new`."""
    return Manifest(
        manifest_version=MANIFEST_VERSION,
        hash=NO_HASH,
        builder=version("max-whisper"),
        max=version("max"),
        plan=plan,
        source=Source(checkpoint.repo, checkpoint.commit),
        dims={**spec.dims, "n_frames": spec.n_frames},
        tokens=tokens,
        graphs=graphs,
        files={path.name: File(path.stat().st_size, hash_file(path)) for path in sorted(new.iterdir())},
    )
