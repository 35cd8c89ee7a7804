"""Expands the layers that a spec writes to the tree of layers that run, with the shape of each.

Repeats are unrolled, `{i}` is filled in, and the shape rule of each layer is applied, in order of execution.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from max_whisper.errors import SpecError
from max_whisper.messages import quote
from max_whisper.spec.layer import Container, Context, Layer, Shape, TensorSpec, Workload
from max_whisper.spec.ops import Ops, Value

MAX_LAYERS = 20_000
"""The most layers of a part, with all repeats unrolled."""


@dataclass(frozen=True)
class LayerNode:
    """A layer at the place in the tree where it runs; a `repeat` is one node for each of its copies.

    Attributes:
        path: A unique, readable name, such as `encoder.layers[3].residual[1].attention`. The number after a kind counts
            the siblings of that kind, and is left out where there is only one; the copies of a repeat are `layers[0]`,
            `layers[1]` and so on.
        layer: The layer, with the indices of its repeats filled in.
        input_shape: The shape of its input.
        output_shape: The shape of its output.
        children: The nodes of the layers inside.
        memory: The shape of the encoder's features, for a node of the decoder; else None.
    """

    path: str
    layer: Layer
    input_shape: Shape
    output_shape: Shape
    children: tuple[LayerNode, ...]
    memory: Shape | None

    def walk(self) -> Iterator[LayerNode]:
        """Yields this node and all nodes below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def tensors(self) -> list[TensorSpec]:
        """The tensors that belong to this layer itself, not to those inside."""
        return self.layer.tensors(self.input_shape)

    @property
    def flops_per_window(self) -> int:
        """The operations of this layer and those inside, once per window (see `Spec.flops_per_window`)."""
        workload = self._workload(self.input_shape.length, self.input_shape.length)
        # A layer of the decoder runs for each token; once per window, it computes only what depends on the features.
        flops = self.layer.memory_flops(workload) if self.memory else self.layer.flops(workload)
        return flops + sum(child.flops_per_window for child in self.children)

    def flops_per_token(self, position: int) -> int:
        """Returns the operations of this layer and those inside in a decoder step after `position` tokens."""
        flops = self.layer.flops(self._workload(1, position + 1)) if self.memory else 0
        return flops + sum(child.flops_per_token(position) for child in self.children)

    def _workload(self, query_length: int, kv_length: int) -> Workload:
        memory = self.memory or self.output_shape  # without features, no layer reads it: any shape will do
        return Workload(query_length, self.input_shape.channels, self.output_shape.channels, kv_length, memory)

    def lower(self, ops: Ops, x: Value) -> Value:
        """Builds this layer, and those inside, on `x`, and returns the output."""
        if not isinstance(self.layer, Container):
            ops.begin(self.path)
            y = self._lowered(ops, x)
        else:
            y = self.layer.lower_around(ops, x, partial(_chain, self.children, ops))
        if self.layer.exposed:
            ops.layer_output(self.path, y)
        return y

    def _lowered(self, ops: Ops, x: Value) -> Value:
        """Returns the layer's output; a mistake in its `lower` becomes an error at the layer's line in the spec."""
        try:
            return self.layer.lower(ops, x)
        except SpecError:
            raise
        except Exception as e:
            reason = str(e) if isinstance(e, ValueError) else f"{type(e).__name__} {e}".strip()
            raise self.layer.error(f"{self.path} cannot be lowered: {reason}") from e


@dataclass(frozen=True)
class ModelPart:
    """A part of a model, such as Whisper's encoder.

    Attributes:
        layers: Its layers as the spec writes them.
        nodes: Its layers as they run.
    """

    layers: tuple[Layer, ...]
    nodes: tuple[LayerNode, ...]

    @property
    def output_shape(self) -> Shape:
        """The shape of the last layer's output."""
        return self.nodes[-1].output_shape

    def walk(self) -> Iterator[LayerNode]:
        """Yields every node, parents before their children, in order of execution."""
        for node in self.nodes:
            yield from node.walk()

    def lower(self, ops: Ops, x: Value) -> Value:
        """Builds all layers on the part's input, and returns the output of the last one.

        The input is, in Whisper, log-mel [batch, frames, n_mels] for the encoder, and token ids [batch, length] for the
        decoder.
        """
        return _chain(self.nodes, ops, x)


def _chain(nodes: tuple[LayerNode, ...], ops: Ops, x: Value) -> Value:
    for node in nodes:
        x = node.lower(ops, x)
    return x


def expand(layers: tuple[Layer, ...], shape: Shape, context: Context) -> ModelPart:
    """Returns the tree of `layers` on an input of `shape`. Raises SpecError where a layer does not fit."""
    return ModelPart(layers, _Expander(context).nodes(layers, shape, context.part, {}))


class _Expander:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._count = 0
        self._owners: dict[str, str] = {}  # the path of the layer that each tensor belongs to

    def nodes(
        self, layers: tuple[Layer, ...], shape: Shape, parent: str, indices: Mapping[str, int]
    ) -> tuple[LayerNode, ...]:
        nodes: list[LayerNode] = []
        for layer, path, copy_indices in _copies(layers, parent):
            node = self._node(layer, shape, path, {**indices, **copy_indices})
            nodes.append(node)
            shape = node.output_shape
        return tuple(nodes)

    def _node(self, written: Layer, shape: Shape, path: str, indices: Mapping[str, int]) -> LayerNode:
        self._count += 1
        if self._count > MAX_LAYERS:
            raise written.error(f"expected at most {MAX_LAYERS} layers, with all repeats unrolled there are more")
        layer = _filled_in(written, path, indices)
        context = self._context
        if context.layers and context.layers[-1].returns_logits:
            raise layer.error("expected nothing after the logits, which end the decoder")
        if shape.channels == 0 and not layer.reads_tokens:
            raise layer.error("expected an embedding as the first layer of the decoder, whose input is token ids")
        if isinstance(layer, Container):
            children = self.nodes(layer.layers, shape, path, indices)
            if context.layers[-1].returns_logits:
                raise layer.error(f"expected the logits after this layer, as the last of the {context.part}")
            output = layer.around_shape(shape, children[-1].output_shape)
        else:
            children = ()
            output = layer.output_shape(shape, context)
            self._register_tensors(layer, shape)
            context.layers.append(layer)
        return LayerNode(path, layer, shape, output, children, context.memory)

    def _register_tensors(self, layer: Layer, shape: Shape) -> None:
        """Raises SpecError for a tensor that belongs to another layer already."""
        for tensor in layer.tensors(shape):
            owner = self._owners.setdefault(tensor.name, layer.path)
            if owner != layer.path:
                message = f"expected weights of its own, {quote(tensor.name)} is used by {owner} already"
                raise layer.error(f"{message}; inside a repeat, names need its index, as in layers.{{i}}", "weights")


def _copies(layers: tuple[Layer, ...], parent: str) -> Iterator[tuple[Layer, str, dict[str, int]]]:
    """Yields every copy of each layer, with its path and the indices that it introduces."""
    copies = [(layer, layer.copies() if isinstance(layer, Container) else [{}]) for layer in layers]
    totals: Counter[str] = Counter()
    for layer, all_copies in copies:
        totals[layer.label or layer.kind] += len(all_copies)
    counts: Counter[str] = Counter()
    for layer, all_copies in copies:
        name = layer.label or layer.kind
        for indices in all_copies:
            number = f"[{counts[name]}]" if layer.label or totals[name] > 1 else ""
            counts[name] += 1
            yield layer, f"{parent}.{name}{number}", indices


def _filled_in(layer: Layer, path: str, indices: Mapping[str, int]) -> Layer:
    """Returns `layer` with its path, and with the indices filled into its weight names."""
    names: dict[str, Any] = {}
    for option in layer.fields.values():
        value = getattr(layer, option.attribute)
        if option.role == "weights" and value is not None:
            for index, number in indices.items():
                value = value.replace(f"{{{index}}}", str(number))
            names[option.attribute] = value
    return dataclasses.replace(layer, path=path, **names)
