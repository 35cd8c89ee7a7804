"""Kinds of layers: the fields, shape rule, weights, FLOPs and lowering of each, in one class.

A new kind is one file in `layers/` with one class:

    @register("mix")
    @dataclass(frozen=True, kw_only=True)
    class Mix(Layer):
        \"\"\"Mixes the channels of each row.\"\"\"

        weights: str = weight_name("prefix of the tensor `weight` [channels, channels]")

        def tensors(self, shape: Shape) -> list[TensorSpec]:
            return [self.matrix(f"{self.weights}.weight", shape.channels, shape.channels)]

        def flops(self, workload: Workload) -> int:
            return 2 * workload.query_length * workload.channels**2

        def lower(self, ops: Ops, x: Value) -> Value:
            return ops.linear(x, ops.weight(f"{self.weights}.weight"), None)

The binder, the shape inference, the JSON Schema and `inspect` know it from then on. The operations that `lower` may
call are in `ops.py`: those of Transformers, and primitives for all else. A kind that some target has faster code for
calls `ops.call`, and that code is one emitter in that target's table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import SpecError
from max_whisper.spec.document import Place
from max_whisper.spec.ops import Ops, Value

Role = Literal["value", "weights", "index"]

MAX_DIM = 2**24


class Shape(NamedTuple):
    """The shape of an activation without its batch dimension; 0 `channels` are token ids, not embedded yet."""

    length: int
    channels: int

    def __str__(self) -> str:
        return f"{self.length} tokens" if self.channels == 0 else f"({self.length}, {self.channels})"


class Workload(NamedTuple):
    """The sizes that one execution of a layer works on, from which its FLOPs are counted."""

    query_length: int  # input rows that are computed: a whole window in the encoder, one token in a decoder step
    channels: int  # of the input
    out: int  # channels of the output
    kv_length: int  # rows that self-attention sees, the computed ones included
    memory: Shape  # the encoder's features, for cross-attention


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor that a layer reads: from the checkpoint, or `computed` at build time."""

    name: str
    shape: tuple[int, ...]
    layer_path: str
    computed: Callable[..., NDArray[np.float32]] | None = None  # of the sizes of the shape
    matrix: bool = (
        False  # whether it is the weights of a matrix product, [out, in, ...]; no vector or table of positions
    )

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for dim in self.shape:
            count *= dim
        return count


@dataclass
class Context:
    """What a shape rule may read besides the shape of its input."""

    part: str  # "encoder" or "decoder" of Whisper
    memory: Shape | None  # the encoder's features, in the decoder
    layers: list[Layer] = field(default_factory=list)  # every layer of this part so far, in order


def option(
    doc: str,
    *,
    default: Any = MISSING,
    minimum: float = 1,
    maximum: float = MAX_DIM,
    key: str = "",
    role: Role = "value",
) -> Any:
    """Returns a dataclass field of a layer that can be written in a spec.

    doc: its description in the JSON Schema. minimum, maximum: the range of a number. key: its name in YAML where that
    is no Python name. role: "index" is the name that a container gives to the index of its copies.
    """
    meta = {"doc": doc, "minimum": minimum, "maximum": maximum, "key": key, "role": role}
    return field(default=default, metadata=meta)


def weight_name(doc: str, *, default: Any = MISSING) -> Any:
    """Returns a field for a prefix of tensor names; `{i}` in it is the index of an enclosing `repeat`."""
    return option(doc, default=default, role="weights")


class Option(NamedTuple):
    """One field of a kind, as it can be written in a spec."""

    key: str
    attribute: str
    type: Any  # int, float, bool, str, tuple[Layer, ...] or a Literal
    role: Role
    doc: str
    default: Any  # dataclasses.MISSING where it must be written
    minimum: float  # of numbers
    maximum: float

    @property
    def required(self) -> bool:
        return self.default is MISSING


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The base of all kinds. Instances are checked: no variables are left, and `{i}` only before expansion."""

    kind: ClassVar[str]
    options: ClassVar[Mapping[str, Option]]  # the fields that can be written in a spec, by their YAML key
    inline: ClassVar[str | None] = None  # the field that is written without its name: `residual: [...]`
    reads_tokens: ClassVar[bool] = False  # takes token ids, so it is first in the decoder
    gives_logits: ClassVar[bool] = False  # ends the decoder
    self_attention: ClassVar[bool] = False  # calls `ops.self_attention`; then it has a field `heads`
    exposed: ClassVar[bool] = True  # whether a verification compares its output
    label: ClassVar[str | None] = None  # what paths call its copies, always numbered, instead of its kind

    path: str = field(default="", compare=False)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        """Returns the output shape for an input of `shape`; raises `self.error(...)` where the layer does not fit."""
        return shape

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        """Returns the tensors that this layer owns, for an input of `shape`; a tied tensor belongs to another layer."""
        return []

    def flops(self, workload: Workload) -> int:
        """Returns the floating-point operations: 2*M*N*K for a matrix product, none for element-wise work."""
        return 0

    def memory_flops(self, workload: Workload) -> int:
        """Returns the operations on the encoder's features, done once per window, however many tokens follow."""
        return 0

    def memory_tensors(self, shape: Shape) -> list[TensorSpec]:
        """Returns those of `tensors` that are used once per window, on the encoder's features."""
        return []

    def states(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the float32 buffers that the layer keeps from one call of the graph to the next.

        By name, as `ops.state` takes it, for an input of `shape`; shapes are without the batch dimension.
        """
        return {}

    def lower(self, ops: Ops, x: Value) -> Value:
        """Builds the layer on `x` [batch, length, channels] and returns its output."""
        raise NotImplementedError

    def tensor(self, name: str, *shape: int, computed: Callable[..., NDArray[np.float32]] | None = None) -> TensorSpec:
        """Returns the tensor `name` of the checkpoint, as one that this layer brings along.

        computed: gives a tensor that is in no checkpoint, for its sizes; name such a one after `self.path`.
        """
        return TensorSpec(name, shape, self.path, computed)

    def matrix(self, name: str, *shape: int) -> TensorSpec:
        """Returns a tensor of the checkpoint that is the weights of a matrix product, [out, in, ...]."""
        return TensorSpec(name, shape, self.path, matrix=True)

    def error(self, message: str, key: str = "") -> SpecError:
        """Returns an error about this layer, or its field `key`, that names the line where that is written."""
        place = self.places.get(key) or self.places.get("") or Place("<python>", 1, self.kind)
        key_path = place.key if key in self.places or not key else f"{place.key}.{key}"
        return place.at(key_path).error(message)

    def canonical(self) -> Any:
        """Returns the layer as JSON values, every field written out, in the form that the binder reads."""
        values = {}
        for key, item in self.options.items():
            value = getattr(self, item.attribute)
            if isinstance(value, tuple):
                value = [layer.canonical() for layer in value]
            if value is not None:
                values[key] = value
        if self.inline:
            return {self.kind: values[self.inline]}
        return {self.kind: values} if values else self.kind


@dataclass(frozen=True, kw_only=True)
class Container(Layer):
    """A layer around others. `layers` keeps them as written; the expanded ones are in the tree (see `tree.py`)."""

    layers: tuple[Layer, ...] = option("the layers inside, in order")

    def copies(self) -> list[dict[str, int]]:
        """Returns the values of the indices for each copy of the inner layers."""
        return [{}]

    def around_shape(self, shape: Shape, inner: Shape) -> Shape:
        """Returns the output shape, for an input of `shape` that the inner layers turn into `inner`."""
        return inner

    def lower_around(self, ops: Ops, x: Value, inner: Callable[[Value], Value]) -> Value:
        """Builds the layer on `x` and returns its output; `inner` builds the layers inside."""
        return inner(x)


def _options(cls: type[Layer]) -> dict[str, Option]:
    """Returns the fields of a kind that can be written in a spec, by their YAML key."""
    hints = get_type_hints(cls)
    options = {}
    for item in fields(cls):
        if "doc" not in item.metadata:
            continue
        hint = hints[item.name]
        if type(None) in get_args(hint):  # `X | None`: None is "not written"
            hint = next(arg for arg in get_args(hint) if arg is not type(None))
        meta = item.metadata
        key = meta["key"] or item.name
        options[key] = Option(
            key, item.name, hint, meta["role"], meta["doc"], item.default, meta["minimum"], meta["maximum"]
        )
    return options


LayerType = TypeVar("LayerType", bound=type[Layer])
_kinds: dict[str, type[Layer]] = {}


def register(kind: str) -> Callable[[LayerType], LayerType]:
    """Makes a class the layer that specs call `kind`. Raises ValueError where there is another of this name."""

    def add(cls: LayerType) -> LayerType:
        if kind in _kinds:
            raise ValueError(f"two classes for the layer kind {kind!r}: {_kinds[kind].__name__} and {cls.__name__}")
        cls.kind = kind
        cls.options = _options(cls)
        for item in cls.options.values():
            numeric = isinstance(item.default, int | float) and not isinstance(item.default, bool)
            if numeric and not item.minimum <= item.default <= item.maximum:
                raise ValueError(
                    f"{cls.__name__}.{item.attribute}: the default {item.default} is not from {item.minimum} to "
                    f"{item.maximum}; give the option another minimum or maximum"
                )
        if cls.self_attention and "heads" not in cls.options:
            raise ValueError(f"{cls.__name__} has self_attention: expected an option `heads`")
        _kinds[kind] = cls
        return cls

    return add


def kinds() -> dict[str, type[Layer]]:
    """Returns all layer kinds by name."""
    import max_whisper.spec.layers  # noqa: F401 - importing the package registers its classes

    return _kinds
