"""A small spec, and what the tests of the spec language share."""

from __future__ import annotations

from pathlib import Path

MINI = """\
name: mini
source: {repo: someone/mini}
dims:
  n_mels: 16
  n_audio_ctx: 50
  d_model: 12
  n_heads: 3
  d_ffn: 24
  n_vocab: 100
  n_text_ctx: 20
encoder:
  - conv1d: {out: $d_model, kernel: 3, stride: 2, padding: 1, weights: enc.conv}
  - gelu
  - positions: {length: $n_audio_ctx, weights: enc.pos}
  - repeat:
      times: 2
      as: i
      layers:
        - residual:
            - layernorm: {weights: "enc.{i}.norm"}
            - attention: {heads: $n_heads, weights: "enc.{i}.attn"}
        - residual:
            - linear: {out: $d_ffn, weights: "enc.{i}.fc1"}
            - silu
            - linear: {out: $d_model, weights: "enc.{i}.fc2"}
decoder:
  - embedding: {vocab: $n_vocab, width: $d_model, weights: dec.tokens}
  - positions: {length: $n_text_ctx, weights: dec.pos}
  - residual:
      - attention: {heads: $n_heads, causal: true, weights: dec.attn}
  - residual:
      - cross_attention: {heads: $n_heads, memory: encoder, weights: dec.cross}
  - layernorm: {eps: 1e-6, weights: dec.norm}
  - logits: {tied: dec.tokens}
"""


def changed(*pairs: tuple[str, str], text: str = MINI) -> str:
    """`text` with each first text of a pair, which must be there, replaced once by the second."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def write(folder: Path, text: str, name: str = "mini.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


class Trace:
    """An `Ops` that computes nothing: it writes down what is asked for, and follows the shapes."""

    def __init__(self, tensors):
        self.shapes = {tensor.name: tensor.shape for tensor in tensors}
        self.used: list[str] = []
        self.calls: list[str] = []
        self.taps: list[tuple[str, tuple[int, ...]]] = []

    def weight(self, name):
        self.used.append(name)
        return self.shapes[name]

    def conv1d(self, x, weight, bias, *, stride, padding):
        assert weight[1] == x[2] and bias == weight[:1]
        return x[0], (x[1] + 2 * padding - weight[2]) // stride + 1, weight[0]

    def linear(self, x, weight, bias):
        assert weight[1] == x[2] and bias in (None, weight[:1])
        return *x[:2], weight[0]

    def layernorm(self, x, weight, bias, *, eps):
        assert weight == bias == x[2:] and 0 < eps < 1
        return x

    def activation(self, x, function):
        self.calls.append(function)
        return x

    def embedding(self, tokens, table):
        return *tokens, table[1]

    def positions(self, x, table):
        assert table[0] >= x[1] and table[1] == x[2]
        return x

    def self_attention(self, q, k, v, *, heads, causal):
        assert q == k == v and q[2] % heads == 0
        self.calls.append(f"self_attention causal={causal}")
        return q

    def cross_attention(self, q, *, heads):
        assert q[2] % heads == 0
        self.calls.append("cross_attention")
        return q

    def add(self, x, y):
        assert x == y
        return x

    def logits(self, x, table):
        assert table[1] == x[2]
        return *x[:2], table[0]

    def begin(self, path):
        pass

    def tap(self, path, x):
        self.taps.append((path, x))
