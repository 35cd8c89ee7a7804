"""Finds how much memory may be taken: what the machine has free, and what the limits of containers leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

UNKNOWN = 1 << 50
"""The bytes that are said to be free where nothing says how many are."""


def free_memory(root: Path = Path("/")) -> int:
    """Returns the bytes of memory that can be taken without others losing theirs, or this process being ended.

    It is the least of what the machine has free, and of what is left in the control groups of this process (cgroups of
    version 1 and 2) and those above; a lot where that is not known.

    Args:
        root: The folder with `proc` and `sys`.
    """
    available = _values(root / "proc" / "meminfo").get("MemAvailable:")
    groups = (_left(*files) for files in _groups(root))
    return min([*groups, UNKNOWN if available is None else available << 10])


def _groups(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yields the folder of each control group, its files with the limit and the use, and the name of unused cache."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        number, kinds, path = line.split(":", 2)
        if "memory" in kinds.split(","):
            top, files = mounts / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        elif number == "0":  # of version 2, beside version 1 in a folder of its own
            top = mounts / "unified" if (mounts / "unified").is_dir() else mounts
            files = ("memory.max", "memory.current", "inactive_file")
        else:
            continue
        group = top / path.lstrip("/")  # which a container may see as the topmost one
        while group.is_relative_to(top):
            yield group, *files
            group = group.parent


def _left(group: Path, limit: str, use: str, cache: str) -> int:
    """Returns the bytes that are left in a control group; a lot where it has no limit."""
    try:
        left = int(_text(group / limit)) - int(_text(group / use))
    except ValueError:  # "max", or there is no such file
        return UNKNOWN
    return max(0, left + _values(group / "memory.stat").get(cache, 0))


def _values(path: Path) -> dict[str, int]:
    """Returns the numbers in a file by the words before them."""
    lines = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
