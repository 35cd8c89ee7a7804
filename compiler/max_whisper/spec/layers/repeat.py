"""Repetition with an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from max_whisper.spec.layer import Container, option, register


@register("repeat")
@dataclass(frozen=True, kw_only=True)
class Repeat(Container):
    """The layers inside, several times over; each copy's weights have the copy's number in their names."""

    label: ClassVar[str | None] = "layers"
    exposed: ClassVar[bool] = False  # its last layer is

    times: int = option("how many copies", maximum=1000)
    as_: str = option("name of the index: `{i}` in weight names is 0, 1, 2, ...", default="i", key="as", role="index")

    def copies(self) -> list[dict[str, int]]:
        return [{self.as_: number} for number in range(self.times)]
