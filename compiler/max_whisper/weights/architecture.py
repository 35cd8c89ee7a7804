"""Compares the configuration of a checkpoint with the spec, as tensors do not show the heads and the activation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from max_whisper.errors import WeightsError
from max_whisper.messages import quote
from max_whisper.spec import Spec, load_spec
from max_whisper.spec.catalog import shipped_specs
from max_whisper.spec.family import DEFAULT
from max_whisper.spec.layer import Layer
from max_whisper.spec.layers.activation import Activation
from max_whisper.spec.layers.residual import Residual
from max_whisper.spec.tree import ModelPart
from max_whisper.weights.checkpoint import Checkpoint
from max_whisper.weights.formats.ggml_silero import GgmlSilero
from max_whisper.weights.json_files import Configuration, FeatureExtractor

ACTIVATIONS = {
    "gelu": ("gelu", "gelu_python"),
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"),
    "relu": ("relu",),
    "silu": ("silu", "swish"),
}
"""The names that transformers has for each activation of the spec language (its `ACT2FN`)."""

AT_LEAST = ("max_source_positions", "max_target_positions")
"""The fields that may be larger than in the spec, whose windows or texts are then shorter than the model's."""

MEL_SETTINGS = {"sampling_rate": 16000, "hop_length": 160, "n_fft": 400}
"""The settings of the log-mel spectrogram of every Whisper, which runtime/audio/mel.py computes."""
ADVICE = "take the spec of this model, or correct the one that is wrong"


def check_architecture(checkpoint: Checkpoint, spec: Spec) -> None:
    """Refuses a checkpoint whose files describe another model than the spec.

    What they say is what `TensorSource.claims` yields; fields that they do not have are not compared. Raises a
    WeightsError with both values of every field that differs.
    """
    if isinstance(checkpoint.source, GgmlSilero):
        raise WeightsError(f"{checkpoint.source.path} is a ggml file of a voice detector, not of a Whisper: {ADVICE}")
    mel = {"feature_size": spec.n_mels, **MEL_SETTINGS}
    for path, claim in checkpoint.source.claims():
        if isinstance(claim, Configuration):
            _compare(str(path), claim, _configuration(spec), spec)
            _check_activation(str(path), claim.activation_function, spec)
        else:
            _compare(str(path), claim, mel, spec)


def _configuration(spec: Spec) -> dict[str, Any]:
    """Returns the fields of config.json for a model with the layers of the spec."""
    encoder, decoder = _heads(spec.encoder), _heads(spec.decoder)
    return {
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "d_model": spec.d_model,
        "encoder_layers": len(encoder),
        "decoder_layers": len(decoder),
        "encoder_attention_heads": _only(encoder),
        "decoder_attention_heads": _only([*decoder, *(layer.heads for layer in spec.cross_attentions())]),
        "num_mel_bins": spec.n_mels,
        "max_source_positions": spec.n_audio_ctx,
        "max_target_positions": spec.n_text_ctx,
        "vocab_size": spec.n_vocab,
        "scale_embedding": False,
    }


def _heads(part: ModelPart) -> list[int]:
    """Returns the number of heads of each self-attention layer."""
    return [node.layer.heads for node in part.walk() if node.layer.self_attention]  # type: ignore[attr-defined]


def _only(values: list[int]) -> Any:
    """Returns the value that all layers have in common, or else the list of values, which no configuration equals."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else different


def _compare(
    file: str, configuration: Configuration | FeatureExtractor, expected: Mapping[str, Any], spec: Spec
) -> None:
    """Raises WeightsError where a configuration has another value in a field than the spec."""
    actual = {name: getattr(configuration, name) for name in expected}
    differences = [
        f"{name} is {_format(actual[name])}, in the spec {_format(value)}"
        for name, value in expected.items()
        if actual[name] is not None and not (actual[name] >= value if name in AT_LEAST else actual[name] == value)
    ]
    if differences:
        fitting = _fitting(configuration) if isinstance(configuration, Configuration) else None
        advice = f"build with --spec {fitting}.yaml, which fits" if fitting else ADVICE
        raise WeightsError(f"{file} does not fit the spec {spec.name}: {'; '.join(differences)}: {advice}")


def _fitting(configuration: Configuration) -> str | None:
    """Returns the name of the only shipped spec that a configuration fits; None if there is not one."""
    whispers = {name: spec for name in shipped_specs() if (spec := load_spec(name)).family == DEFAULT}
    fitting = [
        name
        for name, spec in whispers.items()
        if all(getattr(configuration, field) in (None, value) for field, value in _configuration(spec).items())
    ]
    return fitting[0] if len(fitting) == 1 else None


def _check_activation(file: str, name: str | None, spec: Spec) -> None:
    """Checks the activation of the feed-forward branches; a configuration does not name the one after convolutions."""
    kinds = {layer.kind for layer in _activations_in_residuals(spec)}
    if name is None or all(name in ACTIVATIONS[kind] for kind in kinds):
        return
    same = next((kind for kind, names in ACTIVATIONS.items() if name in names), None)
    advice = ADVICE if same else "the spec language has no such activation"
    raise WeightsError(
        f"{file} does not fit the spec {spec.name}: activation_function is {quote(name)}, in the spec "
        f"{' and '.join(map(quote, sorted(kinds)))}{f' (in a spec: {same})' if same else ''}: {advice}"
    )


def _activations_in_residuals(spec: Spec) -> Iterator[Layer]:
    """Yields the activations inside residual branches, which are those of the feed-forward branches."""
    for part in (spec.encoder, spec.decoder):
        for node in part.walk():
            if isinstance(node.layer, Residual):
                yield from (inner.layer for inner in node.walk() if isinstance(inner.layer, Activation))


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return quote(value) if isinstance(value, str) else str(value)
