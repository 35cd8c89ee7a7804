"""The family of voice activity detectors: from the samples of a chunk to the probability that somebody speaks."""

from __future__ import annotations

from collections.abc import Mapping

from max_whisper.spec.document import SourceLocation
from max_whisper.spec.family import Family, Layers, register
from max_whisper.spec.layer import Context, Shape
from max_whisper.spec.tree import ModelPart, expand


def expand_vad(
    layers: Layers, dims: Mapping[str, int], locations: Mapping[str, SourceLocation]
) -> dict[str, ModelPart]:
    """Returns the tree of the detector. Raises SpecError where it does not end with one number for a chunk."""
    samples = Shape(dims["n_context"] + dims["n_samples"], 1)
    detector = expand(layers["detector"], samples, Context("detector", None))
    if detector.output_shape != Shape(1, 1):
        raise detector.layers[-1].error(
            f"expected one number for each chunk, this last layer returns {detector.output_shape}"
        )
    return {"detector": detector}


VAD = register(
    Family(
        name="vad",
        parts={
            "detector": "The layers from the samples of a chunk (n_context + n_samples, 1) to a probability (1, 1)."
        },
        window_parts=("detector",),
        required_dims={
            "n_samples": "The samples of a chunk, which has one probability.",
            "n_context": "The samples before a chunk that the model sees, too.",
            "sample_rate": "The samples of a second.",
        },
        other_dims={},
        expand=expand_vad,
        dtypes=("float32",),
        kernels=("ours",),
    )
)
