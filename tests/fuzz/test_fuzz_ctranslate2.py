"""Fuzzes model.bin of CTranslate2: extreme numbers everywhere, and damaged bytes.

Right is a WeightsError, or tensors that can be read to their last byte.
"""

from __future__ import annotations

import functools
import random
import resource
import struct
from pathlib import Path

import pytest
from ctranslate2.specs.whisper_spec import WhisperSpec
from max_whisper.weights.formats.ctranslate2 import CTranslate2
from support.harness import Budget, refuses_weights
from support.models.checkpoint import make_weights
from support.models.ctranslate2_model import fill

DIMS = {
    **{"n_mels": 2, "n_audio_ctx": 2, "d_model": 4, "d_ffn": 4, "n_vocab": 3, "n_text_ctx": 2},
    **{"encoder_layers": 1, "decoder_layers": 1},
}
EXTREMES = [0, 1, 2, 5, 6, 7, 127, 128, 255, 2**15, 2**16 - 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Returns a file with quantized and other variables, and with aliases."""
    spec = WhisperSpec(1, 1, 1, 1)
    fill(spec, make_weights(DIMS, first_special=1, seed=0))
    spec.register_vocabulary([str(i) for i in range(DIMS["n_vocab"])])
    spec.validate()
    spec.optimize("int8_float16")
    folder = tmp_path_factory.mktemp("good")
    spec.save(str(folder))
    read(folder / "model.bin")
    return (folder / "model.bin").read_bytes()


def read(path: Path) -> None:
    """Opens a model and reads every tensor."""
    source = CTranslate2(path)
    for name in source.names():
        info, array = source.info(name), source.read(name)
        assert array.shape == info.shape and array.dtype == info.dtype.numpy
        array.tobytes()
    list(source.claims())


judge = functools.partial(refuses_weights, read)


def test_every_place_with_extremes(good: bytes, tmp_path: Path, budget: Budget) -> None:
    """Every second byte is the beginning of a number in one case, whatever it is the beginning of."""
    refused, path = 0, tmp_path / "model.bin"
    for number, rng in budget.cases(len(good), 8):
        at = number * 2 % (len(good) - 4)
        form = rng.choice(["<I", "<H", "<B"])
        value = struct.pack(form, rng.choice(EXTREMES) % 256 ** struct.calcsize(form))
        path.write_bytes(good[:at] + value + good[at + len(value) :])
        refused += judge(path, (at, value))
    assert refused > number / 4


def test_damaged_bytes(good: bytes, tmp_path: Path, budget: Budget) -> None:
    path = tmp_path / "model.bin"
    for number, rng in budget.cases(3000, 6):
        path.write_bytes(damaged(good, rng))
        judge(path, number)


def test_every_length(good: bytes, tmp_path: Path, budget: Budget) -> None:
    """A file that ends early is always refused."""
    path = tmp_path / "model.bin"
    for number, _ in budget.cases(len(good), 6):
        path.write_bytes(good[: number * 7 % len(good)])
        assert judge(path, number)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Returns a file with changed, missing, doubled or added bytes."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at, count = rng.randrange(len(result) - 1), rng.randint(1, 20)
        action = rng.randrange(4)
        if action == 0:
            result[at] = rng.randrange(256)
        elif action == 1:
            del result[at : at + count]
        elif action == 2:
            result[at:at] = result[at : at + count]
        else:
            result[at : at + 4] = struct.pack("<I", rng.choice(EXTREMES))
    return bytes(result)


def test_a_quantized_tensor_without_rows(tmp_path: Path) -> None:
    path, spec = tmp_path / "model.bin", b"WhisperSpec\0"
    matrix = struct.pack("<H", 2) + b"x\0" + struct.pack("<BIIBI", 2, 0, 4, 1, 0)
    scale = struct.pack("<H", 8) + b"x_scale\0" + struct.pack("<BIBI", 1, 0, 0, 0)
    header = struct.pack("<IH", 6, len(spec)) + spec + struct.pack("<II", 3, 2)
    path.write_bytes(header + matrix + scale + bytes(4))
    assert not judge(path, "no rows") and CTranslate2(path).read("x").shape == (0, 4)


def test_many_variables_take_little_time_and_memory(tmp_path: Path) -> None:
    """A file of 2 MB: 100,000 empty variables, and then one that does not fit."""
    path, spec = tmp_path / "model.bin", b"WhisperSpec\0"
    variables = b"".join(struct.pack("<H", 7) + b"%06d\0" % i + struct.pack("<BIBI", 1, 0, 0, 0) for i in range(99_999))
    last = struct.pack("<H", 2) + b"x\0" + struct.pack("<BIIBI", 2, 2**31, 2**31, 0, 0)
    path.write_bytes(struct.pack("<IH", 6, len(spec)) + spec + struct.pack("<II", 3, 100_000) + variables + last)
    before = resource.getrusage(resource.RUSAGE_SELF)
    assert judge(path, "many")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 5
    assert after.ru_maxrss - before.ru_maxrss < 300_000
