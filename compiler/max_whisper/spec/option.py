"""The fields that a layer kind declares, which can be written in a spec."""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

Role = Literal["value", "weights", "index"]
"""The meanings of a field: see `LayerField.role`."""

MAX_DIM = 2**24
"""The largest dimension of a tensor that a spec may ask for."""


def option(
    description: str,
    *,
    default: Any = MISSING,
    minimum: float = 1,
    maximum: float = MAX_DIM,
    key: str = "",
    role: Role = "value",
) -> Any:
    """Returns a dataclass field of a layer that can be written in a spec.

    Args:
        description: A sentence for people who write specs: editors, the reference and error messages show it.
        default: The value where a spec does not write the field; without one, specs must write it.
        minimum: The smallest number that is accepted.
        maximum: The largest number that is accepted.
        key: The field's name in YAML, if it is not the attribute's.
        role: What the value means: see `LayerField.role`.
    """
    metadata = {"description": description, "minimum": minimum, "maximum": maximum, "key": key, "role": role}
    return field(default=default, metadata=metadata)


def weight_name(description: str, *, default: Any = MISSING) -> Any:
    """Returns a field for a prefix of tensor names, in which `{i}` is the index of an enclosing `repeat`.

    Args:
        description: As for `option`; it says which tensors have the prefix, and their shapes.
        default: As for `option`.
    """
    return option(description, default=default, role="weights")


class LayerField(NamedTuple):
    """A field of a layer kind, as it can be written in a spec.

    Attributes:
        key: Its name in YAML.
        attribute: Its name in the class of the kind.
        type: `int`, `float`, `bool`, `str`, `tuple[Layer, ...]` or a `Literal`.
        role: "value"; "weights" for a prefix of tensor names; "index" for the name of the index of a container's
            copies.
        description: A sentence for people who write specs.
        default: The value where it is not written; `dataclasses.MISSING` where it must be.
        minimum: The smallest number that is accepted.
        maximum: The largest number that is accepted.
    """

    key: str
    attribute: str
    type: Any
    role: Role
    description: str
    default: Any
    minimum: float
    maximum: float

    @property
    def required(self) -> bool:
        """Whether a spec must write the field."""
        return self.default is MISSING

    @property
    def explanation(self) -> str:
        """The description as the end of an error message: without a capital letter and a full stop."""
        return f"{self.description[:1].lower()}{self.description[1:].removesuffix('.')}"


def read_fields(cls: type[Any]) -> dict[str, LayerField]:
    """Returns the fields of a kind that can be written in a spec, by their YAML keys."""
    hints = get_type_hints(cls)
    options = {}
    for item in fields(cls):
        if "description" not in item.metadata:
            continue
        hint = hints[item.name]
        if type(None) in get_args(hint):  # `X | None`: None stands for a field that is not written
            hint = next(arg for arg in get_args(hint) if arg is not type(None))
        metadata = dict(item.metadata)
        key = metadata.pop("key") or item.name
        options[key] = LayerField(key=key, attribute=item.name, type=hint, default=item.default, **metadata)
    return options
