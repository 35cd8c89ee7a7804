"""The graphs of a model: encoder and cross_kv, compiled together; step and logits, compiled together.

    encoder   mel [batch, n_mels, n_frames]                       -> features [batch, n_audio_ctx, d_model]
    cross_kv  features                                            -> keys and values of each cross-attention
    step      tokens [batch, length], position, mask, caches, KV  -> token [batch, 1], log-probability [batch, 1]
    logits    tokens [batch, length], KV                          -> logits [batch, length, n_vocab]

`step` is the prompt's prefill and the decode step alike: `length` is symbolic, and the token selection (mask, argmax,
log-probability) is part of it. It is one step driven by the host, not a loop in the graph; `benchmarks/loop.md` has
the measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from max.dtype import DType
from max.graph import BufferType, DeviceRef, Graph, Module, TensorType, TensorValue, Value, ops

from max_whisper.lowering.ops import GraphOps, KeysValues, StepOps, split
from max_whisper.spec import Spec
from max_whisper.spec.layers.attention import Attention
from max_whisper.spec.layers.cross_attention import CrossAttention

DTYPES = {"float32": DType.float32, "bfloat16": DType.bfloat16}
HOST = DeviceRef.CPU()

Tap = Callable[[str, TensorValue], None]


@dataclass(frozen=True)
class Lowering:
    """What a spec is lowered for."""

    spec: Spec
    dtype: str = "float32"  # of the weights: "float32" or "bfloat16"
    batch: int = 1  # windows computed at once
    device: DeviceRef = HOST

    def encoder_module(self) -> Module:
        """The graphs `encoder` and `cross_kv`."""
        module = Module()
        self.encoder(module)
        self.cross_kv(module)
        return module

    def decoder_module(self) -> Module:
        """The graphs `step` and `logits`."""
        module = Module()
        self.step(module)
        self.logits(module)
        return module

    def encoder(self, module: Module, tap: Tap | None = None) -> Graph:
        """Log-mel to features; `tap` sees the output of every layer."""
        spec = self.spec
        with Graph("encoder", input_types=[self._floats(spec.n_mels, spec.n_frames)], module=module) as graph:
            mel = graph.inputs[0].tensor
            graph.output(spec.encoder.lower(GraphOps(**self._options(), tap=tap), ops.permute(mel, [0, 2, 1])))
        return graph

    def cross_kv(self, module: Module) -> Graph:
        """Features to the keys and values of each cross-attention, in order."""
        spec = self.spec
        with Graph("cross_kv", input_types=[self._floats(spec.n_audio_ctx, spec.d_model)], module=module) as graph:
            layer_ops, features = GraphOps(**self._options()), graph.inputs[0].tensor
            pairs = [(layer, layer.lower_memory(layer_ops, features)) for layer in spec.cross_attentions()]
            graph.output(*(split(x, layer.heads) for layer, pair in pairs for x in pair))
        return graph

    def step(self, module: Module) -> Graph:
        """The tokens at `position` and after to the next token."""
        spec = self.spec
        caches = [
            BufferType(DType.float32, [self.batch, heads, spec.n_text_ctx, width], self.device)
            for heads, width in _head_shapes(spec, Attention)
            for _ in ("keys", "values")
        ]
        position = TensorType(DType.int64, [], HOST)
        mask = TensorType(DType.float32, [spec.n_vocab], self.device)
        inputs = [self._tokens(), position, mask, *caches, *self._memory_types()]
        with Graph("step", input_types=inputs, module=module) as graph:
            tokens, position, mask, *rest = graph.inputs
            layer_ops = StepOps(
                **self._options(),
                memory=_pairs(rest[len(caches) :]),
                position=position.tensor,
                caches=[cache.buffer for cache in rest[: len(caches)]],
            )
            scores = spec.decoder.lower(layer_ops, tokens.tensor)
            graph.output(*select(ops.reshape(scores, [self.batch, spec.n_vocab]) + mask.tensor))
        return graph

    def logits(self, module: Module, tap: Tap | None = None) -> Graph:
        """Whole token sequences to the logits after each token; `tap` sees the output of every layer."""
        with Graph("logits", input_types=[self._tokens(), *self._memory_types()], module=module) as graph:
            tokens, *memory = graph.inputs
            layer_ops = GraphOps(**self._options(), memory=_pairs(memory), tap=tap)
            graph.output(self.spec.decoder.lower(layer_ops, tokens.tensor))
        return graph

    def _options(self) -> dict[str, Any]:
        shapes = {tensor.name: tensor.shape for tensor in self.spec.tensors()}
        return {"shapes": shapes, "dtype": DTYPES[self.dtype], "device": self.device}

    def _floats(self, *shape: int) -> TensorType:
        return TensorType(DType.float32, [self.batch, *shape], self.device)

    def _tokens(self) -> TensorType:
        return TensorType(DType.int64, [self.batch, "length"], self.device)

    def _memory_types(self) -> list[TensorType]:
        spec = self.spec
        return [
            self._floats(heads, spec.n_audio_ctx, width)
            for heads, width in _head_shapes(spec, CrossAttention)
            for _ in ("keys", "values")
        ]


def select(scores: TensorValue) -> tuple[TensorValue, TensorValue]:
    """The best token [batch, 1] of float32 scores [batch, n_vocab] and its log-probability [batch, 1]."""
    best = ops.max(scores, axis=-1)
    return ops.argmax(scores, axis=-1), -ops.log(ops.sum(ops.exp(scores - best), axis=-1))


def _head_shapes(spec: Spec, kind: type[Attention] | type[CrossAttention]) -> list[tuple[int, int]]:
    """(number of heads, channels of a head) of each attention of this kind in the decoder, in order."""
    nodes = [node for node in spec.decoder.walk() if isinstance(node.layer, kind)]
    return [(node.layer.heads, node.input_shape.channels // node.layer.heads) for node in nodes]


def _pairs(values: Sequence[Value[Any]]) -> list[KeysValues]:
    return [(keys.tensor, values_.tensor) for keys, values_ in zip(values[::2], values[1::2], strict=True)]
