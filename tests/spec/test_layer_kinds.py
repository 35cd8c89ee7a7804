"""A new layer kind is one file: RMSNorm and attention with rotary position embedding, from docs/adding-a-layer.md."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import max_whisper
import numpy as np
import pytest
from max_whisper.errors import SpecError, UserError
from max_whisper.lowering.builder import Builder
from max_whisper.lowering.families.whisper import step
from max_whisper.lowering.ops import Value
from max_whisper.spec import layer, load_spec
from max_whisper.spec.counts import self_kv_size
from max_whisper.spec.layer import Layer, option, register
from max_whisper.spec.layers.attention import Attention
from support.artifacts import plan_of
from support.models.checkpoint import Weights
from support.models.mini import MINI, changed, write
from support.models.thin import THIN, write_thin

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-layer.md").read_text()
RMSNORM, ROPE = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)[:2]
SPEC = changed(
    (
        "  - relu\n",
        "  - relu\n  - rmsnorm: {weights: model.encoder.norm}\n"
        "  - rope_attention: {heads: $n_heads, weights: model.encoder.rope}\n",
    ),
    ("      - cross", "      - rmsnorm: {eps: 1e-3, weights: model.decoder.first_norm}\n      - cross"),
    ("  - logits", "  - rmsnorm: {weights: model.decoder.last_norm}\n  - logits"),
    text=THIN,
)
ROPE_IN_DECODER = """\
  - residual:
      - rope_attention: {heads: $n_heads, causal: true, base: 500, weights: model.decoder.rope}
"""
SPECS = {
    "ours": SPEC.replace(
        "  - rmsnorm: {weights: model.decoder.last", ROPE_IN_DECODER + "  - rmsnorm: {weights: model.decoder.last"
    ),
    # MAX's own ops let rows see later tokens where heads are as small as here (docs/troubleshooting.md).
    "max": SPEC,
}


@pytest.fixture
def own_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the layer kinds for the time of a test, from files that are in no package."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(layer, "_kinds", dict(layer.kinds()))
    for name, text in (("rmsnorm_of_mine", RMSNORM), ("rope_of_mine", ROPE)):
        (tmp_path / f"{name}.py").write_text(text)
        importlib.import_module(name)
    yield
    del sys.modules["rmsnorm_of_mine"], sys.modules["rope_of_mine"]


@pytest.fixture
def checkpoint(tmp_path: Path, own_kinds: None) -> tuple[Path, Path, Weights]:
    """Writes a spec and random weights; returns the spec, the folder of the weights, and the weights."""
    return write_thin(tmp_path, SPEC)


def norm(x: np.ndarray, weight: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """Returns the correct output of the layer: x / sqrt(mean(x^2) + eps) * weight, for each row."""
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def rotated(x: np.ndarray, base: float) -> np.ndarray:
    """Returns x [length, 16] with each pair (j, j + 8), as a complex number, turned by the angle p * base^(-j / 8)."""
    y = (x[:, :8] + 1j * x[:, 8:]) * np.exp(1j * np.arange(len(x))[:, None] * base ** (-np.arange(8) / 8))
    return np.hstack([y.real, y.imag])


def attended(
    x: np.ndarray, memory: np.ndarray, prefix: str, w: Weights, *, base: float = 0, causal: bool = False
) -> np.ndarray:
    """Returns the attention of two heads over `memory`; with a base, queries and keys are rotated."""
    q, k, v = (
        rows @ w[f"{prefix}.{name}_proj.weight"].T + w.get(f"{prefix}.{name}_proj.bias", 0)
        for name, rows in (("q", x), ("k", memory), ("v", memory))
    )
    heads = []
    for head in (slice(0, 16), slice(16, 32)):
        queries, keys = (rotated(y[:, head], base) if base else y[:, head] for y in (q, k))
        scores = queries @ keys.T / 4
        if causal:
            scores[np.triu_indices(len(scores), 1)] = -np.inf
        exps = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(exps / exps.sum(axis=1, keepdims=True) @ v[:, head])
    return np.hstack(heads) @ w[f"{prefix}.out_proj.weight"].T + w[f"{prefix}.out_proj.bias"]


def encoded(mel: np.ndarray, w: Weights) -> np.ndarray:
    """Returns the features of SPEC in float64, [n_audio_ctx, d_model], for mel [n_mels, n_frames]."""
    padded = np.pad(mel.T, [(1, 1), (0, 0)])
    kernel = w["model.encoder.conv1.weight"]  # [out, in, 3]
    rows = sum(padded[i : i + mel.shape[1] : 2] @ kernel[:, :, i].T for i in range(3)) + w["model.encoder.conv1.bias"]
    normed = norm(np.maximum(rows, 0), w["model.encoder.norm.weight"])
    return attended(normed, normed, "model.encoder.rope", w, base=10000)


def decoded(features: np.ndarray, tokens: list[int], w: Weights) -> np.ndarray:
    """Returns the logits of a spec of SPECS in float64, [length, n_vocab]."""
    table = w["model.decoder.embed_tokens.weight"]
    x = table[tokens] + w["model.decoder.embed_positions.weight"][: len(tokens)]
    x = x + attended(norm(x, w["model.decoder.first_norm.weight"], 1e-3), features, "model.decoder.attn", w)
    if "model.decoder.rope.q_proj.weight" in w:
        x = x + attended(x, x, "model.decoder.rope", w, base=500, causal=True)
    return norm(x, w["model.decoder.last_norm.weight"]) @ table.T


@pytest.mark.parametrize("kernels", ["ours", "max"])
def test_one_file_is_built_and_run(own_kinds: None, kernels: str, tmp_path: Path) -> None:
    spec, folder, weights = write_thin(tmp_path, SPECS[kernels])
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    model = max_whisper.load(
        max_whisper.build(spec, weights=folder, dtype="float32", out=tmp_path / "artifact", kernels=kernels)
    )
    mel = np.random.default_rng(1).standard_normal((1, 80, 100)).astype(np.float32)
    features, expected = np.asarray(model.encode(mel)), encoded(mel[0], exact)
    np.testing.assert_allclose(features[0], expected, atol=2e-5)
    options = {"language": "en", "without_timestamps": True}
    prompt = model.prompt(**options)
    (result,) = model.decode(features, max_new_tokens=20, **options)  # token by token, with the KV cache
    tokens = [*prompt, *result.tokens]
    logits = decoded(expected, tokens, exact)
    np.testing.assert_allclose(model.logits(features, [tokens])[0], logits, atol=5e-5)
    scores = logits[len(prompt) - 1 :]
    scores[:, model.manifest.tokens.suppress] = -np.inf
    scores[0, model.manifest.tokens.begin_suppress] = -np.inf
    assert len(result.tokens) > 10
    assert scores.argmax(axis=1).tolist()[: len(result.tokens)] == result.tokens


def test_a_backend_with_an_emitter_gets_the_kind_itself() -> None:
    def primitives(ops: Builder, x: Value, weight: Value, *, eps: float) -> Value:
        return ops.mul(ops.mul(x, ops.rsqrt(ops.add(ops.mean(ops.mul(x, x)), ops.constant(eps)))), weight)

    x, weight = Value((1, "length", 8)), Value((8,))
    primitive_kinds = ["mul", "mean", "constant", "add", "rsqrt", "mul", "mul"]
    for kinds, expected in (((), primitive_kinds), (("rmsnorm",), ["rmsnorm"])):
        builder = Builder({}, kinds, {})
        y = builder.call("rmsnorm", primitives, x, weight, eps=1e-5)
        program = builder.program("graph", {"y": y})
        assert [op.kind for op in program.ops] == expected
        assert y.shape == x.shape
    assert program.ops[0].attributes == {"eps": 1e-5} and [*program.ops[0].inputs.values()] == [x, weight]


def test_a_kind_that_the_compiler_cannot_import_is_refused(
    checkpoint: tuple[Path, Path, Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, folder, _ = checkpoint
    monkeypatch.setattr(layer.kinds()["rmsnorm"], "__module__", "__main__")
    with pytest.raises(
        UserError, match=r"layer kind 'rmsnorm': it is defined in the program that runs.*file of its own"
    ):
        max_whisper.build(spec, weights=folder, dtype="float32", out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_a_kind_of_ones_own_is_in_the_canonical_form(checkpoint: tuple[Path, Path, Weights]) -> None:
    spec = load_spec(checkpoint[0])
    assert {"rmsnorm": {"eps": 0.001, "weights": "model.decoder.first_norm"}} in json.loads(
        json.dumps(spec.canonical())
    )["decoder"][2]["residual"]


@dataclass(frozen=True, kw_only=True)
class Wrong(Layer):
    """A layer that multiplies by a number."""

    def lower(self, ops, x):
        return ops.mul(x, 2)


@dataclass(frozen=True, kw_only=True)
class Doubled(Attention):
    """An attention with queries twice as large."""

    def lower(self, ops, x):
        weights = [ops.weight(f"{self.weights}.{name}_proj.weight") for name in "qkv"]
        q, k, v = (ops.linear(x, weight, None) for weight in weights)
        return ops.self_attention(ops.add(q, q), k, v, heads=self.heads, causal=self.causal)


def test_a_mistake_in_a_layer_is_an_error_at_its_line(checkpoint: tuple[Path, Path, Weights], tmp_path: Path) -> None:
    register("wrong")(Wrong)
    spec, folder, _ = checkpoint
    spec.write_text(spec.read_text().replace("  - relu", "  - wrong"))
    said = r"thin.yaml:5: encoder\[1\].wrong: encoder.wrong cannot be lowered: mul: expected a value .* found 2; "
    with pytest.raises(SpecError, match=said):
        max_whisper.build(spec, weights=folder, dtype="float32", out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_an_attention_of_ones_own_has_a_cache(own_kinds: None, tmp_path: Path) -> None:
    register("doubled")(Doubled)
    text = changed(("- attention: {heads: $n_heads, causal: true", "- doubled: {heads: $n_heads, causal: true"))
    spec = load_spec(write(tmp_path, text))
    program = step(spec, plan_of(spec), ())
    assert [name for name in program.inputs if name.startswith("self_")] == ["self_keys.0", "self_values.0"]
    assert self_kv_size(spec) == self_kv_size(load_spec(write(tmp_path, MINI)))


def test_options_and_attentions_are_checked_when_a_kind_is_registered(own_kinds: None) -> None:
    with pytest.raises(ValueError, match=r"Half.by: the default 0.5 is not from 1 to \d+; give the field another"):
        register("half")(Half)
    with pytest.raises(ValueError, match="Headless has self_attention: expected a field `heads`"):
        register("headless")(Headless)


@dataclass(frozen=True, kw_only=True)
class Half(Layer):
    by: float = option("factor", default=0.5)


@dataclass(frozen=True, kw_only=True)
class Headless(Layer):
    self_attention: ClassVar[bool] = True
