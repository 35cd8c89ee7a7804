"""Is an artifact the model that it says it is? Compared with transformers, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.artifact.load import Artifact
from max_whisper.artifact.manifest import WEIGHTS_FILE, Manifest
from max_whisper.compile.recompile import recompile
from max_whisper.compile.stored_spec import read_spec
from max_whisper.console import Table, table_console
from max_whisper.errors import UserError
from max_whisper.files import expanded
from max_whisper.messages import printable
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
from max_whisper.tools.verify.reference import Layers, Reference

# Largest absolute errors of features (of order 1) and of logits (of order 10), for weights of each dtype.
BOUNDS = {"float32": (2e-4, 1e-3), "bfloat16": (0.25, 0.5), "int8": (1.0, 1.0)}
# The share of greedy tokens that must be those of the reference, given the tokens before.
AGREEMENT = {"float32": 1.0, "bfloat16": 0.97, "int8": 0.9}


@dataclass(frozen=True)
class Row:
    """The largest absolute error of one layer's output."""

    path: str
    size: float  # largest absolute value of the reference
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bound  # false for NaN


@dataclass(frozen=True)
class ReportCard:
    """What a verification found."""

    artifact: Path
    rows: list[Row]
    same_tokens: int  # how many of the greedy tokens the reference would have chosen too, after the ones before
    tokens: int
    agreement: float  # the share of them that must be the same

    @property
    def first_divergence(self) -> Row | None:
        return next((row for row in self.rows if not row.passed), None)

    @property
    def passed(self) -> bool:
        return self.first_divergence is None and self.same_tokens >= self.agreement * self.tokens

    @property
    def verdict(self) -> str:
        row = self.first_divergence
        if row is not None:
            return f"the first layer out of bounds is {row.path} (error {row.error:.2g}, bound {row.bound:.0e})"
        return f"every layer is within its bound, {self.same_tokens} of {self.tokens} greedy tokens are equal"

    def show(self) -> None:
        """Prints the table."""
        table = Table("layer", "largest value", "largest error", "bound", title=f"{self.artifact} against transformers")
        for row in self.rows:
            style = "" if row.passed else "bold red"
            table.add_row(row.path, f"{row.size:.3g}", f"{row.error:.2e}", f"{row.bound:.0e}", style=style)
        console = table_console()
        console.print(table)
        console.print(f"{'passed' if self.passed else 'FAILED'}: {printable(self.verdict)}")


def verify(
    folder: str | PathLike[str], *, audio: str | None = None, n_tokens: int = 32, progress: OnProgress = ignore_progress
) -> ReportCard:
    """Compares the artifact's own features, logits and tokens with transformers', and each layer compiled once more.

    audio: a recording, whose first window is used; None is seeded noise. n_tokens: greedy tokens to compare.
    The weights are those in the artifact, under the names of the checkpoint. Raises UserError where transformers is
    missing or the artifact is for a GPU or for batches, and what `load` raises.
    """
    check_progress(progress)
    n_tokens = VerifyOptions(n_tokens).tokens
    folder = expanded(folder)
    model = load(folder)
    manifest = model.manifest
    if not manifest.plan.target.on_host or manifest.plan.batch != 1:
        raise UserError(f"{folder}: only artifacts for the CPU with a batch of 1 can be verified, build such a one")
    spec, dtype = read_spec(folder, manifest), manifest.plan.dtype
    reference = Reference(spec, _float32_weights(folder, manifest.plan))
    progress(Progress("made the reference"))
    mel = _window(model, audio)
    features = np.asarray(model.encode(mel))
    prompt = model.tokenizer.prompt("en", without_timestamps=True)
    sampled = model.decode(features, language="en", without_timestamps=True, max_new_tokens=n_tokens)[0].tokens
    tokens = np.array([prompt + sampled])
    logits = model.logits(features, tokens)[0]
    expected = reference.run(mel, tokens)
    progress(Progress("ran the artifact and the reference"))
    layers = layer_outputs(folder, manifest, spec, [(mel, tokens)], progress)[0]
    layers |= {"features": features[0], "logits": logits}
    scores = expected["logits"][len(prompt) - 1 :]
    chosen = choices(manifest, scores)[: max(len(sampled), 1)]
    given = sampled or [manifest.tokens.eot]
    same = sum(one == other for one, other in zip(chosen, given, strict=True))
    return ReportCard(folder, compare(layers, expected, dtype), same, len(given), AGREEMENT[dtype])


def compare(layers: Layers, expected: Layers, dtype: str) -> list[Row]:
    """A row for each layer that both have, in the order of `layers`."""
    rows = []
    for path in layers:
        if path in expected:
            bound = BOUNDS[dtype][not path.startswith(("encoder", "features"))]
            error = float(np.abs(layers[path] - expected[path]).max())
            rows.append(Row(path, float(np.abs(expected[path]).max()), error, bound))
    return rows


def choices(manifest: Manifest, scores: NDArray[np.float32]) -> list[int]:
    """The token that greedy decoding chooses by each row of logits [length, n_vocab], the first row's first."""
    scores = scores.copy()
    scores[:, manifest.tokens.suppress] = -np.inf
    scores[0, manifest.tokens.begin_suppress] = -np.inf
    return [int(token) for token in scores.argmax(axis=1)]


def layer_outputs(
    folder: Path,
    manifest: Manifest,
    spec: Spec,
    windows: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    progress: OnProgress,
) -> list[Layers]:
    """The output of each layer by its path, [length, channels], from graphs that are compiled to give all of them.

    windows: mel [1, n_mels, n_frames] and tokens [1, length] of each.
    """
    artifact, _ = recompile(folder, manifest, spec, progress=progress, expose=True)
    return [_layers(artifact, mel, tokens) for mel, tokens in windows]


def _layers(artifact: Artifact, mel: NDArray[np.float32], tokens: NDArray[np.int64]) -> Layers:
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
    """Mel [1, n_mels, n_frames] of the first window of a recording, or of noise."""
    samples = model.n_frames * HOP
    if audio is None:
        waveform = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1
    else:
        waveform = load_audio(audio)
    return np.ascontiguousarray(model.log_mel(waveform, padding=samples)[None, :, : model.n_frames])


def _float32_weights(folder: Path, plan: BuildPlan) -> Layers:
    """Returns the weights of the checkpoint, as exactly as the artifact has them."""
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
