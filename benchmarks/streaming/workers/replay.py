"""What the peers' programs share: their arguments, a recording at the speed of time, their events, CPU time and memory.

A program begins with `Replay()`, loads and warms up its peer, says `ready`, passes on the sound that `arrived`
yields, and calls `confirmed`, `hypothesis` and `final` as its peer tells it. Each is a line of JSON on stdout; what
libraries print goes to stderr. It is run by the peer's own Python and must not import max-whisper.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
WIDTH = 2  # bytes of a sample
CHUNK = RATE // 10 * WIDTH
"""The bytes of 100 ms: how much sound arrives at a time."""
WARM_UP = 3
"""The seconds of the recording's beginning that a peer hears before the replay, to be warm."""

Word = tuple[str, float, float]
"""A word, its start and its end, in seconds of the recording."""


class Replay:
    """A recording that arrives at the speed of time, and the events of the peer that hears it.

    Attributes:
        model: The folder of the weights.
        language: The language of the recording.
        threads: How many threads a peer may use for each of its models.
        pcm: The samples of the recording, 16 bits each, little-endian.
        root: The process whose CPU time and memory count, with its descendants: this one, or the server of the peer.
    """

    def __init__(self, *choices: tuple[str, Sequence[str]]) -> None:
        """Reads the command line. Each of `choices` is a further option and its values, the default first."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--model", type=Path, required=True, help="the folder that setup made of a checkpoint")
        parser.add_argument("--audio", type=Path, required=True, help="a WAV file, 16 kHz, mono, 16 bits")
        parser.add_argument("--language", default="en")
        parser.add_argument("--threads", type=int, default=2)
        for name, values in choices:
            parser.add_argument(f"--{name}", choices=values, default=values[0])
        arguments = parser.parse_args()
        self.model: Path = arguments.model.resolve()
        self.language: str = arguments.language
        self.threads: int = arguments.threads
        self.chosen: dict[str, str] = {name: getattr(arguments, name) for name, _ in choices}
        self.pcm = read_wav(arguments.audio)
        self.root = os.getpid()
        self._begun = self._cpu = 0.0
        self._hypothesis = ""
        self._confirmed: list[str] = []
        self._lock = threading.Lock()
        self._events = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        # before any library is loaded: OpenMP, CTranslate2 and torch read it; and no library may look for a newer model
        os.environ.update(OMP_NUM_THREADS=str(self.threads), HF_HUB_OFFLINE="1")

    @property
    def ctranslate2(self) -> Path:
        """The folder of the weights for CTranslate2."""
        return self.model / "faster_whisper" / "model"

    @property
    def torch_file(self) -> Path:
        """The file of the weights as OpenAI's; its name is that of the size."""
        return next((self.model / "openai_whisper").glob("*.pt"))

    @property
    def beginning(self) -> bytes:
        """The samples with which a peer warms up."""
        return self.pcm[: WARM_UP * RATE * WIDTH]

    @property
    def elapsed(self) -> float:
        """The seconds since the replay began."""
        return time.monotonic() - self._begun

    @property
    def used(self) -> float:
        """The CPU time since the replay began, in seconds."""
        return cpu_seconds(self.root) - self._cpu

    def ready(self, packages: Sequence[str], **settings: Any) -> None:
        """Says that the peer can hear, in which versions and with which settings."""
        versions = ", ".join(f"{name} {version(name)}" for name in packages)
        settings |= {"threads": self.threads, **self.chosen}
        self._print({"event": "ready", "settings": settings, "version": versions})

    def arrived(self) -> Iterator[bytes]:
        """Begins the replay; yields what arrived since the last time: 100 ms, or more if the peer was busy."""
        self._begun, self._cpu = time.monotonic(), cpu_seconds(self.root)
        start = 0
        while start < len(self.pcm):
            end = min(start + CHUNK, len(self.pcm))
            time.sleep(max(0.0, end / (RATE * WIDTH) - self.elapsed))
            by_now = int(self.elapsed * RATE * WIDTH) // CHUNK * CHUNK
            end = min(max(end, by_now), len(self.pcm))
            yield self.pcm[start:end]
            start = end

    def confirmed(self, text: str, words: Sequence[Word] | None = None) -> None:
        """Says that text was confirmed: it follows what was confirmed before, and includes the space between them."""
        if text and self._begun:
            self._confirmed.append(text)
            self._tell(
                "confirmed", text=text, words=words and [[word, round(a, 3), round(b, 3)] for word, a, b in words]
            )

    def hypothesis(self, text: str, **more: str) -> None:
        """Says which text may still change, if it is another than before."""
        if text != self._hypothesis:
            self._hypothesis = text
            self._tell("hypothesis", text=text, **more)

    def final(self, text: str, **more: float) -> None:
        """Says that a phrase ended, and its text."""
        self._hypothesis = ""
        self._tell("final", text=text, **more)

    def end(self, text: str | None = None, used: float | None = None) -> None:
        """Says that all is over.

        Args:
            text: All text that is confirmed, if the peer revised it.
            used: The CPU time that counts, if that ended before now, in seconds.
        """
        text = "".join(self._confirmed) if text is None else text
        used = self.used if used is None else used
        self._tell("end", text=text.strip(), cpu_seconds=round(used, 2), peak_rss_mb=round(peak_memory(self.root), 1))

    def _tell(self, event: str, **fields: Any) -> None:
        if self._begun:  # else the peer is being warmed up
            self._print({"event": event, "at": round(self.elapsed, 3), **fields})

    def _print(self, record: dict[str, Any]) -> None:
        with self._lock:
            print(json.dumps(record, ensure_ascii=False), file=self._events, flush=True)


def read_wav(file: Path) -> bytes:
    """Returns the samples of a WAV file; ends the program if it is not one of 16 kHz, mono and 16 bits."""
    with wave.open(str(file), "rb") as sound:
        if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) != (RATE, 1, WIDTH):
            raise SystemExit(f"{file} must be a WAV file of 16 kHz, mono, 16 bits.")
        return sound.readframes(sound.getnframes())


def write_wav(file: Path, pcm: bytes) -> None:
    """Writes samples as a WAV file, for a peer that wants one to warm up with."""
    with wave.open(str(file), "wb") as sound:
        sound.setparams((1, WIDTH, RATE, 0, "NONE", ""))
        sound.writeframes(pcm)


def floats(pcm: bytes) -> NDArray[np.float32]:
    """Returns samples as numbers from -1 to 1."""
    samples: NDArray[np.float32] = np.frombuffer(pcm, "<i2").astype(np.float32)
    samples /= 32768
    return samples


def descendants(root: int) -> dict[int, list[str]]:
    """Returns the fields of /proc/PID/stat, from the state on, of a process and of all below it that live."""
    stats: dict[int, list[str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stats[int(folder.name)] = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
    tree = {root} & stats.keys()
    while more := {pid for pid, fields in stats.items() if int(fields[1]) in tree} - tree:
        tree |= more
    return {pid: stats[pid] for pid in tree}


def cpu_seconds(root: int) -> float:
    """Returns the CPU time so far of a process and of all below it, those that ended included."""
    ticks = sum(int(field) for fields in descendants(root).values() for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_memory(root: int) -> float:
    """Returns the resident memory in MB of a process and of all below it that live, each at its own highest."""
    total = 0
    for pid in descendants(root):
        status = Path(f"/proc/{pid}/status").read_text()
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return total / 1000


def stop(status: int = 0) -> None:
    """Ends this process at once, without what a library does when Python ends, which may take long or hang."""
    sys.stderr.flush()
    os._exit(status)
