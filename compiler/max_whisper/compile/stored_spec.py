"""Reads the spec that an artifact was built from, for the tools that show, measure or recompile it.

Loading an artifact needs no spec, and does not import the spec language.
"""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path

from max_whisper.artifact.manifest import SPEC_FILE, Manifest
from max_whisper.errors import ArtifactError, SpecError
from max_whisper.spec import Spec
from max_whisper.tensors.layout import stored_tensors


def read_spec(folder: Path, manifest: Manifest) -> Spec:
    """Returns the spec of an artifact that `check_artifact` has checked.

    Raises ArtifactError where the file holds no spec, or another one than the plan names, or where the manifest has
    other dimensions or tensors.
    """
    path, plan = folder / SPEC_FILE, manifest.plan
    try:
        spec = Spec.from_canonical(json.loads(path.read_bytes()))
    except (SpecError, ValueError, RecursionError) as e:
        raise ArtifactError(f"{path}: expected a spec as JSON ({e}); build the artifact again") from e
    if (spec.name, spec.hash) != (plan.spec.name, plan.spec.hash):
        raise ArtifactError(
            f"{path}: expected the spec '{plan.spec.name}' with SHA-256 {plan.spec.hash[:16]}…, found '{spec.name}' "
            f"with {spec.hash[:16]}…; build the artifact again"
        )
    if manifest.dims != spec.all_dims:
        raise ArtifactError(
            f"{path}: expected the dimensions {manifest.dims}, found {spec.dims}; build the artifact again"
        )
    dtypes = {tensor.name: tensor.dtype for tensor in plan.tensors}
    of_spec = stored_tensors(spec, dtype=plan.dtype, packed=plan.packed, overrides=dtypes)
    for expected, planned in zip_longest(of_spec, plan.tensors):
        if expected != planned:
            names = [tensor.name if tensor else "nothing" for tensor in (planned, expected)]
            raise ArtifactError(
                f"{path}: expected the tensors of the plan, which has '{names[0]}' where the spec has '{names[1]}', or "
                "another shape or layout of it; build the artifact again"
            )
    return spec
