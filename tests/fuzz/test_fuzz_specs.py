"""Fuzzes specs: damaged text, and values of every kind everywhere.

Right is a SpecError that begins with file and line, soon, or a spec that `from_canonical` gives back.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from max_whisper.errors import SpecError
from max_whisper.spec import Spec, load_spec, shipped_specs
from support.harness import Budget, refusal
from support.json_values import places, put

TOO_LONG = 60.0  # seconds, after which it counts as a hang; a damaged spec takes milliseconds
TEXT = shipped_specs()["tiny"].read_text()
PLACE = re.compile(r":\d+: ")
VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 7, 2**31, 10**14, 10**15, 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "$d_model", "$nothing", "$i", "{i}", "{j}", "yes", "~", "\x1b[2J", "\u202e", "a\nb", "é" * 100),
    *("x" * 100_000, "../..", "/etc/passwd", "a/../../b", "-", "#", "model.encoder.conv1", "gelu", "tiny"),
    *([], {}, [[]], {"gelu": None}, ["gelu"], [None], {"a": {"b": {"c": []}}}, {"extends": "tiny"}, [1, 2]),
]
FRAGMENTS = [
    "[", "]", "{", "}", ":", "- ", "  ", "\t", "\n", "#", "'", '"', "&a ", "*a", "!!python/object:os.system ", "|", ">",
    "<<: ", "%YAML 1.1\n", "---\n", "...\n", "? ", "\x00", "\x07", "\x1b[2J", "\ud7ff", "\ufeff", "\x85", "\u2028",
    "0x1F", "1e9999", "9" * 20, "1_000", "0o17", ".nan", "- gelu\n", "$d_model", "{i}", "extends: tiny\n", "\r\n", "\\",
    "- repeat: {times: 100000, layers: [gelu]}\n", "[" * 50, "{a: " * 50, "é", "漢", "'\\U00ffffff'", "\\",
]  # fmt: skip


def judge(path: Path, case: object) -> bool:
    """Returns whether the spec is refused; fails unless the refusal is a sentence that names a line, and comes soon."""
    began = time.monotonic()

    def load() -> None:
        spec = load_spec(path)
        assert Spec.from_canonical(spec.canonical()).hash == spec.hash or spec.folder is not None

    try:
        sentence = refusal(load, kind=SpecError)
    except BaseException as e:
        raise AssertionError(f"{str(case)[:300]}: {type(e).__name__}: {e}"[:1000]) from e
    assert time.monotonic() - began < TOO_LONG, case
    assert sentence is None or PLACE.search(sentence), f"{case}: {sentence} names no line"
    return sentence is not None


def test_damaged_text(tmp_path: Path, budget: Budget) -> None:
    path = tmp_path / "damaged.yaml"
    refused = 0
    for number, rng in budget.cases(400, 6):
        text = damaged(TEXT, rng)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        refused += judge(path, number)
    assert refused > number / 4


def damaged(text: str, rng: random.Random) -> str:
    """Returns text with pieces replaced, left out, doubled or moved, or with fragments of YAML inserted."""
    for _ in range(rng.randint(1, 5)):
        parts = text.splitlines(keepends=True) if rng.random() < 0.4 else re.findall(r"\w+|\W", text)
        if len(parts) < 3:
            return text
        at = rng.randrange(len(parts))
        action = rng.randrange(5)
        if action == 0:
            parts[at] = rng.choice(FRAGMENTS)
        elif action == 1:
            parts.insert(at, rng.choice(FRAGMENTS))
        elif action == 2:
            del parts[at : at + rng.randint(1, 5)]
        elif action == 3:
            parts[at:at] = parts[at : at + rng.randint(1, 5)]
        else:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        text = "".join(parts)
    return text


def test_damaged_bytes(tmp_path: Path, budget: Budget) -> None:
    path = tmp_path / "damaged.yaml"
    good = TEXT.encode()
    for number, rng in budget.cases(150, 3):
        data = bytearray(good)
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(bytes(data))
        judge(path, number)


TREE = yaml.safe_load(TEXT)
CASES = list(itertools.product(places(TREE), range(len(VALUES))))


def test_every_place_with_every_value(tmp_path: Path, budget: Budget) -> None:
    """There are thousands of cases: each run tries others, chosen by the seed. They are JSON, which is YAML."""
    path = tmp_path / "changed.yaml"
    refused = 0
    for number, rng in budget.cases(400, 6):
        place, value = rng.choice(CASES)
        tree = put(TREE, place, VALUES[value])
        text = json.dumps(tree, ensure_ascii=rng.random() < 0.5) if rng.random() < 0.5 else yaml.safe_dump(tree)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        refused += judge(path, (number, place, VALUES[value]))
    assert refused > number / 2


@pytest.mark.parametrize("key", ["name", "extends", "source", "dims", "encoder", "decoder"])
def test_every_key_of_the_top_with_every_value(tmp_path: Path, key: str) -> None:
    path = tmp_path / "child.yaml"
    for value in VALUES:
        path.write_bytes(yaml.safe_dump({"extends": "tiny", "name": "child", key: value}).encode())
        judge(path, (key, value))
