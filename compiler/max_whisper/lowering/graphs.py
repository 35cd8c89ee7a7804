"""The graphs of a model.

    encoder   mel [batch, n_mels, n_frames]      -> features [batch, n_audio_ctx, d_model]
    cross_kv  features                           -> keys and values of each cross-attention, once per window
    decoder   tokens [batch, length] that follow -> token [batch, 1] that comes next, its log-probability,
              `position` tokens in the caches       logits [batch, scored, n_vocab] of the last tokens, and the
                                                    probability of one token (no-speech) after the first of these
    alignment queries of `decoder`, keys         -> scores [batch, heads, length, n_audio_ctx] of those heads of each
                                                    layer that follow the sound, for the times of words

`decoder` is the prompt's prefill, the step from token to token and the teacher-forced pass alike: `length` is
symbolic, and `first_scored` says from which of the tokens on logits are wanted. The choice of the next token
(selection.py) is part of it. The host drives the steps, which is what showing tokens as they come, beams
and cancelling need, and costs little: some 30 µs of Python beside the 5 ms of a step of tiny
(`benchmarks/overhead.py`), so that a loop inside the graph could save little more than half a percent of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from max.dtype import DType
from max.graph import BufferType, DeviceRef, Graph, Module, TensorType, TensorValue, ops

from max_whisper.lowering.kernels import kernels_folder
from max_whisper.lowering.ops import GraphOps, KeysValues, StepOps, attention_scores, split
from max_whisper.lowering.selection import ALLOWED, filtered, probability, select
from max_whisper.spec import Spec
from max_whisper.spec.layers.attention import Attention
from max_whisper.spec.layers.cross_attention import CrossAttention

DTYPES = {"float32": DType.float32, "bfloat16": DType.bfloat16}
HOST = DeviceRef.CPU()

Type: TypeAlias = TensorType | BufferType
Taps: TypeAlias = dict[str, TensorValue]


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives, in order."""

    inputs: Mapping[str, Type]
    outputs: Mapping[str, Type]


@dataclass(frozen=True)
class Lowered:
    """Graphs that are compiled together, and their signatures by name."""

    module: Module
    graphs: Mapping[str, Signature]
    kernels: Sequence[Path] = ()  # of the custom ops in them


@dataclass(frozen=True)
class Lowering:
    """What a spec is lowered for."""

    spec: Spec
    dtype: str = "float32"  # of the weights: "float32" or "bfloat16"
    batch: int = 1  # windows computed at once
    device: DeviceRef = HOST
    probe: bool = False  # give the output of every layer too, under the layer's path
    alignment_heads: Sequence[tuple[int, int]] = ()  # (cross-attention, head) of those that follow the sound

    def encoder_module(self) -> Lowered:
        """The graphs `encoder` and `cross_kv`."""
        module = Module()
        return Lowered(module, {"encoder": self.encoder(module), "cross_kv": self.cross_kv(module)})

    def decoder_module(self) -> Lowered:
        """The graphs `decoder` and `alignment`."""
        module = Module()
        graphs = {"decoder": self.decoder(module), "alignment": self.alignment(module)}
        return Lowered(module, graphs, kernels=[kernels_folder()])

    def encoder(self, module: Module) -> Signature:
        """Log-mel to features."""
        spec = self.spec
        taps: Taps = {}
        inputs = {"mel": self._floats(spec.n_mels, spec.n_frames)}
        with Graph("encoder", input_types=inputs.values(), module=module) as graph:
            mel = graph.inputs[0].tensor
            features = spec.encoder.lower(self._ops(taps), ops.permute(mel, [0, 2, 1]))
            outputs = {"features": features, **(taps if self.probe else {})}
            graph.output(*outputs.values())
        return Signature(inputs, _types(outputs))

    def cross_kv(self, module: Module) -> Signature:
        """Features to the keys and values of each cross-attention, in order."""
        spec = self.spec
        inputs = {"features": self._floats(spec.n_audio_ctx, spec.d_model)}
        with Graph("cross_kv", input_types=inputs.values(), module=module) as graph:
            layer_ops, features = self._ops(taps={}), graph.inputs[0].tensor
            pairs = [(layer.lower_memory(layer_ops, features), layer.heads) for layer in spec.cross_attentions()]
            values = [split(x, heads) for pair, heads in pairs for x in pair]
            outputs = dict(zip(self._memory_types(), values, strict=True))
            graph.output(*outputs.values())
        return Signature(inputs, _types(outputs))

    def decoder(self, module: Module) -> Signature:
        """Tokens at `position` and after to the next token and to logits."""
        spec = self.spec
        taps: Taps = {}
        caches, memory = self._cache_types(), self._memory_types()
        inputs = {
            "tokens": TensorType(DType.int64, [self.batch, "length"], self.device),
            "position": TensorType(DType.int64, [], HOST),
            "first_scored": TensorType(DType.int64, [], HOST),
            "mask": TensorType(DType.float32, [spec.n_vocab], self.device),
            "allowed": TensorType(DType.int64, [self.batch, len(ALLOWED)], self.device),
            "noise": self._floats(spec.n_vocab),
            "no_speech": TensorType(DType.int64, [], HOST),
            **caches,
            **memory,
        }
        with self._graph("decoder", inputs, module) as graph:
            values = dict(zip(inputs, graph.inputs, strict=True))
            layer_ops = self._ops(
                taps,
                StepOps,
                memory=_pairs([values[name].tensor for name in memory]),
                position=values["position"].tensor,
                first_scored=values["first_scored"].tensor,
                caches=[values[name].buffer for name in caches],
            )
            logits = spec.decoder.lower(layer_ops, values["tokens"].tensor)
            mask, allowed, noise = (values[name].tensor for name in ("mask", "allowed", "noise"))
            token, logprob = select(filtered(logits[:, -1, :], mask, allowed, spec.n_vocab), noise)
            silence = probability(logits[:, 0, :], values["no_speech"].tensor)
            outputs = {"token": token, "logprob": logprob, "no_speech_prob": silence, "logits": logits}
            outputs |= {f"queries.{i}": layer_ops.queries[i] for i in self._aligned_layers()}
            outputs |= taps if self.probe else {}
            graph.output(*outputs.values())
        return Signature(inputs, _types(outputs))

    def alignment(self, module: Module) -> Signature:
        """Queries and keys to scores of the alignment heads, in order, before the softmax."""
        heads, keys = _heads(self.spec, CrossAttention), self._memory_types()
        layers = self._aligned_layers()
        inputs: dict[str, Type] = {}
        for i in layers:
            n, width = heads[i]
            inputs[f"queries.{i}"] = TensorType(DType.float32, [self.batch, "length", n * width], self.device)
        inputs |= {name: keys[name] for name in (f"cross_keys.{i}" for i in layers)}
        with self._graph("alignment", inputs, module) as graph:
            values = {name: value.tensor for name, value in zip(inputs, graph.inputs, strict=True)}
            outputs = {}
            for i in layers:
                chosen = [head for layer, head in self.alignment_heads if layer == i]
                queries_keys = (values[f"queries.{i}"], values[f"cross_keys.{i}"])
                outputs[f"scores.{i}"] = attention_scores(*queries_keys, heads=chosen)
            graph.output(*outputs.values())
        return Signature(inputs, _types(outputs))

    def _graph(self, name: str, inputs: Mapping[str, Type], module: Module) -> Graph:
        """One that may use our own kernels."""
        return Graph(name, input_types=inputs.values(), module=module, custom_extensions=[kernels_folder()])

    def _aligned_layers(self) -> list[int]:
        return sorted({layer for layer, _ in self.alignment_heads})

    def _ops(self, taps: Taps, kind: type[GraphOps] = GraphOps, **options: Any) -> GraphOps:
        shapes = {tensor.name: tensor.shape for tensor in self.spec.tensors()}
        return kind(shapes, taps=taps, dtype=DTYPES[self.dtype], device=self.device, **options)

    def _floats(self, *shape: int) -> TensorType:
        return TensorType(DType.float32, [self.batch, *shape], self.device)

    def _cache_types(self) -> dict[str, BufferType]:
        heads = _heads(self.spec, Attention)
        types = [
            BufferType(DType.float32, [self.batch, n, self.spec.n_text_ctx, width], self.device) for n, width in heads
        ]
        return {f"self_{part}.{i}": type_ for i, type_ in enumerate(types) for part in ("keys", "values")}

    def _memory_types(self) -> dict[str, TensorType]:
        types = [self._floats(n, self.spec.n_audio_ctx, width) for n, width in _heads(self.spec, CrossAttention)]
        return {f"cross_{part}.{i}": type_ for i, type_ in enumerate(types) for part in ("keys", "values")}


def _heads(spec: Spec, kind: type[Attention] | type[CrossAttention]) -> list[tuple[int, int]]:
    """(number of heads, channels of a head) of each attention of this kind in the decoder, in order."""
    layers = [(node.layer, node.input_shape.channels) for node in spec.decoder.walk()]
    return [(layer.heads, width // layer.heads) for layer, width in layers if isinstance(layer, kind)]


def _pairs(values: Sequence[TensorValue]) -> list[KeysValues]:
    return list(zip(values[::2], values[1::2], strict=True))


def _types(values: Mapping[str, TensorValue]) -> dict[str, Type]:
    return {name: value.type for name, value in values.items()}
