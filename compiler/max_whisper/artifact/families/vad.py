"""The artifact of a voice activity detector: its graphs, and their inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from max_whisper.artifact.family import ArtifactFamily, Signature, Signatures, register, shape_of
from max_whisper.artifact.manifest import SPEC_FILE, VAD, Manifest
from max_whisper.errors import ArtifactError


def check(manifest: Manifest) -> None:
    """Raises ValueError where the plan is not that of a detector, or two of its recurrent states have one name."""
    plan = manifest.plan
    if plan.batch != 1 or plan.alignment_heads or (plan.kernels, plan.dtype) != ("ours", "float32"):
        raise ValueError("expected a batch of 1, no alignment_heads, kernels 'ours' and dtype float32")
    names = [port.name for port in manifest.graphs["step"].inputs]
    if len({*names}) < len(names):
        raise ValueError(f"expected inputs of different names, found {names[:100]}")


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises ArtifactError unless the dimensions are those of the spec: the graphs have only the sum of two of them."""
    path = folder / SPEC_FILE
    try:
        dims = msgspec.json.decode(path.read_bytes(), type=_StoredSpec).dims
    except ValueError as e:  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
        raise ArtifactError(f"{path}: expected a spec as JSON ({e}); build the artifact again") from e
    if dims != manifest.dims:
        raise ArtifactError(f"{path}: expected the dimensions {manifest.dims}, found {dims}; build the artifact again")


class _StoredSpec(msgspec.Struct):
    dims: dict[str, int]


def signatures(manifest: Manifest) -> Signatures:
    """Returns the inputs and outputs that each graph must have, as lowering/families/vad.py makes them.

    The recurrent states come from the inputs of `step`, which has the samples before them.
    """
    n_samples = manifest.dims["n_context"] + manifest.dims["n_samples"]
    states: Signature = [(port.name, "float32", shape_of(port)) for port in manifest.graphs["step"].inputs[1:]]
    for name, _, shape in states:
        if len(shape) != 2 or shape[0] != 1 or shape[1] is None:
            raise ValueError(f"expected [1, channels] of '{name}', found {list(shape)}")
    return {
        name: ([("samples", "float32", (n_chunks, n_samples)), *states], [("probabilities", "float32", (n_chunks,))])
        for name, n_chunks in (("recording", None), ("step", 1))
    }


register(
    ArtifactFamily(
        name=VAD,
        manifest=Manifest,
        files=(),
        graphs={"recording": "detector.mef", "step": "detector.mef"},
        first_graphs=(),
        dims=("n_samples", "n_context", "sample_rate"),
        check=check,
        signatures=signatures,
        check_files=check_files,
    )
)
