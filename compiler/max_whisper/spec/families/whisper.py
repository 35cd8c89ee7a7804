"""The family of Whisper: an encoder from log-mel to features, and a decoder from tokens to logits."""

from __future__ import annotations

from collections.abc import Mapping

from max_whisper.spec.document import SourceLocation
from max_whisper.spec.family import DEFAULT, Family, Layers, register
from max_whisper.spec.layer import Context, Shape
from max_whisper.spec.layers.cross_attention import CrossAttention
from max_whisper.spec.tree import ModelPart, expand


def expand_whisper(
    layers: Layers, dims: Mapping[str, int], locations: Mapping[str, SourceLocation]
) -> dict[str, ModelPart]:
    """Returns the trees of the encoder and the decoder.

    Raises SpecError where features or logits have another shape than the dimensions say, or where no layer of the
    decoder reads the features.
    """
    frames = dims.get("n_frames", 2 * dims["n_audio_ctx"])
    features = Shape(dims["n_audio_ctx"], dims["d_model"])
    encoder = expand(layers["encoder"], Shape(frames, dims["n_mels"]), Context("encoder", None))
    _expect_output(encoder, features, "(n_audio_ctx, d_model)", "features")
    decoder = expand(layers["decoder"], Shape(dims["n_text_ctx"], 0), Context("decoder", features))
    if not decoder.layers[-1].returns_logits:
        raise decoder.layers[-1].error("expected logits as the last layer of the decoder")
    _expect_output(decoder, Shape(dims["n_text_ctx"], dims["n_vocab"]), "(n_text_ctx, n_vocab)", "logits")
    if not any(isinstance(node.layer, CrossAttention) for node in decoder.walk()):
        raise locations["decoder"].error(
            "expected a cross_attention layer, without one the decoder knows nothing of the audio"
        )
    return {"encoder": encoder, "decoder": decoder}


def _expect_output(part: ModelPart, expected: Shape, dims: str, output: str) -> None:
    """Raises SpecError at the last layer of a part unless its output has the expected shape."""
    if part.output_shape != expected:
        last = part.layers[-1]
        raise last.error(f"expected {output} of shape {dims} = {expected}, this last layer returns {part.output_shape}")


WHISPER = register(
    Family(
        name=DEFAULT,
        parts={
            "encoder": "The layers from log-mel (n_frames, n_mels) to features (n_audio_ctx, d_model).",
            "decoder": "The layers from token ids (n_text_ctx) to logits (n_text_ctx, n_vocab).",
        },
        window_parts=("encoder",),
        required_dims={
            "n_mels": "The number of bands of the log-mel spectrogram.",
            "n_audio_ctx": "The rows of the encoder's features for one window of audio, one for every 20 ms.",
            "d_model": "The number of channels of the encoder and of the decoder.",
            "n_vocab": "The number of tokens of the vocabulary.",
            "n_text_ctx": "The number of tokens that the decoder can see at most.",
        },
        other_dims={
            "n_frames": "The frames of the log-mel spectrogram of one window; twice n_audio_ctx if it is not given.",
            "n_heads": "The number of attention heads.",
            "d_ffn": "The number of channels inside the feed-forward branches.",
            "encoder_layers": "The number of blocks of the encoder.",
            "decoder_layers": "The number of blocks of the decoder.",
        },
        expand=expand_whisper,
    )
)
