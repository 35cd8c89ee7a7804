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
    WEIGHTS_FILE,
    File,
    Source,
)
from max_whisper.artifact.target import parse_target
from max_whisper.compile.contents import contents_of
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
from max_whisper.spec import load_spec
from max_whisper.spec.family import families
from max_whisper.weights.checkpoint import open_checkpoint

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
    contents, family = contents_of(model.family), families()[model.family]
    chosen = choose_kernels(machine, family, options)
    chosen_dtype = choose_dtype(machine, chosen, family, options)
    if options.batch > 1 and not contents.batches:
        raise UserError(
            f"{spec}: a spec of the family {family.name} has no batch of windows, got batch {options.batch}"
        )
    revision = options.revision
    named_dtype = options.dtype if not family.dtypes else None  # a family with one dtype need not name it
    folder = default_folder(spec, dtype=named_dtype, target=options.target, kernels=options.kernels)
    folder = expanded(folder if out is None else out)
    with new_folder(folder, replace=force) as new:
        checkpoint = open_checkpoint(
            weights,
            repo=model.repo,
            revision=revision or (model.revision if weights is None else None),
            folder=model.folder,
            package=model.package,
            offline=offline,
            progress=progress,
        )
        if revision is not None and checkpoint.repo is None:
            raise UserError(f"revision '{revision}' is for a Hub repository, the weights are a {checkpoint.describe()}")
        contents.check(checkpoint, model)
        expected = [(tensor.name, tensor.shape) for tensor in model.tensors() if tensor.computed is None]
        tables = [tensor for tensor in model.tensors() if tensor.cut]
        checkpoint.check(expected, cut={table.name for table in tables})
        own = contents.read(checkpoint, model)
        progress(
            Progress(f"checked {len(expected)} tensors of {checkpoint.describe()}, format {checkpoint.source.format}")
        )
        for table in tables:
            if (rows := checkpoint.rows(table.name)) > table.shape[0]:
                progress(Progress(f"took the first {table.shape[0]} of the {rows} rows of {table.name}"))
        for origin in own.origins:
            progress(Progress(origin))
        plan = make_plan(model, checkpoint, own.alignment_heads, machine, chosen, chosen_dtype, options.batch)
        check_layers(model, plan)
        _check_space(folder, new, plan)
        write_weights(new / WEIGHTS_FILE, plan, model, checkpoint)
        own.write(new)
        (new / SPEC_FILE).write_text(json.dumps(model.canonical(), indent=1) + "\n")
        progress(Progress(f"packed the weights{_lossless_summary(plan)}"))
        compiled = compile_modules(plan, model, new, progress=progress)
        manifest = own.manifest(
            manifest_version=MANIFEST_VERSION,
            hash=NO_HASH,
            builder=version("max-whisper"),
            max=version("max"),
            family=model.family,
            plan=plan,
            source=Source(checkpoint.repo, checkpoint.commit, checkpoint.package),
            dims=model.all_dims,
            graphs=compiled.graphs,
            files={path.name: File(path.stat().st_size, hash_file(path)) for path in sorted(new.iterdir())},
        )
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
