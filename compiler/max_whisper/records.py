"""The field types of manifests, plans and special tokens, which are read from JSON: bounded numbers, checked text."""

from __future__ import annotations

from typing import Annotated

import msgspec

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A count or a size, from 0."""
Id = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""The id of a token, or the index of a layer or a head."""
Dim = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
"""A dimension of a tensor."""
Name = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,256}\Z")]
"""A name in a spec or a checkpoint."""
Identifier = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._+!-]{1,64}\Z")]
"""A version, a commit, a dtype, or the name of a CPU feature."""
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""A 256-bit hash in hexadecimal."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base class of immutable records; reading one from JSON refuses unknown fields."""
