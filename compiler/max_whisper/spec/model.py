"""Specs that were checked as a whole, and how one is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from max_whisper.messages import nearest, one_of, quote, suggestion
from max_whisper.spec.binder import NAME, Binder, check_keys, expect_table, expect_text
from max_whisper.spec.catalog import locate
from max_whisper.spec.document import Place, Scalar, Table, document_of
from max_whisper.spec.extends import read_merged
from max_whisper.spec.family import DEFAULT, Family, families
from max_whisper.spec.layer import MAX_DIM, TensorSpec
from max_whisper.spec.layers.cross_attention import CrossAttention
from max_whisper.spec.tree import Sequence

KEYS = ("name", "extends", "family", "source", "dims")  # and the parts of the family
SOURCE_KEYS = ("repo", "revision", "folder")

NAME_OF_SPEC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
FOLDER = re.compile(r"[^\0]{1,1000}")
REVISION = re.compile(r"(?!.*(\.\.|//|/\.))[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@dataclass(frozen=True)
class Spec:
    """A whole model: every layer checked, every shape inferred."""

    name: str
    file: Path | None  # None for one read back with `from_canonical`
    repo: str | None  # the repository of the weights on the Hugging Face Hub, at `revision`,
    revision: str
    folder: Path | None  # or the local folder that holds them; both are None where `build` must name them
    dims: Mapping[str, int]
    parts: Mapping[str, Sequence] = field(repr=False)  # "encoder" and "decoder" of Whisper, in order of execution
    family: str = DEFAULT

    @property
    def encoder(self) -> Sequence:
        """Whisper's layers from log-mel to features."""
        return self.parts["encoder"]

    @property
    def decoder(self) -> Sequence:
        """Whisper's layers from tokens to logits."""
        return self.parts["decoder"]

    @property
    def n_mels(self) -> int:
        """Mel bands of the input."""
        return self.dims["n_mels"]

    @property
    def n_frames(self) -> int:
        """Mel frames of a window; the dimension of that name, or twice the audio context."""
        return self.dims.get("n_frames", 2 * self.n_audio_ctx)

    @property
    def n_audio_ctx(self) -> int:
        """Rows of the encoder's features."""
        return self.dims["n_audio_ctx"]

    @property
    def d_model(self) -> int:
        """Channels of the encoder's features."""
        return self.dims["d_model"]

    @property
    def n_vocab(self) -> int:
        """Number of tokens."""
        return self.dims["n_vocab"]

    @property
    def n_text_ctx(self) -> int:
        """Tokens that the decoder can see at most."""
        return self.dims["n_text_ctx"]

    def tensors(self) -> list[TensorSpec]:
        """Returns all tensors in order of execution, each once: tied ones belong to the embedding."""
        return [tensor for part in self.parts.values() for node in part.walk() for tensor in node.tensors]

    def cross_attentions(self) -> list[CrossAttention]:
        """Returns the cross-attention layers in order of execution."""
        return [node.layer for node in self.decoder.walk() if isinstance(node.layer, CrossAttention)]

    def flops_per_window(self) -> int:
        """Returns the operations per window: of the encoder, and for the keys and values of all cross-attentions.

        The counting rule, here and per node: 2*M*N*K for a matrix product or convolution, 2*2*rows*keys*width for
        attention (scores and weighted sum, over the keys that are seen), and nothing for element-wise work, softmax,
        normalization and table look-ups.
        """
        return sum(node.flops_per_window for part in self.parts.values() for node in part.nodes)

    def flops_per_token(self, position: int) -> int:
        """Returns the operations of one decoder step for one token when `position` tokens are in the cache."""
        return sum(node.flops_per_token(position) for node in self.decoder.nodes)

    def canonical(self) -> dict[str, Any]:
        """Returns the spec as JSON values: extends and variables resolved, defaults written out, no file paths."""
        source = {"source": {"repo": self.repo, "revision": self.revision}} if self.repo else {}
        family = {"family": self.family} if self.family != DEFAULT else {}
        parts = {name: [layer.canonical() for layer in part.layers] for name, part in self.parts.items()}
        return {"name": self.name, **family, **source, "dims": dict(sorted(self.dims.items())), **parts}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical form, in hexadecimal: equal for specs that mean the same."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_canonical(cls, data: Mapping[str, Any]) -> Spec:
        """Returns the spec whose `canonical()` is `data`. Raises SpecError for anything else."""
        document = document_of(data, "stored spec")
        table = expect_table(document, document.place, "a mapping")
        spec, _ = _bind(table, None)
        if spec.canonical() != data:
            raise document.place.error("expected what canonical() gives, with every field written out")
        return spec


def load_spec(name: str | Path) -> Spec:
    """Returns the spec in a file, or the shipped one of that name (`tiny`, `tiny.yaml`), checked as a whole.

    Raises SpecError: `file:line: key: what was expected, what was found; did you mean ...?`
    """
    path, shown = locate(name)
    document = read_merged(path, shown)
    spec, used = _bind(document, path)
    _check_dims_used(document, used)
    return spec


def _bind(document: Table, path: Path | None) -> tuple[Spec, set[str]]:
    """Returns the spec that a merged document describes, and the dimensions that its layers use."""
    family = _family(document)
    check_keys(document, "", (*KEYS, *family.parts))
    for key in ("name", "dims", *family.parts):
        if key not in document.entries:
            raise document.place.error(f"expected the key {quote(key)}, or 'extends: tiny.yaml' to take it from there")
    name = _text(document, "name", "", NAME_OF_SPEC, "a name of letters, digits and . _ -") or ""
    repo, revision, folder = _source(document, path)
    dims = _dims(document, family)
    binder = Binder(dims)
    layers = {part: binder.layers(document.entries[part], part) for part in family.parts}
    places = {part: document.keys[part].at(part) for part in family.parts}
    parts = family.expand(layers, dims, places)
    return Spec(name, path, repo, revision, folder, dims, parts, family.name), binder.used


def _family(document: Table) -> Family:
    """Returns the family that a document names, or the default. Raises SpecError for an unknown one."""
    known = families()
    node = document.entries.get("family")
    if node is None:
        return known[DEFAULT]
    place = node.place.at("family")
    name = expect_text(node, place, "the name of a family of models")
    if name not in known:
        raise place.error(f"unknown family {quote(name)}; expected {one_of(known)}{suggestion(name, known)}")
    return known[name]


def _text(table: Table, key: str, parent: str, pattern: re.Pattern[str], what: str) -> str | None:
    """Returns the text at `key`, or None if there is none; raises SpecError unless it matches `pattern`."""
    node = table.entries.get(key)
    if node is None:
        return None
    place = node.place.at(f"{parent}.{key}" if parent else key)
    text = expect_text(node, place, what)
    if not pattern.fullmatch(text):
        raise place.error(f"expected {what}, got {quote(text)}")
    return text


def _source(document: Table, path: Path | None) -> tuple[str | None, str, Path | None]:
    """Returns repository, revision and folder of `source`; of repository and folder one is None, or both."""
    node = document.entries.get("source")
    if node is None:
        return None, "main", None
    place = document.keys["source"].at("source")
    table = expect_table(node, place, "{repo: owner/name, revision: main} or {folder: name}")
    check_keys(table, "source", SOURCE_KEYS)
    repo = _text(table, "repo", "source", REPO, "a Hub repository, owner/name")
    revision = _text(table, "revision", "source", REVISION, "a branch, tag or commit")
    folder = _text(table, "folder", "source", FOLDER, "a folder, relative to this file")
    if (repo is None) == (folder is None):
        raise place.error("expected either 'repo' or 'folder'")
    if folder is None:
        return repo, revision or "main", None
    if revision:
        raise table.keys["revision"].at("source.revision").error("expected a revision with 'repo' only, not 'folder'")
    return None, "main", _inside(folder, table.entries["folder"].place.at("source.folder"))


def _inside(folder: str, place: Place) -> Path:
    """Returns `folder` relative to the file at `place`; raises SpecError if it leaves the folder of that file."""
    base = place.folder
    if base is None:
        raise place.error("expected no folder: a stored spec has no file that it could be relative to")
    target = base / folder
    try:
        inside = target.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise place.error(f"expected a folder beside this file or below it, got {quote(folder)}")
    return target


def _dims(document: Table, family: Family) -> dict[str, int]:
    """Returns the dimensions. Raises SpecError for one that is no size, and where the family requires another."""
    place = document.keys["dims"].at("dims")
    table = expect_table(document.entries["dims"], place, "a mapping of dimensions, name: number")
    dims: dict[str, int] = {}
    for name, node in table.entries.items():
        key = f"dims.{name}"
        if not NAME.fullmatch(name):
            raise table.keys[name].at("dims").error(f"expected a name of letters, digits and _, got {quote(name)}")
        value = node.value if isinstance(node, Scalar) else None
        if type(value) is not int or not 1 <= value <= MAX_DIM:
            raise node.place.at(key).error(f"expected an integer from 1 to {MAX_DIM}, got {node}")
        dims[name] = value
    for name in family.required_dims:
        if name not in dims:
            meant = nearest(name, [other for other in dims if other not in family.known_dims])
            where = table.keys[meant].at(f"dims.{meant}") if meant else place
            raise where.error(f"expected the dimension {name}" + (f"; did you mean {quote(name)}?" if meant else ""))
    return dims


def _check_dims_used(document: Table, used: set[str]) -> None:
    """Raises SpecError at a dimension that no layer uses and that the family does not know."""
    table = expect_table(document.entries["dims"], document.place, "a mapping")
    known = _family(document).known_dims
    for name, place in table.keys.items():
        if name not in used and name not in known:
            hint = suggestion(name, known)
            raise place.at(f"dims.{name}").error(f"expected a dimension that a layer uses, as ${name}, none does{hint}")
