"""Loads and checks specs."""

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
from max_whisper.spec.binder import NAME, Binder, check_keys, expect_mapping, expect_text, text_at
from max_whisper.spec.catalog import locate
from max_whisper.spec.document import MappingNode, ScalarNode, document_of
from max_whisper.spec.extends import read_merged
from max_whisper.spec.family import DEFAULT, Family, families
from max_whisper.spec.layer import MAX_DIM, TensorSpec
from max_whisper.spec.layers.cross_attention import CrossAttention
from max_whisper.spec.source import PackageFile, read_source
from max_whisper.spec.tree import ModelPart

KEYS = ("name", "extends", "family", "source", "dims")
"""The keys of every spec; the parts of its family are the others."""
SPEC_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True)
class Spec:
    """A whole model, with every layer checked and every shape inferred.

    Attributes:
        name: The name of the model.
        file: The spec's file; None for a spec that was read back with `from_canonical`.
        repo: The Hub repository of the weights, if the spec names one.
        revision: The branch, tag or commit of that repository.
        folder: The local folder of the weights, if the spec names one.
        dims: The dimensions, by name.
        parts: The parts of the model by name, in order of execution; in Whisper, "encoder" and "decoder".
        family: The family of models that the spec belongs to.
        package: The file of an installed Python package with the weights, if the spec names one. Where it names none of
            repo, folder and package, `build` must.
    """

    name: str
    file: Path | None
    repo: str | None
    revision: str
    folder: Path | None
    dims: Mapping[str, int]
    parts: Mapping[str, ModelPart] = field(repr=False)
    family: str = DEFAULT
    package: PackageFile | None = None

    @property
    def encoder(self) -> ModelPart:
        """Whisper's layers from log-mel to features."""
        return self.parts["encoder"]

    @property
    def decoder(self) -> ModelPart:
        """Whisper's layers from tokens to logits."""
        return self.parts["decoder"]

    @property
    def all_dims(self) -> dict[str, int]:
        """The dimensions and, in Whisper, `n_frames` even where the spec does not give it."""
        return {**self.dims, "n_frames": self.n_frames} if self.family == DEFAULT else dict(self.dims)

    @property
    def n_mels(self) -> int:
        """The number of mel bands of the input."""
        return self.dims["n_mels"]

    @property
    def n_frames(self) -> int:
        """The mel frames of a window: the dimension of that name, or twice the audio context."""
        return self.dims.get("n_frames", 2 * self.n_audio_ctx)

    @property
    def n_audio_ctx(self) -> int:
        """The rows of the encoder's features."""
        return self.dims["n_audio_ctx"]

    @property
    def d_model(self) -> int:
        """The channels of the encoder's features."""
        return self.dims["d_model"]

    @property
    def n_vocab(self) -> int:
        """The number of tokens of the vocabulary."""
        return self.dims["n_vocab"]

    @property
    def n_text_ctx(self) -> int:
        """The number of tokens that the decoder can see at most."""
        return self.dims["n_text_ctx"]

    def tensors(self) -> list[TensorSpec]:
        """Returns all tensors in order of execution, each once: a tied table belongs to its embedding."""
        return [tensor for part in self.parts.values() for node in part.walk() for tensor in node.tensors]

    def cross_attentions(self) -> list[CrossAttention]:
        """Returns the cross-attention layers in order of execution."""
        return [node.layer for node in self.decoder.walk() if isinstance(node.layer, CrossAttention)]

    def flops_per_window(self) -> int:
        """Returns the operations per window: those of the encoder, and of the keys and values of cross-attention.

        A matrix product or convolution counts as `2*M*N*K` operations, attention as `2*2*queries*keys*channels` (scores
        and weighted sum, over the keys that are seen). Element-wise work, softmax, normalization and table look-ups
        count as none.
        """
        return sum(node.flops_per_window for part in self.parts.values() for node in part.nodes)

    def flops_per_token(self, position: int) -> int:
        """Returns the operations of a decoder step for one token, with `position` tokens in the KV cache."""
        return sum(node.flops_per_token(position) for node in self.decoder.nodes)

    def canonical(self) -> dict[str, Any]:
        """Returns the spec as JSON values, with `extends` and variables resolved and every default written out.

        It holds no paths of files, so that equal models have equal canonical forms.
        """
        source: dict[str, Any] = {}
        if self.repo:
            source = {"source": {"repo": self.repo, "revision": self.revision}}
        elif self.package:
            source = {"source": self.package._asdict()}
        family = {"family": self.family} if self.family != DEFAULT else {}
        parts = {name: [layer.canonical() for layer in part.layers] for name, part in self.parts.items()}
        return {"name": self.name, **family, **source, "dims": dict(sorted(self.dims.items())), **parts}

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of the canonical form in hexadecimal, which is equal for specs that mean the same."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_canonical(cls, data: Mapping[str, Any]) -> Spec:
        """Returns the spec whose `canonical()` is `data`; raises SpecError if there is none."""
        document = document_of(data, "stored spec")
        mapping = expect_mapping(document, document.location, "a mapping")
        spec, _ = _bind(mapping, None)
        if spec.canonical() != data:
            raise document.location.error(
                "expected the values that Spec.canonical() returns, with every field written out"
            )
        return spec


def load_spec(name: str | Path) -> Spec:
    """Loads a spec, and checks it as a whole: every key, every layer and every shape.

    Args:
        name: A YAML file, or else the name of a spec that ships with the package, such as "tiny" or "tiny.yaml".

    Returns:
        The spec, whose parts have been expanded to the layers that run.

    Raises:
        SpecError: There is no such spec, or it is wrong; the message is
            `file:line: key: what was expected, what was found; did you mean ...?`.
    """
    path, shown = locate(name)
    document = read_merged(path, shown)
    spec, used = _bind(document, path)
    _check_dims_used(document, used)
    return spec


def _bind(document: MappingNode, path: Path | None) -> tuple[Spec, set[str]]:
    """Returns the spec that a merged document describes, and the dimensions that its layers use."""
    family = _family(document)
    check_keys(document, "", (*KEYS, *family.parts))
    for key in ("name", "dims", *family.parts):
        if key not in document.entries:
            raise document.location.error(
                f"expected the key {quote(key)}, or 'extends: tiny.yaml' to take it from there"
            )
    name = text_at(document, "name", "", SPEC_NAME, "a name of letters, digits and . _ -") or ""
    source = read_source(document)
    dims = _dims(document, family)
    binder = Binder(dims)
    layers = {part: binder.layers(document.entries[part], part) for part in family.parts}
    locations = {part: document.keys[part].at(part) for part in family.parts}
    parts = family.expand(layers, dims, locations)
    return Spec(
        name, path, source.repo, source.revision, source.folder, dims, parts, family.name, source.package
    ), binder.used


def _family(document: MappingNode) -> Family:
    """Returns the family that a document names, or the default. Raises SpecError for an unknown one."""
    known = families()
    node = document.entries.get("family")
    if node is None:
        return known[DEFAULT]
    location = node.location.at("family")
    name = expect_text(node, location, "the name of a family of models")
    if name not in known:
        raise location.error(f"unknown family {quote(name)}; expected {one_of(known)}{suggestion(name, known)}")
    return known[name]


def _dims(document: MappingNode, family: Family) -> dict[str, int]:
    """Returns the dimensions; raises SpecError for one that is no size, and for a required one that is missing."""
    location = document.keys["dims"].at("dims")
    mapping = expect_mapping(document.entries["dims"], location, "a mapping of dimensions, name: number")
    dims: dict[str, int] = {}
    for name, node in mapping.entries.items():
        key = f"dims.{name}"
        if not NAME.fullmatch(name):
            raise mapping.keys[name].at("dims").error(f"expected a name of letters, digits and _, got {quote(name)}")
        value = node.value if isinstance(node, ScalarNode) else None
        if type(value) is not int or not 1 <= value <= MAX_DIM:
            raise node.location.at(key).error(f"expected an integer from 1 to {MAX_DIM}, got {node}")
        dims[name] = value
    for name in family.required_dims:
        if name not in dims:
            misspelled = nearest(name, [written for written in dims if written not in family.known_dims])
            where = mapping.keys[misspelled].at(f"dims.{misspelled}") if misspelled else location
            hint = f"; did you mean {quote(name)}?" if misspelled else ""
            raise where.error(f"expected the dimension {name}{hint}")
    return dims


def _check_dims_used(document: MappingNode, used: set[str]) -> None:
    """Raises SpecError at a dimension that neither a layer uses nor the family knows."""
    mapping = expect_mapping(document.entries["dims"], document.location, "a mapping")
    known = _family(document).known_dims
    for name, location in mapping.keys.items():
        if name not in used and name not in known:
            hint = suggestion(name, known)
            raise location.at(f"dims.{name}").error(
                f"expected a dimension that a layer uses, as ${name}, none does{hint}"
            )
