"""The graphs of a model.

    encoder   mel [batch, n_mels, n_frames]      -> features [batch, n_audio_ctx, d_model]
    cross_kv  features                           -> keys and values of each cross-attention, once per window
    decoder   tokens [batch, length] that follow -> token [batch, 1] that comes next, its log-probability,
              `position` tokens in the caches       logits [batch, scored, n_vocab] of the last tokens, and the
                                                    probability of one token (no-speech) after the first of these
    step      token [batch, 1]                   -> token [batch, 1] that comes next, and its log-probability
    alignment queries of `decoder`, keys         -> scores [batch, heads, length, n_audio_ctx] of those heads of each
                                                    layer that follow the sound, for the times of words

`decoder` is the prompt's prefill and the teacher-forced pass alike: `length` is symbolic, and `first_scored` says from
which of the tokens on logits are wanted. `step` is the same for one token, and gives nothing that the next step does
not need. The choice of the next token (selection.py) is part of both. The host drives the steps, which is what showing
tokens as they come, beams and cancelling need, and costs little: see `benchmarks/overhead.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from max.dtype import DType
from max.graph import BufferType, DeviceRef, Graph, Module, TensorType, TensorValue, Value, ops

from max_whisper.lowering import cpu
from max_whisper.lowering import ops as gpu
from max_whisper.lowering.ops import KeysValues
from max_whisper.lowering.selection import ALLOWED
from max_whisper.lowering.storage import Stored, storage
from max_whisper.spec import Spec
from max_whisper.spec.layers.attention import Attention
from max_whisper.spec.layers.cross_attention import CrossAttention

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


@dataclass(frozen=True)
class Lowering:
    """What a spec is lowered for."""

    spec: Spec
    kernels: Path  # the compiled package of custom ops
    dtype: str = "float32"  # of matrices: "float32", "bfloat16" or "int8"
    batch: int = 1  # windows computed at once
    device: DeviceRef = HOST
    probe: bool = False  # give the output of every layer too, under the layer's path
    alignment_heads: Sequence[tuple[int, int]] = ()  # (cross-attention, head) of those that follow the sound
    exact_halves: Mapping[str, str] = field(default_factory=dict)  # see storage.py

    def encoder_module(self) -> Lowered:
        """The graphs `encoder` and `cross_kv`."""
        module = Module()
        graphs = {"encoder": self.encoder(module), "cross_kv": self.cross_kv(module)}
        return Lowered(module, graphs)

    def decoder_module(self) -> Lowered:
        """The graphs `decoder`, `step` and `alignment`."""
        module = Module()
        graphs = {"decoder": self.decoder(module), "step": self.step(module), "alignment": self.alignment(module)}
        return Lowered(module, graphs)

    def encoder(self, module: Module) -> Signature:
        """Log-mel to features."""
        spec = self.spec
        taps = self._taps()
        inputs = {"mel": self._floats(spec.n_mels, spec.n_frames)}
        with self._graph("encoder", inputs, module) as graph:
            layer_ops = self._window_ops(taps)
            mel = ops.permute(graph.inputs[0].tensor, [0, 2, 1])
            outputs = {"features": layer_ops.value(spec.encoder.lower(layer_ops, mel)), **(taps or {})}
            graph.output(*outputs.values())
        return Signature(inputs, _types(outputs))

    def cross_kv(self, module: Module) -> Signature:
        """Features to the keys and values of each cross-attention, in order."""
        spec = self.spec
        inputs = {"features": self._floats(spec.n_audio_ctx, spec.d_model)}
        with self._graph("cross_kv", inputs, module) as graph:
            layer_ops, features = self._window_ops(), graph.inputs[0].tensor
            parts = []
            for layer in spec.cross_attentions():
                layer_ops.begin(layer.path)
                parts += [(x, layer.heads) for x in layer.lower_memory(layer_ops, features)]
            types = self._memory_types().items()
            outputs = {
                name: layer_ops.split(*part, type_.dtype) for (name, type_), part in zip(types, parts, strict=True)
            }
            graph.output(*outputs.values())
        return Signature(inputs, _types(outputs))

    def decoder(self, module: Module) -> Signature:
        """Tokens at `position` and after to the next token and to logits."""
        taps = self._taps()
        types = self._token_types("length")
        inputs = {
            "tokens": types.pop("tokens"),
            "position": types.pop("position"),
            "first_scored": TensorType(DType.int64, [], HOST),
            "no_speech": TensorType(DType.int64, [], HOST),
            **types,
        }
        with self._graph("decoder", inputs, module) as graph:
            values = dict(zip(inputs, graph.inputs, strict=True))
            layer_ops = self._token_ops(values, values["first_scored"].tensor, taps)
            logits = layer_ops.value(self.spec.decoder.lower(layer_ops, values["tokens"].tensor))
            token, logprob = layer_ops.select(logits, *_rules(values))
            silence = layer_ops.probability(logits, values["no_speech"].tensor)
            outputs = {"token": token, "logprob": logprob, "no_speech_prob": silence, "logits": logits}
            outputs |= {f"queries.{i}": layer_ops.queries[i] for i in self._aligned_layers()}
            outputs |= taps or {}
            graph.output(*outputs.values())
        return Signature(inputs, _types(outputs))

    def step(self, module: Module) -> Signature:
        """The token at `position` to the next token."""
        inputs = self._token_types(1)
        with self._graph("step", inputs, module) as graph:
            values = dict(zip(inputs, graph.inputs, strict=True))
            layer_ops = self._token_ops(values)
            logits = self.spec.decoder.lower(layer_ops, values["tokens"].tensor)
            token, logprob = layer_ops.select(logits, *_rules(values))
            outputs = {"token": token, "logprob": logprob}
            graph.output(*outputs.values())
        return Signature(inputs, _types(outputs))

    def _token_types(self, length: int | str) -> dict[str, Type]:
        """What the decoder takes for tokens at `position` and after."""
        return {
            "tokens": TensorType(DType.int64, [self.batch, length], self.device),
            "position": TensorType(DType.int64, [], HOST),
            "mask": TensorType(DType.float32, [self.spec.n_vocab], self.device),
            "allowed": TensorType(DType.int64, [self.batch, len(ALLOWED)], self.device),
            "noise": self._floats(self.spec.n_vocab),
            **self._cache_types(),
            **self._memory_types(),
        }

    def _token_ops(
        self, values: Mapping[str, Value], first_scored: TensorValue | None = None, taps: Taps | None = None
    ) -> gpu.StepOps:
        _, operations = self._operations
        return operations(
            self._stored,
            device=self.device,
            taps=taps,
            memory=_pairs([values[name].tensor for name in self._memory_types()]),
            position=values["position"].tensor,
            first_scored=first_scored,
            caches=[values[name].buffer for name in self._cache_types()],
        )

    def _window_ops(self, taps: Taps | None = None) -> gpu.GraphOps:
        operations, _ = self._operations
        return operations(self._stored, device=self.device, taps=taps)

    @property
    def _operations(self) -> tuple[Callable[..., gpu.GraphOps], Callable[..., gpu.StepOps]]:
        """Of layers that see a whole window, and of those of the decoder."""
        return (cpu.WindowOps, cpu.TokenOps) if self._on_cpu else (gpu.GraphOps, gpu.StepOps)

    def alignment(self, module: Module) -> Signature:
        """Queries and keys to scores of the alignment heads, in order, before the softmax."""
        heads, keys = _heads(self.spec, CrossAttention), self._memory_types()
        layers = self._aligned_layers()
        attention_scores = cpu.attention_scores if self._on_cpu else gpu.attention_scores
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

    @property
    def extensions(self) -> list[Path]:
        """The packages of custom ops that the graphs use."""
        return [self.kernels]

    def _graph(self, name: str, inputs: dict[str, Type], module: Module) -> Graph:
        """One that may use our own kernels."""
        return Graph(name, input_types=inputs.values(), module=module, custom_extensions=self.extensions)

    def _taps(self) -> Taps | None:
        return {} if self.probe else None

    def _aligned_layers(self) -> list[int]:
        return sorted({layer for layer, _ in self.alignment_heads})

    @property
    def _on_cpu(self) -> bool:
        return bool(self.device == HOST)

    @cached_property
    def _stored(self) -> Mapping[str, Stored]:
        return storage(self.spec, dtype=self.dtype, on_cpu=self._on_cpu, exact_halves=self.exact_halves)

    def _floats(self, *shape: int) -> TensorType:
        return TensorType(DType.float32, [self.batch, *shape], self.device)

    def _cache_types(self) -> dict[str, BufferType]:
        heads = _heads(self.spec, Attention)
        types = [
            BufferType(DType.float32, [self.batch, n, self.spec.n_text_ctx, width], self.device) for n, width in heads
        ]
        return {f"self_{part}.{i}": type_ for i, type_ in enumerate(types) for part in ("keys", "values")}

    def _memory_types(self) -> dict[str, TensorType]:
        """Keys and values of the features; a CPU reads them anew for each token, so that their size is what counts."""
        dtype = DType.bfloat16 if self._on_cpu and self.dtype != "float32" else DType.float32
        context = self.spec.n_audio_ctx
        heads = _heads(self.spec, CrossAttention)
        types = [TensorType(dtype, [self.batch, n, context, width], self.device) for n, width in heads]
        return {f"cross_{part}.{i}": type_ for i, type_ in enumerate(types) for part in ("keys", "values")}


def _heads(spec: Spec, kind: type[Attention] | type[CrossAttention]) -> list[tuple[int, int]]:
    """(number of heads, channels of a head) of each attention of this kind in the decoder, in order."""
    layers = [(node.layer, node.input_shape.channels) for node in spec.decoder.walk()]
    return [(layer.heads, width // layer.heads) for layer, width in layers if isinstance(layer, kind)]


def _rules(values: Mapping[str, Value]) -> list[TensorValue]:
    return [values[name].tensor for name in ("mask", "allowed", "noise")]


def _pairs(values: Sequence[TensorValue]) -> list[KeysValues]:
    return list(zip(values[::2], values[1::2], strict=True))


def _types(values: Mapping[str, TensorValue]) -> dict[str, Type]:
    return {name: value.type for name, value in values.items()}
