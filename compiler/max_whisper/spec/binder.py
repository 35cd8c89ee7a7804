"""Binds the values of a spec file to typed layers.

Each layer is checked against the fields of its class: their names, types and ranges. `$name`, where an integer is
expected, stands for a dimension. `{i}` in a weight name stands for the index of an enclosing `repeat`; it is checked
here, and filled in when the tree is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from max_whisper.messages import nearest, one_of, quote, suggestion
from max_whisper.spec.document import MappingNode, ScalarNode, SequenceNode, SourceLocation, YamlNode
from max_whisper.spec.layer import Layer, LayerField, kinds

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""The names of dimensions and of indices."""
_WEIGHT_NAME = re.compile(r"[A-Za-z0-9_./-]+")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def expect_mapping(node: YamlNode, location: SourceLocation, expected: str) -> MappingNode:
    """Returns `node`; raises a SpecError that says what was expected unless it is a mapping."""
    if not isinstance(node, MappingNode):
        raise location.error(f"expected {expected}, got {node}")
    return node


def expect_text(node: YamlNode, location: SourceLocation, expected: str) -> str:
    """Returns the text of `node`; raises a SpecError that says what was expected unless it is text, and not empty."""
    if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.value:
        return node.value
    hint = "; put it in quotes" if isinstance(node, ScalarNode) and node.value not in (None, "") else ""
    raise location.error(f"expected {expected}, got {node}{hint}")


def check_keys(mapping: MappingNode, key: str, known: Iterable[str]) -> None:
    """Raises SpecError at the first key of `mapping` that is not known; `key` leads to the mapping itself."""
    names = list(known)
    for name, location in mapping.keys.items():
        if name not in names:
            expected = f"expected {one_of(names)}" if names else "expected none"
            raise location.at(key).error(f"unknown key {quote(name)}; {expected}{suggestion(name, names)}")


class Binder:
    """Binds layers, with the dimensions as the variables that their fields may use.

    Attributes:
        used: The names of the dimensions that the layers bound so far use.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        self._dims = dims
        self.used: set[str] = set()

    def layers(self, node: YamlNode, key: str, indices: tuple[str, ...] = ()) -> tuple[Layer, ...]:
        """Returns the layers of the list `node`; `key` leads to it, `indices` names those of the repeats around it."""
        if not isinstance(node, SequenceNode) or not node.items:
            got = "an empty list" if isinstance(node, SequenceNode) else str(node)
            raise node.location.at(key).error(f"expected a list of layers, got {got}")
        return tuple(self._layer(item, f"{key}[{number}]", indices) for number, item in enumerate(node.items))

    def _layer(self, node: YamlNode, key: str, indices: tuple[str, ...]) -> Layer:
        location = node.location.at(key)
        if isinstance(node, MappingNode) and len(node.entries) == 1:
            ((kind, value),) = node.entries.items()
        elif isinstance(node, ScalarNode) and isinstance(node.value, str):
            kind, value = node.value, MappingNode(node.location, {}, {})
        elif isinstance(node, MappingNode):
            names = ", ".join(node.entries)
            hint = "; indent its fields, or put them in {}" if len(node.entries) > 1 else ""
            raise location.error(f"expected one layer, '- kind: fields', got a mapping with {names or 'nothing'}{hint}")
        else:
            raise location.error(f"expected a layer, '- kind' or '- kind: fields', got {node}")
        known = kinds()
        if kind not in known:
            raise location.error(
                f"unknown layer {quote(kind)}; expected one of {', '.join(known)}{suggestion(kind, known)}"
            )
        cls = known[kind]
        return self._fields(cls, value, location, f"{key}.{kind}", indices)

    def _fields(
        self, cls: type[Layer], node: YamlNode, layer: SourceLocation, key: str, indices: tuple[str, ...]
    ) -> Layer:
        """Returns the layer of a kind whose fields are in `node`; `layer` is the place where the layer begins."""
        known = cls.fields
        if cls.inline:
            mapping = MappingNode(node.location, {cls.inline: node}, {cls.inline: node.location})
        elif isinstance(node, ScalarNode) and node.value is None:
            mapping = MappingNode(node.location, {}, {})
        else:
            names = ", ".join(known)
            mapping = expect_mapping(
                node, layer.at(key), f"the fields {names}, as {{name: value}}" if known else "no fields"
            )
        check_keys(mapping, key, known)
        for name, option in known.items():
            if option.required and name not in mapping.entries:
                raise layer.at(key).error(f"expected the field {quote(name)}: {option.explanation}")
        inner_indices = indices + tuple(
            self._index(option, mapping, key, indices) for option in known.values() if option.role == "index"
        )
        values: dict[str, Any] = {}
        locations = {"": layer.at(key)}
        for name, value in mapping.entries.items():
            option = known[name]
            locations[name] = value.location.at(key if name == cls.inline else f"{key}.{name}")
            values[option.attribute] = self._value(option, value, locations[name], inner_indices)
        return cls(locations=locations, **values)

    def _value(self, option: LayerField, node: YamlNode, location: SourceLocation, indices: tuple[str, ...]) -> Any:
        """Returns the value of a field, in the type that its class declares."""
        if option.type == tuple[Layer, ...]:
            return self.layers(node, location.key, indices)
        value = node.value if isinstance(node, ScalarNode) else None
        if option.type is int:
            return self._integer(option, node, location, indices)
        if option.type is float:
            if (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and option.minimum <= value <= option.maximum
            ):
                return float(value)
            raise location.error(f"expected a number from {option.minimum:g} to {option.maximum:g}, got {node}")
        if option.type is bool:
            if not isinstance(value, bool):
                raise location.error(f"expected true or false, got {node}{_meant_boolean(value)}")
            return value
        if get_origin(option.type) is Literal:
            choices = get_args(option.type)
            if value not in choices:
                raise location.error(f"expected {one_of(choices)}, got {node}{suggestion(str(value), choices)}")
            return value
        if option.role == "weights":
            return _weight_name(expect_text(node, location, "the name of weights, as text"), location, indices)
        return expect_text(node, location, "text")

    def _integer(self, option: LayerField, node: YamlNode, location: SourceLocation, indices: tuple[str, ...]) -> int:
        expected = f"an integer from {option.minimum} to {option.maximum}"
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, str) and value.startswith("$"):
            name = value[1:]
            if name in indices:
                raise location.error(
                    f"expected {expected}, got the index {quote(value)}, which is for weight names only"
                )
            if name not in self._dims:
                known = [f"${dim}" for dim in self._dims]
                raise location.error(
                    f"unknown variable {quote(value)}; expected {one_of(known)}{suggestion(value, known)}"
                )
            self.used.add(name)
            value = self._dims[name]
            if not option.minimum <= value <= option.maximum:
                raise location.error(f"expected {expected}, got ${name}, which is {value}")
            return value
        if type(value) is not int or not option.minimum <= value <= option.maximum:
            hint = f"; did you mean '${value}'?" if isinstance(value, str) and value in self._dims else ""
            raise location.error(f"expected {expected}, or a $variable, got {node}{hint}")
        return value

    def _index(self, option: LayerField, mapping: MappingNode, key: str, indices: tuple[str, ...]) -> str:
        """Returns the name that a repeat gives to its index; raises SpecError for the name of another variable."""
        node = mapping.entries.get(option.key)
        location = (node or mapping).location.at(f"{key}.{option.key}")
        name = expect_text(node, location, "a name") if node else str(option.default)
        if not NAME.fullmatch(name):
            raise location.error(f"expected a name of letters, digits and _, got {quote(name)}")
        if name in indices or name in self._dims:
            other = "the repeat around this one" if name in indices else "a dimension"
            raise location.error(f"expected a name of its own for the index, {quote(name)} is that of {other}")
        return name


def _weight_name(name: str, location: SourceLocation, indices: tuple[str, ...]) -> str:
    if "$" in name:
        raise location.error(f"variables cannot be in names, got {quote(name)}; the index of a repeat is written {{i}}")
    for index in _PLACEHOLDER.findall(name):
        if index not in indices:
            expected = f"expected {one_of(indices)}" if indices else "expected none outside a repeat"
            raise location.error(f"unknown index {quote('{' + index + '}')}; {expected}{suggestion(index, indices)}")
    if not _WEIGHT_NAME.fullmatch(_PLACEHOLDER.sub("0", name)) or len(name) > 200:
        raise location.error(f"expected the name of weights: letters, digits and . _ - / only, got {quote(name)}")
    for ending in (".weight", ".bias"):
        if name.endswith(ending):
            short = name.removesuffix(ending)
            raise location.error(
                f"expected a name without {quote(ending)}, got {quote(name)}; did you mean {quote(short)}?"
            )
    return name


def _meant_boolean(value: Any) -> str:
    """Returns a hint at true or false for a misspelled one, or for a word that meant it in YAML 1.1, such as yes."""
    meant = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
    match = meant.get(str(value).lower()) or nearest(str(value), ["true", "false"])
    return f"; did you mean {match}?" if match else ""


def text_at(mapping: MappingNode, key: str, parent: str, pattern: re.Pattern[str], expected: str) -> str | None:
    """Returns the text at `key`, or None if there is none; raises SpecError unless it matches `pattern`.

    `parent` leads to the mapping, and `expected` describes texts that match, for the error.
    """
    node = mapping.entries.get(key)
    if node is None:
        return None
    location = node.location.at(f"{parent}.{key}" if parent else key)
    text = expect_text(node, location, expected)
    if not pattern.fullmatch(text):
        raise location.error(f"expected {expected}, got {quote(text)}")
    return text
