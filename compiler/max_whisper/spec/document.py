"""Reads YAML text into a tree of plain values that keep the file and line they were written at.

The subset of YAML is small on purpose: strings, numbers, true/false, lists, and mappings with unique names as keys.
Scalars are resolved as in YAML 1.2 (`yes` is text, `1e-5` is a number), as editors do when they check a spec against
the JSON Schema. Tags, merge keys and several documents in a file are refused. Anchors and aliases work, but the values
that they expand to are counted, so that a "billion laughs" file is an error message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Union

import yaml

from max_whisper.errors import SpecError
from max_whisper.files import read_all
from max_whisper.messages import quote, suggestion

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 20_000
_MAX_DIGITS = 15  # every integer of the language is far smaller, and longer ones take quadratic time to read

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True)
class SourceLocation:
    """The place in a spec file where something was written, for error messages.

    Attributes:
        file: The file, as the user named it.
        line: The line, counted from 1.
        key: The path of keys that leads to the value, such as "encoder[3].linear.out".
        folder: The folder that the file really lies in, if there is a file.
    """

    file: str
    line: int
    key: str = ""
    folder: Path | None = None

    def error(self, message: str) -> SpecError:
        """Returns the error `file:line: key: message`."""
        parts = [f"{self.file}:{self.line}", *([self.key] if self.key else []), message]
        return SpecError(": ".join(parts))

    def at(self, key: str) -> SourceLocation:
        """Returns the same line under another key."""
        return replace(self, key=key)


@dataclass(frozen=True)
class ScalarNode:
    """A string, a number, true, false or null."""

    location: SourceLocation
    value: str | int | float | bool | None

    def __str__(self) -> str:
        """Returns the value as error messages show it."""
        if self.value is None:
            return "nothing"
        if isinstance(self.value, str):
            return f"the text {quote(self.value)}"
        return json.dumps(self.value)


@dataclass(frozen=True)
class SequenceNode:
    """A list."""

    location: SourceLocation
    items: tuple[YamlNode, ...]

    def __str__(self) -> str:
        return "a list"


@dataclass(frozen=True)
class MappingNode:
    """A mapping.

    Attributes:
        location: The place where the mapping begins.
        entries: The values by their keys.
        keys: The place where each key is written, which can be lines above its value.
    """

    location: SourceLocation
    entries: dict[str, YamlNode]
    keys: dict[str, SourceLocation]

    def __str__(self) -> str:
        return "a mapping"


YamlNode = Union[ScalarNode, SequenceNode, MappingNode]  # noqa: UP007 - evaluated at run time, where 3.10 cannot join forward names


def read_document(path: Path, shown: str) -> YamlNode:
    """Returns the only YAML document in the file at `path`, which messages call `shown`.

    Raises SpecError if the file cannot be read, is too large, is not UTF-8 or is not the YAML described above.
    """
    start = SourceLocation(shown, 1)
    try:
        data = read_all(path, MAX_BYTES)
    except OSError as error:
        raise start.error(f"the spec cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceLocation(shown, line).error(
            "expected YAML as UTF-8 text, this is binary or another encoding"
        ) from None
    return _Composer(text, shown, path.parent).document()


def document_of(data: Any, shown: str) -> YamlNode:
    """Returns the tree of plain Python values, as a JSON reader returns them; raises SpecError for any others."""
    location = SourceLocation(shown, 1)

    def convert(value: Any, depth: int) -> YamlNode:
        if depth > MAX_DEPTH:
            raise location.error(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            entries = {key: convert(item, depth + 1) for key, item in value.items()}
            return MappingNode(location, entries, dict.fromkeys(entries, location))
        if isinstance(value, list | tuple):
            return SequenceNode(location, tuple(convert(item, depth + 1) for item in value))
        if isinstance(value, int) and abs(value) >= 10**_MAX_DIGITS:
            raise location.error(f"expected numbers of at most {_MAX_DIGITS} digits")
        if value is None or isinstance(value, str | int | float | bool):
            return ScalarNode(location, value)
        raise location.error(f"expected JSON values, got a {type(value).__name__}")

    return convert(data, 0)


class _Composer:
    """Builds the tree from PyYAML's events, which still show tags, anchors and aliases; `yaml.load` hides them."""

    def __init__(self, text: str, shown: str, folder: Path) -> None:
        self._text = text
        self._folder = folder
        self._shown = shown
        self._anchors: dict[str, tuple[YamlNode, int]] = {}  # the node of each anchor, and its size in nodes
        self._open: set[str] = set()  # anchors of unfinished nodes: an alias to one would never end
        self._count = 0

    def document(self) -> YamlNode:
        try:
            return self._only_document(iter(yaml.parse(self._text, Loader=yaml.SafeLoader)))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            location = SourceLocation(self._shown, mark.line + 1 if mark else 1)
            problem = error.problem or error.context or "something else"
            hint = "; indent with spaces, not tabs" if r"'\t'" in problem else ""
            hint = hint or ("; names with {i} need quotes" if "'{'" in problem else "")
            flow = error.context_mark if "flow" in (error.context or "") else None
            opened = f", in the brackets that line {flow.line + 1} opens" if flow else ""
            raise location.error(f"expected YAML: {problem}{opened}{hint}") from None
        except yaml.reader.ReaderError as error:
            location = SourceLocation(self._shown, self._text.count("\n", 0, error.position) + 1)
            raise location.error("expected YAML text, found a control character") from None
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # e.g. "\U00ffffff", which is no character
            raise SourceLocation(self._shown, 1).error(f"expected YAML: {error}") from None

    def _only_document(self, events: Iterator[Any]) -> YamlNode:
        root: YamlNode | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._location(event).error("expected one document in the file, a second one starts here")
                root = self._node(next(events), events, 1)
        if root is None or (isinstance(root, ScalarNode) and root.value is None):
            raise SourceLocation(self._shown, 1).error("expected a spec, the file is empty")
        return root

    def _location(self, event: Any) -> SourceLocation:
        return SourceLocation(self._shown, event.start_mark.line + 1, folder=self._folder)

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> YamlNode:
        location = self._location(event)
        if depth > MAX_DEPTH:
            raise location.error(f"expected at most {MAX_DEPTH} levels of nesting, this goes deeper")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), location)
        if event.tag is not None:
            raise location.error(f"tags are not part of the language; remove {quote(event.tag)}")
        if event.anchor is None:
            return self._value(event, events, depth, location)
        self._open.add(event.anchor)
        before = self._count
        node = self._value(event, events, depth, location)
        self._open.remove(event.anchor)
        self._anchors[event.anchor] = node, self._count - before
        return node

    def _value(self, event: Any, events: Iterator[Any], depth: int, location: SourceLocation) -> YamlNode:
        self._grow(1, location)
        if isinstance(event, yaml.ScalarEvent):
            return ScalarNode(location, event.value if event.style else _resolve(event.value, location))
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                items.append(self._node(item, events, depth + 1))
            return SequenceNode(location, tuple(items))
        return self._mapping(events, depth, location)

    def _mapping(self, events: Iterator[Any], depth: int, location: SourceLocation) -> MappingNode:
        entries: dict[str, YamlNode] = {}
        keys: dict[str, SourceLocation] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, depth + 1)
            where = self._location(event)
            if not isinstance(key, ScalarNode) or not isinstance(key.value, str):
                raise where.error(f"expected a name as key, got {key}")
            if key.value == "<<":
                raise where.error("merge keys are not part of the language; use 'extends' or 'repeat' instead of '<<'")
            if key.value in entries:
                raise where.error(f"key {quote(key.value)} is given twice, first in line {keys[key.value].line}")
            entries[key.value] = self._node(next(events), events, depth + 1)
            keys[key.value] = where
        return MappingNode(location, entries, keys)

    def _alias(self, anchor: str, location: SourceLocation) -> YamlNode:
        if anchor in self._open:
            raise location.error(
                f"alias {quote('*' + anchor)} stands inside the value that it names, which would never end"
            )
        if anchor not in self._anchors:
            known = [f"*{name}" for name in self._anchors]
            raise location.error(f"unknown alias {quote('*' + anchor)}{suggestion('*' + anchor, known)}")
        node, size = self._anchors[anchor]
        self._grow(size, location)
        return node

    def _grow(self, nodes: int, location: SourceLocation) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            raise location.error(f"expected a spec of at most {MAX_NODES} values, with aliases expanded this has more")


def _resolve(text: str, location: SourceLocation) -> str | int | float | bool | None:
    """Returns the value of an unquoted scalar, by the core schema of YAML 1.2."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise location.error(f"expected a number of at most {_MAX_DIGITS} digits, got {quote(text)}")
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
