"""Tree of values -> typed layers.

Each layer is checked against the fields of its class: names, types, ranges. `$name` stands for a dimension, in the
place of an integer. `{i}` in a weight name stands for the index of an enclosing `repeat`; it is checked here and
filled in when the tree is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from max_whisper.messages import nearest, one_of, quote, suggestion
from max_whisper.spec.document import Items, Node, Place, Scalar, Table
from max_whisper.spec.layer import Layer, Option, kinds

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_WEIGHT_NAME = re.compile(r"[A-Za-z0-9_./-]+")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def expect_table(node: Node, place: Place, what: str) -> Table:
    """`node` as a mapping; raises SpecError that `what` was expected."""
    if not isinstance(node, Table):
        raise place.error(f"expected {what}, got {node}")
    return node


def expect_text(node: Node, place: Place, what: str) -> str:
    """`node` as text that is not empty; raises SpecError that `what` was expected."""
    if isinstance(node, Scalar) and isinstance(node.value, str) and node.value:
        return node.value
    hint = "; put it in quotes" if isinstance(node, Scalar) and node.value not in (None, "") else ""
    raise place.error(f"expected {what}, got {node}{hint}")


def check_keys(table: Table, key: str, known: Iterable[str], what: str = "key") -> None:
    """Raises SpecError at the first key of `table`, itself called `key`, that is not known."""
    names = list(known)
    for name, place in table.keys.items():
        if name not in names:
            expected = f"expected {one_of(names)}" if names else "expected none"
            raise place.at(key).error(f"unknown {what} {quote(name)}; {expected}{suggestion(name, names)}")


class Binder:
    """Binds layers under the variables `dims`, and notes in `used` which of them were needed."""

    def __init__(self, dims: Mapping[str, int]) -> None:
        self._dims = dims
        self.used: set[str] = set()

    def layers(self, node: Node, key: str, indices: tuple[str, ...] = ()) -> tuple[Layer, ...]:
        """The layers of the list `node`; `key` leads to it, `indices` are those of the repeats around it."""
        if not isinstance(node, Items) or not node.items:
            got = "an empty list" if isinstance(node, Items) else str(node)
            raise node.place.at(key).error(f"expected a list of layers, got {got}")
        return tuple(self._layer(item, f"{key}[{number}]", indices) for number, item in enumerate(node.items))

    def _layer(self, node: Node, key: str, indices: tuple[str, ...]) -> Layer:
        place = node.place.at(key)
        if isinstance(node, Table) and len(node.entries) == 1:
            ((kind, value),) = node.entries.items()
        elif isinstance(node, Scalar) and isinstance(node.value, str):
            kind, value = node.value, Table(node.place, {}, {})
        elif isinstance(node, Table):
            names = ", ".join(node.entries)
            hint = "; indent its fields, or put them in {}" if len(node.entries) > 1 else ""
            raise place.error(f"expected one layer, '- kind: fields', got a mapping with {names or 'nothing'}{hint}")
        else:
            raise place.error(f"expected a layer, '- kind' or '- kind: fields', got {node}")
        known = kinds()
        if kind not in known:
            raise place.error(
                f"unknown layer {quote(kind)}; expected one of {', '.join(known)}{suggestion(kind, known)}"
            )
        cls = known[kind]
        return self._fields(cls, value, place, f"{key}.{kind}", indices)

    def _fields(self, cls: type[Layer], node: Node, start: Place, key: str, indices: tuple[str, ...]) -> Layer:
        known = cls.options
        if cls.inline:
            table = Table(node.place, {cls.inline: node}, {cls.inline: node.place})
        elif isinstance(node, Scalar) and node.value is None:
            table = Table(node.place, {}, {})
        else:
            names = ", ".join(known)
            table = expect_table(
                node, start.at(key), f"the fields {names}, as {{name: value}}" if known else "no fields"
            )
        check_keys(table, key, known)
        for name, item in known.items():
            if item.required and name not in table.entries:
                raise start.at(key).error(f"expected the field {quote(name)}: {item.doc}")
        inside = indices + tuple(
            self._index(item, table, key, indices) for item in known.values() if item.role == "index"
        )
        values: dict[str, Any] = {}
        places = {"": start.at(key)}
        for name, value in table.entries.items():
            item = known[name]
            places[name] = value.place.at(key if name == cls.inline else f"{key}.{name}")
            values[item.attribute] = self._value(item, value, places[name], inside)
        return cls(places=places, **values)

    def _value(self, item: Option, node: Node, place: Place, indices: tuple[str, ...]) -> Any:
        """`node` as the type of `item`."""
        if item.type == tuple[Layer, ...]:
            return self.layers(node, place.key, indices)
        value = node.value if isinstance(node, Scalar) else None
        if item.type is int:
            return self._integer(item, node, place, indices)
        if item.type is float:
            if isinstance(value, int | float) and not isinstance(value, bool) and item.minimum <= value <= item.maximum:
                return float(value)
            raise place.error(f"expected a number from {item.minimum:g} to {item.maximum:g}, got {node}")
        if item.type is bool:
            if not isinstance(value, bool):
                raise place.error(f"expected true or false, got {node}{_meant_boolean(value)}")
            return value
        if get_origin(item.type) is Literal:
            choices = get_args(item.type)
            if value not in choices:
                raise place.error(f"expected {one_of(choices)}, got {node}{suggestion(str(value), choices)}")
            return value
        if item.role == "weights":
            return _weight_name(expect_text(node, place, "the name of weights, as text"), place, indices)
        return expect_text(node, place, "text")

    def _integer(self, item: Option, node: Node, place: Place, indices: tuple[str, ...]) -> int:
        expected = f"an integer from {item.minimum} to {item.maximum}"
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, str) and value.startswith("$"):
            name = value[1:]
            if name in indices:
                raise place.error(f"expected {expected}, got the index {quote(value)}, which is for weight names only")
            if name not in self._dims:
                known = [f"${dim}" for dim in self._dims]
                raise place.error(
                    f"unknown variable {quote(value)}; expected {one_of(known)}{suggestion(value, known)}"
                )
            self.used.add(name)
            value = self._dims[name]
            if not item.minimum <= value <= item.maximum:
                raise place.error(f"expected {expected}, got ${name}, which is {value}")
            return value
        if type(value) is not int or not item.minimum <= value <= item.maximum:
            hint = f"; did you mean '${value}'?" if isinstance(value, str) and value in self._dims else ""
            raise place.error(f"expected {expected}, or a $variable, got {node}{hint}")
        return value

    def _index(self, item: Option, table: Table, key: str, indices: tuple[str, ...]) -> str:
        """The name that a repeat gives to its index; it must not hide another one."""
        node = table.entries.get(item.key)
        place = (node or table).place.at(f"{key}.{item.key}")
        name = expect_text(node, place, "a name") if node else str(item.default)
        if not NAME.fullmatch(name):
            raise place.error(f"expected a name of letters, digits and _, got {quote(name)}")
        if name in indices or name in self._dims:
            other = "the repeat around this one" if name in indices else "a dimension"
            raise place.error(f"expected a name of its own for the index, {quote(name)} is that of {other}")
        return name


def _weight_name(name: str, place: Place, indices: tuple[str, ...]) -> str:
    if "$" in name:
        raise place.error(f"variables cannot be in names, got {quote(name)}; the index of a repeat is written {{i}}")
    for index in _PLACEHOLDER.findall(name):
        if index not in indices:
            expected = f"expected {one_of(indices)}" if indices else "expected none outside of a repeat"
            raise place.error(f"unknown index {quote('{' + index + '}')}; {expected}{suggestion(index, indices)}")
    if not _WEIGHT_NAME.fullmatch(_PLACEHOLDER.sub("0", name)) or len(name) > 200:
        raise place.error(f"expected the name of weights: letters, digits and . _ - / only, got {quote(name)}")
    for ending in (".weight", ".bias"):
        if name.endswith(ending):
            short = name.removesuffix(ending)
            raise place.error(
                f"expected a name without {quote(ending)}, got {quote(name)}; did you mean {quote(short)}?"
            )
    return name


def _meant_boolean(value: Any) -> str:
    """YAML 1.1 had yes and no; the language follows 1.2."""
    meant = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
    match = meant.get(str(value).lower()) or nearest(str(value), ["true", "false"])
    return f"; did you mean {match}?" if match else ""
