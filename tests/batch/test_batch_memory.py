"""How much memory is free: files as Linux has them, of machines and of containers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from max_whisper.batch.memory import UNKNOWN, free_memory

MACHINE = {"proc/meminfo": "MemTotal: 32000 kB\nMemFree: 100 kB\nMemAvailable:    8000 kB\nHugePages_Total: 0\n"}
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"
NO_LIMIT = str((1 << 63) - 4096)
CASES: dict[str, tuple[Mapping[str, str], int]] = {
    "nothing is known": ({}, UNKNOWN),
    "a machine": (MACHINE, 8000 << 10),
    "a container of version 2": (
        MACHINE
        | {
            "proc/self/cgroup": "0::/\n",
            f"{V2}/memory.max": "5000000\n",
            f"{V2}/memory.current": "4000000\n",
            f"{V2}/memory.stat": "anon 3000000\ninactive_file 200000\nactive_file 9\n",
        },
        1_200_000,
    ),
    "a group without a limit in one with a limit": (
        MACHINE
        | {
            "proc/self/cgroup": "0::/user.slice/run:1.scope\n",
            f"{V2}/user.slice/run:1.scope/memory.max": "max\n",
            f"{V2}/user.slice/run:1.scope/memory.current": "10\n",
            f"{V2}/user.slice/memory.max": "3000\n",
            f"{V2}/user.slice/memory.current": "1000\n",
        },
        2000,
    ),
    "a limit above what the machine has free": (
        MACHINE
        | {"proc/self/cgroup": "0::/a\n", f"{V2}/a/memory.max": "99999999999\n", f"{V2}/a/memory.current": "1\n"},
        8000 << 10,
    ),
    "a group that has taken more than its limit": (
        MACHINE | {"proc/self/cgroup": "0::/a\n", f"{V2}/a/memory.max": "10\n", f"{V2}/a/memory.current": "11\n"},
        0,
    ),
    "a container of version 1, which has another path outside": (
        MACHINE
        | {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/1\n2:memory:/docker/1\n0::/docker/1\n",
            f"{V1}/memory.limit_in_bytes": "700000\n",
            f"{V1}/memory.usage_in_bytes": "500000\n",
            f"{V1}/memory.stat": "inactive_file 7\ntotal_inactive_file 100\n",
        },
        200_100,
    ),
    "version 1 without a limit": (
        MACHINE
        | {
            "proc/self/cgroup": "2:hugetlb,memory:/a\n",
            f"{V1}/a/memory.limit_in_bytes": NO_LIMIT,
            f"{V1}/a/memory.usage_in_bytes": "1",
        },
        8000 << 10,
    ),
    "both versions": (
        MACHINE
        | {
            "proc/self/cgroup": "0::/a\n",
            f"{V2}/unified/a/memory.max": "300\n",
            f"{V2}/unified/a/memory.current": "100\n",
        },
        200,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_free_is_what_the_machine_and_its_containers_leave(case: str, tmp_path: Path) -> None:
    files, free = CASES[case]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_memory(tmp_path) == free


def test_this_machine_has_some_memory() -> None:
    assert 0 < free_memory() < UNKNOWN
