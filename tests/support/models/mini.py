"""MINI, a spec as text, and what tests of the spec language and of lowering do with it."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path

from max_whisper.lowering.builder import Builder
from max_whisper.lowering.decoder_context import DecoderContext
from max_whisper.lowering.ops import Program, Value
from max_whisper.spec import Spec
from max_whisper.tensors.layout import stored_tensors

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
    """Returns `text` with the first text of each pair, which must be there, replaced once by the second."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def write(folder: Path, text: str, name: str = "mini.yaml") -> Path:
    """Writes a spec; returns its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def recorded(spec: Spec, part: str, x: Value) -> Program:
    """Returns the ops of a part of a spec, whose input is `x`."""
    tensors = {tensor.name: tensor for tensor in stored_tensors(spec, dtype="float32", packed=True)}
    position, cache = Value((), "int64"), (Value(("cache",)), Value(("cache",)))
    memory = dict(zip(("keys", "values"), cache, strict=True))
    decoder = DecoderContext(position, repeat(cache), repeat(memory)) if part == "decoder" else None
    builder = Builder(tensors, (), {}, decoder)
    return builder.program(part, {"y": spec.parts[part].lower(builder, x)})


def weights_of(program: Program) -> set[str]:
    """Returns the names of the tensors that a program reads."""
    return {op.attributes["tensor"].name for op in program.ops if op.kind == "weight"}
