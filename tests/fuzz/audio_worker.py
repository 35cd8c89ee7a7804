"""Damages one file again and again, and decodes it in this process, which may end it: test_fuzz_audio.py starts this.

    python tests/fuzz/audio_worker.py FILE --seed 0 --first 0 --count 10000

Prints the number of each case before it is tried, and at the end a line of JSON: how many were decoded, refused, or
left to the child process, and the most CPU time and memory that one took. `--everything` decodes all kinds here, and
not only the common ones.
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
from max_whisper.runtime.audio.decoding import Request, Uncommon, decode

INTERESTING = [0, 1, 2, 3, 7, 8, 15, 16, 17, 24, 32, 64, 127, 128, 255, 256, 1000, 32767, 32768, 65534, 65535]
INTERESTING += [1 << 16, (1 << 24) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
HEADER = 256


def damage(data: bytes, rng: random.Random) -> bytes:
    """Some changes of a file, of which most are in its header."""
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
    """Pages of Ogg with a checksum that is right, so that damage gets through to the decoder."""
    pages = data.split(b"OggS")
    for number, page in enumerate(pages[1:], 1):
        if len(page) > 22:
            page = b"OggS" + page[:18] + bytes(4) + page[22:]
            checksum = 0
            for byte in page:
                checksum = checksum << 8 & 0xFFFFFFFF ^ _OGG[checksum >> 24 ^ byte]
            pages[number] = page[4:22] + checksum.to_bytes(4, "little") + page[26:]
    return b"OggS".join(pages)


def case(data: bytes, seed: int, number: int) -> bytes:
    """The damaged file of a case."""
    rng = random.Random(f"{seed}/{number}")
    damaged = damage(data, rng)
    return mend_ogg(damaged) if data.startswith(b"OggS") and rng.random() < 0.8 else damaged


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--everything", action="store_true")
    options = parser.parse_args()
    data = options.file.read_bytes()
    request = Request(options.file.name, options.file.suffix)
    end = time.monotonic() + options.seconds
    results: Counter[str] = Counter()
    slowest = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(options.first, options.first + options.count):
        if time.monotonic() > end:
            break
        print(number, flush=True)
        began = time.process_time()
        written: list[int] = []
        try:
            decode(
                io.BytesIO(case(data, options.seed, number)),
                request,
                lambda pcm, written=written: written.append(len(pcm)),
                common=not options.everything,
            )
            assert sum(written), "decoded to nothing"
            results["decoded"] += 1
        except Uncommon:
            results["uncommon"] += 1
        except AudioError as error:
            assert str(error).isprintable() and 10 <= len(str(error)) <= 1000, str(error)
            results["refused"] += 1
        slowest = max(slowest, time.process_time() - began)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({**results, "slowest": round(slowest, 2), "grown_mb": grown >> 10}))


if __name__ == "__main__":
    main()
