"""The spec that an artifact was built from, for those who show it, measure it or compile it once more.

Loading an artifact does not need it, and does not import the spec language.
"""

from __future__ import annotations

import json
from pathlib import Path

from max_whisper.artifact.consistency import SPEC
from max_whisper.artifact.manifest import Manifest
from max_whisper.errors import ArtifactError, SpecError
from max_whisper.lowering.storage import storage
from max_whisper.spec import Spec
from max_whisper.tensors.dtypes import FLOAT32


def read_spec(folder: Path, manifest: Manifest) -> Spec:
    """The spec of an artifact that was checked (`check_artifact`).

    Raises ArtifactError where it is no spec, or another one than the manifest names, or where dimensions or tensors of
    the manifest are not those that it says.
    """
    path = folder / SPEC
    try:
        spec = Spec.from_canonical(json.loads(path.read_bytes()))
    except (SpecError, ValueError, RecursionError) as e:
        raise ArtifactError(f"{path}: expected a spec as JSON ({e}); build the artifact again") from e
    if (spec.name, spec.hash) != (manifest.spec.name, manifest.spec.hash):
        raise ArtifactError(
            f"{path}: expected the spec '{manifest.spec.name}' with SHA-256 {manifest.spec.hash[:16]}…, found "
            f"'{spec.name}' with {spec.hash[:16]}…; build the artifact again"
        )
    if manifest.dims != {**spec.dims, "n_frames": spec.n_frames}:
        raise ArtifactError(f"{path}: expected the dimensions {manifest.dims}, found {spec.dims}; build it again")
    on_cpu = manifest.target.device == "cpu"
    stored = storage(spec, dtype=manifest.dtype, on_cpu=on_cpu, exact_halves=manifest.exact_halves)
    expected = {(one.tensor.name, one.format, one.shape) for one in stored.values()}
    expected |= {(one.scales, FLOAT32.format, one.scales_shape) for one in stored.values() if one.scales is not None}
    found = {(tensor.name, tensor.dtype, tuple(tensor.shape)) for tensor in manifest.tensors}
    if wrong := sorted(expected ^ found):
        raise ArtifactError(
            f"{path}: expected the tensors of the manifest, of which '{wrong[0][0]}' is another in the spec; build the "
            "artifact again"
        )
    return spec
