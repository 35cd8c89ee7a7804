"""Layer kinds: one class declares the fields, the shape rule, the tensors, the FLOPs and the lowering of each.

A new kind is one file in `layers/` with one class:

    @register("mix")
    @dataclass(frozen=True, kw_only=True)
    class Mix(Layer):
        \"\"\"Mixes the channels of each row.\"\"\"

        weights: str = weight_name("The prefix of the tensor `weight` [channels, channels].")

        def tensors(self, shape: Shape) -> list[TensorSpec]:
            return [self.matrix(f"{self.weights}.weight", shape.channels, shape.channels)]

        def flops(self, workload: Workload) -> int:
            return 2 * workload.query_length * workload.channels**2

        def lower(self, ops: Ops, x: Value) -> Value:
            return ops.linear(x, ops.weight(f"{self.weights}.weight"), None)

From then on specs can use it, and the shape inference, the JSON Schema and `inspect` know it. `ops.py` lists the
operations that `lower` may call: those of transformer models, and primitives for everything else. A kind that has
faster code in some backend calls `ops.call`, and that code is one emitter in the backend's table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import SpecError
from max_whisper.spec.document import SourceLocation
from max_whisper.spec.ops import Ops, Value
from max_whisper.spec.option import MAX_DIM, LayerField, option, read_fields, weight_name
from max_whisper.spec.shapes import Shape, TensorSpec, Workload

__all__ = [
    "MAX_DIM",
    "Container",
    "Context",
    "Layer",
    "LayerField",
    "Shape",
    "TensorSpec",
    "Workload",
    "kinds",
    "option",
    "register",
    "weight_name",
]
"""All that the file of a layer kind needs, so that it imports from one module only."""


@dataclass
class Context:
    """The surroundings of a layer, for its shape rule.

    Attributes:
        part: The part of the model that the layer is in, "encoder" or "decoder" in Whisper.
        memory: The shape of the encoder's features, in the decoder; else None.
        layers: The layers of this part that come before, in order of execution.
    """

    part: str
    memory: Shape | None
    layers: list[Layer] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The base class of all layer kinds.

    A subclass is a frozen dataclass with keyword-only fields, made by `option` and `weight_name`, and overrides the
    methods below that differ from their defaults: `lower` always does. Values are checked before an instance is made:
    it holds no variables, and no `{i}` once the tree has been expanded.

    Attributes:
        kind: The name of the kind in specs; `register` sets it.
        fields: The fields that can be written in a spec, by their YAML keys; `register` sets them.
        inline: The field that is written without its name, as in `residual: [...]`; None if there is none.
        reads_tokens: Whether the input is token ids, so that the layer is the first of the decoder.
        returns_logits: Whether the output is logits, so that the layer is the last of the decoder.
        self_attention: Whether `lower` calls `ops.self_attention`; then the kind has a field `heads`.
        exposed: Whether `verify` compares the output with a reference.
        label: The name of the layer's copies in paths, where each has a number; None to use the kind.
        path: The path of the layer in the expanded tree, such as "encoder.layers[3].residual[1].attention".
        locations: The places in the spec of the fields that are written there, by key; "" is the layer's own.
    """

    kind: ClassVar[str]
    fields: ClassVar[Mapping[str, LayerField]]
    inline: ClassVar[str | None] = None
    reads_tokens: ClassVar[bool] = False
    returns_logits: ClassVar[bool] = False
    self_attention: ClassVar[bool] = False
    exposed: ClassVar[bool] = True
    label: ClassVar[str | None] = None

    path: str = field(default="", compare=False)
    locations: Mapping[str, SourceLocation] = field(default_factory=dict, compare=False, repr=False)

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        """Returns the shape of the output.

        Args:
            shape: The shape of the input.
            context: The surroundings of the layer.

        Raises:
            SpecError: The layer does not fit here; `self.error(...)` makes one.
        """
        return shape

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        """Returns the tensors that belong to this layer; a tied tensor belongs to another one.

        Args:
            shape: The shape of the input.
        """
        return []

    def flops(self, workload: Workload) -> int:
        """Returns the floating-point operations: `2*M*N*K` for a matrix product, none for element-wise work.

        Args:
            workload: The sizes of one execution.
        """
        return 0

    def memory_flops(self, workload: Workload) -> int:
        """Returns the operations on the encoder's features, which are done once per window.

        Args:
            workload: The sizes of one execution.
        """
        return 0

    def memory_tensors(self, shape: Shape) -> list[TensorSpec]:
        """Returns the tensors of the layer that are used once per window, on the encoder's features.

        Args:
            shape: The shape of the input.
        """
        return []

    def states(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Returns the float32 buffers that the layer keeps from one call of the graph to the next.

        Args:
            shape: The shape of the input.

        Returns:
            The shape of each buffer, without the batch dimension, by the name that `ops.state` takes.
        """
        return {}

    def lower(self, ops: Ops, x: Value) -> Value:
        """Builds the layer from the operations of `ops`, and returns its output.

        Args:
            ops: The operations.
            x: The input, float32 [batch, length, channels], or token ids, int64 [batch, length].

        Returns:
            The output, float32 [batch, length, channels] of `output_shape`.
        """
        raise NotImplementedError

    def tensor(
        self,
        name: str,
        *shape: int,
        computed: Callable[..., NDArray[np.float32]] | None = None,
        cut: bool = False,
    ) -> TensorSpec:
        """Returns a vector or a table of this layer, for `tensors`.

        Args:
            name: Its name in the checkpoint; that of a computed tensor begins with `self.path`.
            *shape: Its shape.
            computed: A function that returns a tensor that is in no checkpoint, given the sizes of its shape.
            cut: Whether the checkpoint may have more rows, of which the first are taken.
        """
        return TensorSpec(name, shape, self.path, computed, cut=cut)

    def matrix(self, name: str, *shape: int) -> TensorSpec:
        """Returns the weights of a matrix product of this layer, for `tensors`.

        Args:
            name: Their name in the checkpoint.
            *shape: Their shape, [out, in, ...].
        """
        return TensorSpec(name, shape, self.path, matrix=True)

    def error(self, message: str, key: str = "") -> SpecError:
        """Returns an error that names the line where this layer, or one of its fields, is written.

        Args:
            message: What was expected, and what was found.
            key: The YAML key of the field; "" for the layer as a whole.
        """
        # A field that the spec does not write has no place of its own: the error is at the layer, and names the field.
        location = self.locations.get(key) or self.locations.get("") or SourceLocation("<python>", 1, self.kind)
        key_path = location.key if key in self.locations or not key else f"{location.key}.{key}"
        return location.at(key_path).error(message)

    def canonical(self) -> Any:
        """Returns the layer as JSON values, with every field written out, in the form that a spec has."""
        values = {}
        for key, declared in self.fields.items():
            value = getattr(self, declared.attribute)
            if isinstance(value, tuple):
                value = [layer.canonical() for layer in value]
            if value is not None:
                values[key] = value
        if self.inline:
            return {self.kind: values[self.inline]}
        return {self.kind: values} if values else self.kind


@dataclass(frozen=True, kw_only=True)
class Container(Layer):
    """The base class of layers that have other layers inside.

    Attributes:
        layers: The layers inside as they are written; the tree has them as they run (see `tree.py`).
    """

    layers: tuple[Layer, ...] = option("The layers inside, in order of execution.")

    def copies(self) -> list[dict[str, int]]:
        """Returns the indices of each copy of the inner layers, as names and values."""
        return [{}]

    def around_shape(self, shape: Shape, inner: Shape) -> Shape:
        """Returns the shape of the output.

        Args:
            shape: The shape of the input.
            inner: The shape of what the layers inside return for that input.

        Raises:
            SpecError: The layers inside do not fit.
        """
        return inner

    def lower_around(self, ops: Ops, x: Value, inner: Callable[[Value], Value]) -> Value:
        """Builds the layer, and those inside, from the operations of `ops`, and returns its output.

        Args:
            ops: The operations.
            x: The input, float32 [batch, length, channels].
            inner: Builds the layers inside on a value, and returns their output.
        """
        return inner(x)


LayerType = TypeVar("LayerType", bound=type[Layer])
_kinds: dict[str, type[Layer]] = {}


def register(kind: str) -> Callable[[LayerType], LayerType]:
    """Returns a class decorator that makes a subclass of `Layer` the kind that specs call `kind`.

    Args:
        kind: The name, which no other class may have.

    Raises:
        ValueError: There is another class of this name, or a default is out of range. The decorator raises it.
    """

    def add(cls: LayerType) -> LayerType:
        if kind in _kinds:
            raise ValueError(f"two classes for the layer kind {kind!r}: {_kinds[kind].__name__} and {cls.__name__}")
        cls.kind = kind
        cls.fields = read_fields(cls)
        for declared in cls.fields.values():
            numeric = isinstance(declared.default, int | float) and not isinstance(declared.default, bool)
            if numeric and not declared.minimum <= declared.default <= declared.maximum:
                raise ValueError(
                    f"{cls.__name__}.{declared.attribute}: the default {declared.default} is not from "
                    f"{declared.minimum} to {declared.maximum}; give the field another minimum or maximum"
                )
        if cls.self_attention and "heads" not in cls.fields:
            raise ValueError(f"{cls.__name__} has self_attention: expected a field `heads`")
        _kinds[kind] = cls
        return cls

    return add


def kinds() -> dict[str, type[Layer]]:
    """Returns all layer kinds by name."""
    import max_whisper.spec.layers  # noqa: F401 - importing the package registers its classes

    return _kinds
