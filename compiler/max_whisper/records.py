"""The types of the fields of manifests, plans and special tokens, which are JSON: numbers in ranges, checked texts."""

from __future__ import annotations

from typing import Annotated

import msgspec

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Id = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Dim = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,256}\Z")]  # of something in a spec or a checkpoint
Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._+!-]{1,64}\Z")]  # a version, a commit, a feature of a CPU
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An immutable record; reading one refuses fields that it does not know."""
