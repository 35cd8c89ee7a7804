"""JSON Schema (draft 2020-12) of the spec language, made from the registered layer kinds.

Editors complete and check with it while one types. It knows the form only; shapes, names of weights and what belongs
where are checked by `load_spec`.
"""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from max_whisper.spec.binder import NAME
from max_whisper.spec.family import DEFAULT, families
from max_whisper.spec.layer import MAX_DIM, Layer, Option, kinds
from max_whisper.spec.model import NAME_OF_SPEC, REPO, REVISION

_VARIABLE = rf"^\${NAME.pattern}$"


def json_schema() -> dict[str, Any]:
    """The schema as JSON values."""
    known = kinds()
    bare = [kind for kind, cls in known.items() if not any(item.required for item in cls.options.values())]
    forms = {kind: _kind(cls) for kind, cls in known.items()}
    one_kind = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False}
    layer = {"anyOf": [{"enum": bare}, {**one_kind, "properties": forms}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "max-whisper model spec",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"description": "name of the model", "type": "string", "pattern": f"^{NAME_OF_SPEC.pattern}$"},
            "extends": {
                "description": "a spec file in the folder of this one, or a shipped spec; keys here override its keys",
                "type": "string",
                "minLength": 1,
            },
            "source": _source(),
            "dims": _dims(),
            "family": {"description": f"family of models; {DEFAULT} if there is none", "enum": [*families()]},
            **{
                part: {"description": doc, "$ref": "#/$defs/layers"}
                for family in families().values()
                for part, doc in family.parts.items()
            },
        },
        "anyOf": [
            {"required": ["extends"]},
            *({"required": ["name", "dims", *family.parts]} for family in families().values()),
        ],
        "$defs": {"layers": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/layer"}}, "layer": layer},
    }


def _source() -> dict[str, Any]:
    return {
        "description": "where the weights are",
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": {
            "repo": {"description": "Hub repository", "type": "string", "pattern": f"^{REPO.pattern}$"},
            "revision": {"description": "branch, tag or commit", "type": "string", "pattern": f"^{REVISION.pattern}$"},
            "folder": {"description": "folder, relative to this file", "type": "string", "minLength": 1},
        },
    }


def _dims() -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": MAX_DIM}
    return {
        "description": "dimensions; layers use them as $name",
        "type": "object",
        "properties": {name: number for family in families().values() for name in family.known_dims},
        "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": number,
    }


def _kind(cls: type[Layer]) -> dict[str, Any]:
    known = cls.options
    about = {"description": (cls.__doc__ or "").strip()}
    if cls.inline:
        return about | _value(known[cls.inline])
    required = [item.key for item in known.values() if item.required]
    return {
        **about,
        "type": "object" if required else ["object", "null"],
        "additionalProperties": False,
        "properties": {key: _value(item) for key, item in known.items()},
        "required": required,
    }


def _value(item: Option) -> dict[str, Any]:
    if item.type == tuple[Layer, ...]:
        return {"$ref": "#/$defs/layers"}
    default = {} if item.required or item.default is None else {"default": item.default}
    about = {"description": item.doc, **default}
    if item.type is int:
        number = {"type": "integer", "minimum": item.minimum, "maximum": item.maximum}
        return {**about, "anyOf": [number, {"type": "string", "pattern": _VARIABLE}]}
    if item.type is float:
        return {**about, "type": "number", "minimum": item.minimum, "maximum": item.maximum}
    if item.type is bool:
        return {**about, "type": "boolean"}
    if get_origin(item.type) is Literal:
        return {**about, "enum": list(get_args(item.type))}
    if item.role == "weights":
        return {**about, "type": "string", "pattern": r"^[A-Za-z0-9_./{}-]+$"}
    if item.role == "index":
        return {**about, "type": "string", "pattern": f"^{NAME.pattern}$"}
    return {**about, "type": "string", "minLength": 1}
