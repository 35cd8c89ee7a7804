"""What a kind of layer is: its fields, its shape rule, its weights, its work and its lowering, in one class.

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

What `lower` may ask for is in `ops.py`: the operations of Transformers, and primitives for all else. A kind that some
target has faster code for calls `ops.call`, and that code is one emitter in that target's table.
The binder, the shape inference, the JSON Schema and `inspect` know it from then on.
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
    """One activation without its batch dimension; `channels` 0 means token ids that no layer has embedded yet."""

    length: int
    channels: int

    def __str__(self) -> str:
        return f"{self.length} tokens" if self.channels == 0 else f"({self.length}, {self.channels})"


class Workload(NamedTuple):
    """How much one execution of a layer works on."""

    query_length: int  # input rows that are computed: a whole window in the encoder, one token in a decoder step
    channels: int  # of the input
    out: int  # channels of the output
    kv_length: int  # rows that self-attention sees, the computed ones included
    memory: Shape  # the encoder's features, for cross-attention


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of the checkpoint, or one that is `computed` at build time and is in no checkpoint."""

    name: str
    shape: tuple[int, ...]
    layer_path: str
    computed: Callable[..., NDArray[np.float32]] | None = None  # takes the shape's sizes
    matrix: bool = False  # the weights of a matrix product, [out, in, ...], and no vector or table of positions

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for dim in self.shape:
            count *= dim
        return count


@dataclass
class Context:
    """What a shape rule may look at besides its input."""

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
    """A field of a layer, with a line for the schema. Numbers must be in the range.

    `key` is the name in YAML where that is no Python name. `role` "index" is the name that a container gives to the
    index of its copies.
    """
    meta = {"doc": doc, "minimum": minimum, "maximum": maximum, "key": key, "role": role}
    return field(default=default, metadata=meta)


def weight_name(doc: str, *, default: Any = MISSING) -> Any:
    """A field with a prefix of tensor names; `{i}` in it is the index of an enclosing `repeat`."""
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
    """Base of all kinds. Instances are checked values: no variables are left, `{i}` only before expansion."""

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
        """The shape for an input of `shape`; raises `self.error(...)` where the layer does not fit there."""
        return shape

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        """The tensors that this layer brings along, for an input of `shape`. Tied tensors belong to their owner."""
        return []

    def flops(self, workload: Workload) -> int:
        """Floating-point operations over `workload`: 2*M*N*K per matrix product, element-wise work ignored."""
        return 0

    def memory_flops(self, workload: Workload) -> int:
        """Operations on the encoder's features that are done once per window, however many tokens follow."""
        return 0

    def memory_tensors(self, shape: Shape) -> list[TensorSpec]:
        """Those of `tensors` that are used once per window, on the encoder's features."""
        return []

    def states(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """The float32 buffers that the layer keeps from one call of the graph to the next, for an input of `shape`.

        By name, as `ops.state` takes it; shapes are without the batch dimension.
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
        """As `tensor`, of the weights of a matrix product, [out, in, ...]."""
        return TensorSpec(name, shape, self.path, matrix=True)

    def error(self, message: str, key: str = "") -> SpecError:
        """The error that `message` is about this layer, or its field `key`, at the line where that is written."""
        place = self.places.get(key) or self.places.get("") or Place("<python>", 1, self.kind)
        key_path = place.key if key in self.places or not key else f"{place.key}.{key}"
        return place.at(key_path).error(message)

    def canonical(self) -> Any:
        """The layer as JSON values, every field written out, in the form that the binder reads."""
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
        """One entry for each time the inner layers occur: the values of the indices in that copy."""
        return [{}]

    def around_shape(self, shape: Shape, inner: Shape) -> Shape:
        """The output shape, for an input of `shape` that the inner layers turn into `inner`."""
        return inner

    def lower_around(self, ops: Ops, x: Value, inner: Callable[[Value], Value]) -> Value:
        """Builds the layer; `inner` builds the layers inside."""
        return inner(x)


def _options(cls: type[Layer]) -> dict[str, Option]:
    """The fields of a kind that can be written in a spec, by their YAML key."""
    hints = get_type_hints(cls)
    found = {}
    for item in fields(cls):
        if "doc" not in item.metadata:
            continue
        hint = hints[item.name]
        if type(None) in get_args(hint):  # `X | None`: None is "not written"
            hint = next(arg for arg in get_args(hint) if arg is not type(None))
        meta = item.metadata
        key = meta["key"] or item.name
        found[key] = Option(
            key, item.name, hint, meta["role"], meta["doc"], item.default, meta["minimum"], meta["maximum"]
        )
    return found


LayerType = TypeVar("LayerType", bound=type[Layer])
_kinds: dict[str, type[Layer]] = {}


def register(kind: str) -> Callable[[LayerType], LayerType]:
    """Makes a class the layer that is called `kind` in specs."""

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
    """All layer kinds by name."""
    import max_whisper.spec.layers  # noqa: F401 - importing the package registers its classes

    return _kinds
