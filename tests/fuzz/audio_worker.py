"""Damages files again and again and decodes them in this process, which that may kill; test_fuzz_audio.py starts it.

    python tests/fuzz/audio_worker.py FILE... --seed 0 --first 0 --count 10000

Prints each case before it is tried, and for each file a line of JSON: how many cases were decoded, refused, or left to
the child process, and the most CPU time and memory that one took. `--everything` decodes all kinds here, and not only
the common ones. A file of the name header.wav is given headers with any numbers in their fields.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import time
from collections import Counter
from pathlib import Path

from max_whisper.errors import AudioError
from max_whisper.runtime.audio.container import Uncommon
from max_whisper.runtime.audio.decoding import Request, decode

INTERESTING = [0, 1, 2, 3, 7, 8, 15, 16, 17, 24, 32, 64, 127, 128, 255, 256, 1000, 32767, 32768, 65534, 65535]
INTERESTING += [1 << 16, (1 << 24) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
HEADER = 256


def damage(data: bytes, rng: random.Random) -> bytes:
    """Returns a file with some changes, most of them in its header."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8, 30])):
        if not changed:
            break
        place = rng.randrange(min(len(changed), HEADER) if rng.random() < 0.6 else len(changed))
        kind = rng.randrange(8)
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place] = rng.choice([0, 255, 127, 128, rng.randrange(256)])
        elif kind in (2, 3):
            size = rng.choice([2, 4, 4, 8])
            value = rng.choice(INTERESTING) % (1 << 8 * size)
            changed[place : place + size] = value.to_bytes(size, rng.choice(["little", "big"]))
        elif kind == 4:
            del changed[place : place + rng.choice([1, 2, 4, 100, 1000])]
        elif kind == 5:
            changed[place:place] = rng.randbytes(rng.choice([1, 2, 4, 100, 1000]))
        elif kind == 6:
            start = rng.randrange(len(changed))
            changed[place:place] = changed[start : start + rng.choice([4, 16, 200, 2000])]
        elif rng.random() < 0.3:
            del changed[place:]
        else:
            size = rng.choice([8, 64, 512])
            changed[place : place + size] = bytes([rng.choice([0, 255, 85])]) * size
    return bytes(changed)


def _ogg_table() -> list[int]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = value << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if value & 1 << 31 else 0)
        table.append(value)
    return table


_OGG = _ogg_table()


def mend_ogg(data: bytes) -> bytes:
    """Returns Ogg pages with right checksums, so that damage reaches the decoder."""
    pages = data.split(b"OggS")
    for number, page in enumerate(pages[1:], 1):
        if len(page) > 22:
            page = b"OggS" + page[:18] + bytes(4) + page[22:]
            checksum = 0
            for byte in page:
                checksum = checksum << 8 & 0xFFFFFFFF ^ _OGG[checksum >> 24 ^ byte]
            pages[number] = page[4:22] + checksum.to_bytes(4, "little") + page[26:]
    return b"OggS".join(pages)


def wav_header(data: bytes, rng: random.Random) -> bytes:
    """Returns a WAV file whose header has random numbers, before the samples of `data`."""
    fields = {"tag": 1, "channels": 1, "rate": 16000, "bytes": 32000, "align": 2, "bits": 16}
    for field in rng.sample(sorted(fields), rng.choice([1, 1, 1, 2, 3, 6])):
        fields[field] = rng.choice([*INTERESTING, 0x11, 0x31, 0x55, 0x160, 0x161, 0xFFFE, rng.getrandbits(32)])
    sizes = {"rate": 4, "bytes": 4}
    header = b"".join(
        (n % (1 << 8 * sizes.get(key, 2))).to_bytes(sizes.get(key, 2), "little") for key, n in fields.items()
    )
    extra = rng.choice([b"", b"", bytes(2), (22).to_bytes(2, "little") + rng.randbytes(22)])
    size = len(header + extra) if rng.random() < 0.9 else rng.choice(INTERESTING)
    length = rng.choice([len(data) - 44, 0, 1, (1 << 31) - 1, (1 << 32) - 1])
    riff = rng.choice([b"RIFF", b"RIFF", b"RIFF", b"RIFF", b"RF64", b"RIFX"]) + rng.choice([bytes(4), b"\xff" * 4])
    chunk = b"fmt " + size.to_bytes(4, "little") + header + extra
    return riff + b"WAVE" + chunk + b"data" + length.to_bytes(4, "little") + data[44:]


def case(data: bytes, seed: int, number: int, headers: bool = False) -> bytes:
    """Returns the damaged file of a case."""
    rng = random.Random(f"{seed}/{number}")
    if headers:
        return wav_header(data, rng)
    damaged = damage(data, rng)
    return mend_ogg(damaged) if data.startswith(b"OggS") and rng.random() < 0.8 else damaged


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--everything", action="store_true")
    options = parser.parse_args()
    for file in options.files:
        data = file.read_bytes()
        results: Counter[str] = Counter()
        slowest = 0.0
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(options.first, options.first + options.count):
            print(file.name, number, flush=True)
            damaged = case(data, options.seed, number, file.name == "header.wav")
            began = time.process_time()
            results[attempt(damaged, file, not options.everything)] += 1
            slowest = max(slowest, time.process_time() - began)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps({"file": file.name, **results, "slowest": round(slowest, 2), "grown_mb": grown >> 10}))


def attempt(data: bytes, file: Path, common: bool) -> str:
    """Returns what became of one case."""
    written: list[int] = []
    try:
        decode(io.BytesIO(data), Request(file.name, file.suffix), lambda pcm: written.append(len(pcm)), common=common)
    except Uncommon:
        return "uncommon"
    except AudioError as error:
        assert str(error).isprintable() and 10 <= len(str(error)) <= 1000, str(error)
        return "refused"
    assert sum(written), "decoded to nothing"
    return "decoded"


if __name__ == "__main__":
    main()
