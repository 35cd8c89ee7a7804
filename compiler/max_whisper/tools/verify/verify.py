"""Verifies an artifact: compares it with transformers' implementation of the model, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.artifact.load import WhisperArtifact
from max_whisper.artifact.manifest import MANIFEST_FILE, VAD, WEIGHTS_FILE, WhisperManifest
from max_whisper.artifact.read import read_manifest
from max_whisper.compile.recompile import recompile
from max_whisper.compile.stored_spec import read_spec
from max_whisper.console import Table, table_console
from max_whisper.errors import UserError
from max_whisper.files import expanded
from max_whisper.messages import printable
from max_whisper.options import OptionError
from max_whisper.plan import BuildPlan
from max_whisper.progress import OnProgress, Progress, check_progress, ignore_progress
from max_whisper.runtime.audio.load import load_audio
from max_whisper.runtime.audio.mel import HOP
from max_whisper.runtime.decoding.decoder import Decoder
from max_whisper.runtime.model import Model, load
from max_whisper.spec import Spec
from max_whisper.tensors import safetensors_file
from max_whisper.tensors.cast import to_float32
from max_whisper.tensors.dtypes import DTYPES
from max_whisper.tensors.pack import from_matrix, unpack
from max_whisper.tensors.quantize import dequantize
from max_whisper.tensors.stored import StoredTensor
from max_whisper.tools.options import VerifyOptions
from max_whisper.tools.verify.detector import DetectorVerification, verify_detector
from max_whisper.tools.verify.reference import Layers, Reference

BOUNDS = {"float32": (2e-4, 1e-3), "bfloat16": (0.25, 0.5), "int8": (1.0, 1.0)}
"""The largest absolute errors that are allowed in the encoder, whose values are of order 1, and in the decoder, whose
logits are of order 10; by dtype."""
AGREEMENT = {"float32": 1.0, "bfloat16": 0.97, "int8": 0.9}
"""The fraction of greedy tokens that must be those of the reference, given the tokens before; by dtype."""


@dataclass(frozen=True)
class LayerError:
    """The largest absolute error of one layer's output.

    Attributes:
        path: The path of the layer.
        max_abs: The largest absolute value of the reference.
        error: The largest absolute error.
        bound: The largest error that is allowed.
    """

    path: str
    max_abs: float
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound."""
        return self.error <= self.bound  # false for NaN


@dataclass(frozen=True)
class VerifyReport:
    """The results of a verification.

    Attributes:
        artifact: The folder of the artifact.
        layers: The error of each layer, in order of execution.
        same_tokens: How many of the greedy tokens the reference chooses too, given the tokens before.
        tokens: The number of greedy tokens.
        agreement: The fraction of the tokens that must be the same.
    """

    artifact: Path
    layers: list[LayerError]
    same_tokens: int
    tokens: int
    agreement: float

    @property
    def first_divergence(self) -> LayerError | None:
        """The first layer whose error is out of its bound, if any."""
        return next((layer for layer in self.layers if not layer.passed), None)

    @property
    def passed(self) -> bool:
        """Whether all layers are within their bounds, and enough tokens are the same."""
        return self.first_divergence is None and self.same_tokens >= self.agreement * self.tokens

    @property
    def verdict(self) -> str:
        """One sentence that says why the verification passed or failed."""
        layer = self.first_divergence
        if layer is not None:
            return f"the first layer out of bounds is {layer.path} (error {layer.error:.2g}, bound {layer.bound:.0e})"
        return f"every layer is within its bound, {self.same_tokens} of {self.tokens} greedy tokens are equal"

    def show(self) -> None:
        """Prints the errors as a table, and the verdict."""
        table = Table("layer", "max |value|", "max |error|", "bound", title=f"{self.artifact} against transformers")
        for layer in self.layers:
            style = "" if layer.passed else "bold red"
            cells = (layer.path, f"{layer.max_abs:.3g}", f"{layer.error:.2e}", f"{layer.bound:.0e}")
            table.add_row(*cells, style=style)
        console = table_console()
        console.print(table)
        console.print(f"{'passed' if self.passed else 'FAILED'}: {printable(self.verdict)}")


def verify(
    folder: str | PathLike[str], *, audio: str | None = None, n_tokens: int = 32, progress: OnProgress = ignore_progress
) -> VerifyReport | DetectorVerification:
    """Compares an artifact with transformers' implementation of the model, which gets the artifact's weights.

    A voice activity detector is compared with the official ONNX file of Silero VAD.

    Features, logits and tokens are those of the artifact itself. The outputs of the layers come from graphs that are
    compiled once more, which takes as long as a build.

    Args:
        folder: The artifact.
        audio: A recording whose first window is used; None for seeded noise.
        n_tokens: The number of greedy tokens to compare.
        progress: Called after each step.

    Returns:
        The errors of all layers, and how many tokens are equal.

    Raises:
        UserError: torch or transformers are missing, or the artifact is for a GPU or has a batch larger than 1.
        ArtifactError: The artifact is damaged, or cannot run on this machine.
    """
    check_progress(progress)
    n_tokens = VerifyOptions(n_tokens).tokens
    folder = expanded(folder)
    if (folder / MANIFEST_FILE).is_file() and read_manifest(folder).family == VAD:
        if n_tokens != VerifyOptions().tokens:
            raise OptionError("{tokens}: is for a Whisper, a voice activity detector has none; leave it out")
        return verify_detector(folder, audio, progress)
    model = load(folder)
    manifest = model.manifest
    if not manifest.plan.target.on_host or manifest.plan.batch != 1:
        raise UserError(
            f"{folder}: only artifacts for a CPU with a batch of 1 can be verified; build one without --batch"
        )
    spec, dtype = read_spec(folder, manifest), manifest.plan.dtype
    reference = Reference(spec, _float32_weights(folder, manifest.plan))
    progress(Progress("made the reference"))
    mel = _window(model, audio)
    features = np.asarray(model.encode(mel))
    prompt = model.tokenizer.prompt("en", without_timestamps=True)
    sampled = model.decode(features, language="en", without_timestamps=True, max_new_tokens=n_tokens)[0].tokens
    tokens = np.array([prompt + sampled])
    logits = model.logits(features, tokens)[0]
    reference_layers = reference.run(mel, tokens)
    progress(Progress("ran the artifact and the reference"))
    layers = layer_outputs(folder, manifest, spec, [(mel, tokens)], progress)[0]
    layers |= {"features": features[0], "logits": logits}
    scores = reference_layers["logits"][len(prompt) - 1 :]
    chosen = sampled or [manifest.tokens.eot]
    reference_tokens = greedy_tokens(manifest, scores)[: len(chosen)]
    same = sum(token == expected for token, expected in zip(chosen, reference_tokens, strict=True))
    return VerifyReport(folder, compare(layers, reference_layers, dtype), same, len(chosen), AGREEMENT[dtype])


def compare(layers: Layers, expected: Layers, dtype: str) -> list[LayerError]:
    """Returns the error of each layer that both have, in the order of `layers`."""
    errors = []
    encoder_bound, decoder_bound = BOUNDS[dtype]
    for path in layers:
        if path in expected:
            bound = encoder_bound if path.startswith(("encoder", "features")) else decoder_bound
            error = float(np.abs(layers[path] - expected[path]).max())
            errors.append(LayerError(path, float(np.abs(expected[path]).max()), error, bound))
    return errors


def greedy_tokens(manifest: WhisperManifest, scores: NDArray[np.float32]) -> list[int]:
    """Returns the tokens that greedy decoding chooses by logits [length, n_vocab], one for each row."""
    scores = scores.copy()
    scores[:, manifest.tokens.suppress] = -np.inf
    scores[0, manifest.tokens.begin_suppress] = -np.inf
    return [int(token) for token in scores.argmax(axis=1)]


def layer_outputs(
    folder: Path,
    manifest: WhisperManifest,
    spec: Spec,
    windows: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    progress: OnProgress,
) -> list[Layers]:
    """Returns the output of each layer [length, channels] by path, for each window.

    The graphs are compiled once more with all of these outputs. windows: the mel [1, n_mels, n_frames] and the tokens
    [1, length] of each window.
    """
    artifact, _ = recompile(folder, manifest, spec, progress=progress, expose=True)
    return [_layers(artifact, mel, tokens) for mel, tokens in windows]


def _layers(artifact: WhisperArtifact, mel: NDArray[np.float32], tokens: NDArray[np.int64]) -> Layers:
    """Returns the outputs of the graphs that are outputs of layers: those whose name is a path, which has dots."""
    encoded = artifact.graphs["encoder"].execute(Buffer.from_numpy(mel))
    decoder = Decoder(artifact)
    decoded = decoder.teacher_forced(decoder.cross_kv(encoded[0]), Buffer.from_numpy(tokens))
    graphs = artifact.manifest.graphs
    outputs = [*zip(graphs["encoder"].outputs, encoded, strict=True)]
    outputs += zip(graphs["decoder"].outputs, decoded, strict=True)
    return {
        port.name: value.to_numpy()[0]
        for port, value in outputs
        if "." in port.name and not port.name.startswith("queries.")
    }


def _window(model: Model, audio: str | None) -> NDArray[np.float32]:
    """Returns the log-mel [1, n_mels, n_frames] of the first window of a recording, or of noise."""
    samples = model.n_frames * HOP
    if audio is None:
        waveform = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1
    else:
        waveform = load_audio(audio)
    return np.ascontiguousarray(model.log_mel(waveform, padding=samples)[None, :, : model.n_frames])


def _float32_weights(folder: Path, plan: BuildPlan) -> dict[str, NDArray[np.float32]]:
    """Returns the weights of the artifact in float32, with the names and shapes of the checkpoint."""
    arrays = safetensors_file.open_tensors(folder / WEIGHTS_FILE)
    return {tensor.name: _float32(tensor, arrays) for tensor in plan.tensors}


def _float32(tensor: StoredTensor, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    array = arrays[tensor.name]
    if tensor.packed:
        array = unpack(array, *tensor.matrix_shape)
    if tensor.scales is not None:
        array = dequantize(array, arrays[tensor.scales])
    elements = to_float32(array, DTYPES[tensor.dtype])
    return from_matrix(elements, tensor.shape) if tensor.packed else elements
