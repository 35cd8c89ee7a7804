"""The family of Whisper: an encoder from log-mel to features, and a decoder from tokens to logits."""

from __future__ import annotations

from collections.abc import Mapping

from max_whisper.spec.document import Place
from max_whisper.spec.family import DEFAULT, Family, Layers, register
from max_whisper.spec.layer import Context, Shape
from max_whisper.spec.layers.cross_attention import CrossAttention
from max_whisper.spec.tree import Sequence, expand


def expand_whisper(layers: Layers, dims: Mapping[str, int], places: Mapping[str, Place]) -> dict[str, Sequence]:
    """Returns the trees of the encoder and the decoder.

    Raises SpecError where features or logits have another shape than the dimensions say, or where no layer of the
    decoder reads the features.
    """
    frames = dims.get("n_frames", 2 * dims["n_audio_ctx"])
    features = Shape(dims["n_audio_ctx"], dims["d_model"])
    encoder = expand(layers["encoder"], Shape(frames, dims["n_mels"]), Context("encoder", None))
    _expect_output(encoder, features, "(n_audio_ctx, d_model)", "features")
    decoder = expand(layers["decoder"], Shape(dims["n_text_ctx"], 0), Context("decoder", features))
    if not decoder.layers[-1].gives_logits:
        raise decoder.layers[-1].error("expected logits as the last layer of the decoder")
    _expect_output(decoder, Shape(dims["n_text_ctx"], dims["n_vocab"]), "(n_text_ctx, n_vocab)", "logits")
    if not any(isinstance(node.layer, CrossAttention) for node in decoder.walk()):
        raise places["decoder"].error(
            "expected a cross_attention layer, without one the decoder knows nothing of the audio"
        )
    return {"encoder": encoder, "decoder": decoder}


def _expect_output(part: Sequence, expected: Shape, names: str, what: str) -> None:
    """Raises SpecError at the last layer of a part that gives another shape. names: the shape's, as in a spec."""
    if part.output_shape != expected:
        last = part.layers[-1]
        raise last.error(f"expected {what} of shape {names} = {expected}, this last layer gives {part.output_shape}")


WHISPER = register(
    Family(
        DEFAULT,
        {"encoder": "layers from log-mel to features", "decoder": "layers from token ids to logits"},
        ("encoder",),
        ("n_mels", "n_audio_ctx", "d_model", "n_vocab", "n_text_ctx"),
        ("n_frames", "n_heads", "d_ffn", "encoder_layers", "decoder_layers"),
        expand_whisper,
    )
)
