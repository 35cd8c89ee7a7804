"""The artifact of a voice activity detector: its graphs, and their inputs and outputs."""

from __future__ import annotations

from max_whisper.artifact.family import ArtifactFamily, Signature, Signatures, register, shape_of
from max_whisper.artifact.manifest import Manifest

VAD = "vad"


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
        check=lambda manifest: None,
        signatures=signatures,
        check_files=lambda folder, manifest: None,
    )
)
