"""Repetition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from max_whisper.spec.layer import Container, option, register


@register("repeat")
@dataclass(frozen=True, kw_only=True)
class Repeat(Container):
    """Repeats the layers inside, whose weight names contain the number of the copy."""

    label: ClassVar[str | None] = "layers"
    exposed: ClassVar[bool] = False  # a copy's last layer has the same output

    times: int = option("The number of copies.", maximum=1000)
    as_: str = option(
        "The name of the index, which stands for 0, 1, 2 and so on in weight names, such as `{i}`.",
        default="i",
        key="as",
        role="index",
    )

    def copies(self) -> list[dict[str, int]]:
        return [{self.as_: number} for number in range(self.times)]
