"""Fuzzes the headers of safetensors files: wrong values everywhere, and damaged bytes.

Right is a WeightsError, or tensors that can be read to their last byte.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
import resource
from pathlib import Path
from typing import Any

import pytest
from max_whisper.tensors.dtypes import BY_FORMAT
from max_whisper.tensors.safetensors_file import open_tensors, read_header
from safetensors import safe_open
from support.harness import Budget, refuses_weights
from support.json_values import put

DATA = bytes(range(48))
GOOD = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "I8", "shape": [8], "data_offsets": [24, 32]},
    "c": {"dtype": "BF16", "shape": [2, 2, 2], "data_offsets": [32, 48]},
}
PLACES: list[tuple[str | int, ...]] = [
    (),
    ("a",),
    ("\x1b[2J\n" + "x" * 1_000_000,),
    ("a", "dtype"),
    ("a", "shape"),
    ("a", "data_offsets"),
    ("a", "more"),
    ("a", "shape", 0),
    ("a", "shape", 1),
    ("a", "data_offsets", 0),
    ("c", "data_offsets", 1),
    ("__metadata__",),
]
VALUES = [
    *("null", "true", "-1", "0", "1", "6", "24", "48", "2.0", "24.0", "1e308", "1e400", "NaN", "Infinity"),
    *(str(2**power) for power in (31, 32, 47, 48, 49, 62, 63, 64, 128)),
    *("9" * 4300, "9" * 4400, "-" + "9" * 4300),
    *('""', '"F32"', '"\\ud800"', '"\\u001b[2J"', '"\x1b"', '"' + "x" * 1_000_000 + '"'),
    *("[]", "{}", "[0]", "[0, 0]", "[[0]]", "[null]", "[0, 1e308]", "[true, true]", "[6]", "[" + "1," * 40 + "6]"),
    *("[0, " + "9" * 4300 + "]", "[" + "9" * 4300 + ", 0]", f"[0, {2**62}, {2**62}]", "[2, 3.0]", "[-2, -3]"),
    *("[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900, '{"a": 1, "a": 2}', ""),
    '{"dtype": "F32", "shape": [0, ' + "9" * 4200 + '], "data_offsets": [0, 0]}',
    '{"dtype": "F32", "shape": [0], "data_offsets": [' + "9" * 4300 + ", " + "9" * 4300 + "]}",
]
CASES = list(itertools.product(PLACES, VALUES))
HOLE = "@@hole@@"


def with_header(header: bytes, data: bytes = DATA) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def read(path: Path) -> None:
    """Opens a checkpoint and reads every tensor; compares each byte with what the official package reads."""
    header = read_header(path)
    with safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == set(header)
        for name, info in header.items():
            part = file.get_slice(name)
            assert (part.get_dtype(), tuple(part.get_shape())) == (info.dtype, info.shape)
    for name, array in open_tensors(path).items():
        assert array.shape == header[name].shape and array.dtype == BY_FORMAT[header[name].dtype].numpy
        array.tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    path.write_bytes(with_header(json.dumps(GOOD).encode()))
    read(path)
    return path


judge = functools.partial(refuses_weights, read)


def test_every_place_with_every_value(path: Path, budget: Budget) -> None:
    refused = 0
    for number, rng in budget.cases(len(CASES), 8):
        place, value = CASES[number] if number < len(CASES) else (rng.choice(PLACES), rng.choice(VALUES))
        header = json.dumps(put(GOOD, place, HOLE)).replace(f'"{HOLE}"', value)
        path.write_bytes(with_header(header.encode("utf-8", "surrogatepass")))
        refused += judge(path, (place, value))
    assert refused > number / 2


def test_damaged_bytes(path: Path, budget: Budget) -> None:
    good = path.read_bytes()
    for number, rng in budget.cases(2000, 4):
        path.write_bytes(damaged(good, rng))
        judge(path, number)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Returns a file with changed, missing, doubled or added bytes in its length, header or data."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(result))
        action = rng.randrange(4)
        if action == 0:
            result[at] = rng.choice(b'{}[]",:0123456789e-.\\') if rng.random() < 0.7 else rng.randrange(256)
        elif action == 1:
            del result[at : at + rng.randint(1, 20)]
        elif action == 2:
            result[at:at] = result[at : at + rng.randint(1, 20)]
        else:
            result[rng.randrange(8)] = rng.randrange(256)
        if len(result) < 9:
            return bytes(result)
    return bytes(result)


def test_many_tensors_take_little_time_and_memory(path: Path) -> None:
    """A header of 1 MB: 20,000 empty tensors, and then one that does not fit."""
    header: dict[str, Any] = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_000)}
    header["last"] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    path.write_bytes(with_header(json.dumps(header).encode(), bytes(8)))
    before = resource.getrusage(resource.RUSAGE_SELF)
    assert judge(path, "many")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 5
    assert after.ru_maxrss - before.ru_maxrss < 300_000
