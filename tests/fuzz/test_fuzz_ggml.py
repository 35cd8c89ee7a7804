"""Fuzzes ggml files: wrong numbers in every place that holds one, and damaged bytes.

Right is a WeightsError, or tensors that can be read to their last byte, and a vocabulary that an artifact can have.
"""

from __future__ import annotations

import functools
import itertools
import random
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
from max_whisper.weights.formats.ggml import Ggml
from support import ggml
from support.harness import Budget, refuses_weights

RANKS = [*(bytes([byte]) for byte in range(256)), b"th", b"the", b""]
DIMS = [len(RANKS) + 8 + 1501 + 2, 50, 32, 2, 1, 8, 32, 2, 1, 4]
SHAPES = {"encoder.conv1.bias": (32,), "decoder.ln.weight": (32,), "encoder.conv1.weight": (32, 4, 3), "a.b": (8, 64)}
NUMBERS = (
    *(-(2**31), -33, -1, 0, 1, 2, 3, 4, 5, 8, 10, 31, 33, 41, 64, 100, 101, 200, 256, 257),
    *(512, 513, 1000, 2**16, 2**20, 2**20 + 1, 2**24, 2**30, 2**31 - 1),
)


def good_file() -> tuple[bytes, list[int]]:
    """Returns a file with one tensor of each kind, and the offsets of its numbers."""
    data = ggml.head(DIMS, 2008) + ggml.filters(DIMS[-1])
    offsets = [*range(0, 48, 4), 48, 52, len(data), len(data) + 4, len(data) + 4 + 256 * 5]
    data += ggml.tokens(RANKS)
    rng = np.random.default_rng(0)
    for (name, shape), kind in zip(SHAPES.items(), ("f32", "f32", "f16", "q5_0"), strict=True):
        start = len(data)
        data += ggml.tensor(name, rng.standard_normal(shape).astype(np.float32), kind)
        rank = struct.unpack_from("<i", data, start)[0]
        offsets += range(start, start + 4 * (3 + rank), 4)
    return data, offsets


GOOD, OFFSETS = good_file()
CASES = list(itertools.product(OFFSETS, NUMBERS))


def read(path: Path) -> None:
    """Reads everything of a file."""
    source = Ggml(path)
    for name in source.names():
        info, array = source.info(name), source.read(name)
        assert (array.shape, array.dtype) == (info.shape, info.dtype.numpy)
        array.tobytes()
    ((_, claim),) = source.claims()
    n_vocab = claim.vocab_size
    vocabulary = source.vocabulary(source.file, n_vocab)
    tokens = vocabulary.tokens
    assert len({*vocabulary.ranks}) == len(vocabulary.ranks) == tokens.eot
    assert tokens.in_order == sorted(tokens.in_order) and tokens.timestamp_begin + 1501 == n_vocab
    assert all(0 <= token < n_vocab for token in (*tokens.suppress, *tokens.begin_suppress))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.bin"
    path.write_bytes(GOOD)
    read(path)
    return path


judge = functools.partial(refuses_weights, read)


def test_every_number_with_every_value(path: Path, budget: Budget) -> None:
    refused = 0
    for number, rng in budget.cases(len(CASES), 8):
        offset, value = CASES[number] if number < len(CASES) else (rng.choice(OFFSETS), rng.choice(NUMBERS))
        path.write_bytes(GOOD[:offset] + struct.pack("<i", value) + GOOD[offset + 4 :])
        refused += judge(path, (offset, value))
    assert refused > number / 2


def test_damaged_bytes(path: Path, budget: Budget) -> None:
    for number, rng in budget.cases(2000, 4):
        path.write_bytes(damaged(rng))
        judge(path, number)


def damaged(rng: random.Random) -> bytes:
    """Returns a file with changed, missing, doubled or added bytes, mostly near its numbers."""
    result = bytearray(GOOD)
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(OFFSETS) + rng.randrange(8) if rng.random() < 0.7 else rng.randrange(len(result))
        action = rng.randrange(4)
        if action == 0:
            result[at : at + 1] = bytes([rng.randrange(256)])
        elif action == 1:
            del result[at : at + rng.randint(1, 20)]
        elif action == 2:
            result[at:at] = result[at : at + rng.randint(1, 20)]
        else:
            del result[rng.randrange(len(result)) :]
        if not result:
            break
    return bytes(result)


def test_every_length(path: Path, budget: Budget) -> None:
    """A file that is cut off anywhere is refused, but behind a tensor, which `Checkpoint` then misses."""
    whole = 0
    for number, rng in budget.cases(1000, 3):
        length = number if number < 64 else rng.randrange(len(GOOD))
        path.write_bytes(GOOD[:length])
        whole += not judge(path, length)
    assert whole < 4


def test_many_tensors_take_little_time_and_memory(path: Path) -> None:
    heads = b"".join(ggml.raw_tensor(f"t{i}", (1,), 0, bytes(4)) for i in range(200_000))
    path.write_bytes(GOOD + heads)
    before = resource.getrusage(resource.RUSAGE_SELF)
    assert judge(path, "many")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 5
    assert after.ru_maxrss - before.ru_maxrss < 300_000
