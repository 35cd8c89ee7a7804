"""Stands for the package sounddevice in tests, which put this folder first on the path: it plays a file of samples.

Environment: FAKE_SOUND, the file of int16 samples, after which the microphone brings silence, or is pulled out where
FAKE_SOUND_ENDS is set; FAKE_SOUND_RATE, the only sample rate of the device; FAKE_SOUND_SPEED, how many times as fast as
people speak it is; FAKE_SOUND_WRONG, what is wrong with it: "none" (no device), "busy", or "missing" (no PortAudio).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

WRONG = os.environ.get("FAKE_SOUND_WRONG", "")
RATE = int(os.environ.get("FAKE_SOUND_RATE", "16000"))
SPEED = float(os.environ.get("FAKE_SOUND_SPEED", "1"))

if WRONG == "missing":
    raise OSError("PortAudio library not found")


class PortAudioError(Exception):
    """What PortAudio raises."""


default = SimpleNamespace(device=[1, 0])
DEVICES = [
    {"index": 0, "name": "Speakers", "max_input_channels": 0},
    {"index": 1, "name": "Fake \x1b[31mmicrophone", "max_input_channels": 1},
    {"index": 2, "name": "Fake mixer", "max_input_channels": 2},
]


def query_devices(device: int | str | None = None, kind: str | None = None) -> Any:
    """Returns all devices, or the one that is asked for."""
    devices = [{**one, "hostapi": 0, "default_samplerate": float(RATE)} for one in DEVICES]
    if WRONG == "none":
        devices = []
    if kind is None:
        return devices
    if isinstance(device, str):
        found = [one for one in devices if one["max_input_channels"] and device.lower() in one["name"].lower()]
        if len(found) != 1:
            raise ValueError(f"{'Multiple' if found else 'No'} input device matching {device!r}")
        return found[0]
    number = default.device[0] if device is None else device
    if number >= len(devices):
        raise PortAudioError(f"Error querying device {number if devices else -1}")
    if not devices[number]["max_input_channels"]:
        raise ValueError(f"Not an input device: {device!r}")
    return devices[number]


def query_hostapis(index: int) -> dict[str, str]:
    """Returns the only system of sound."""
    return {"name": "FAKE"}


def check_input_settings(device: int, channels: int, dtype: str, samplerate: int) -> None:
    """Raises PortAudioError for a rate that the device has not."""
    assert dtype == "int16"
    if samplerate != RATE:
        os.write(2, b"Expression 'paInvalidSampleRate' failed in 'src/pa_linux_alsa.c'\n")
        raise PortAudioError("Error opening InputStream: Invalid sample rate [PaErrorCode -9997]", -9997)


class InputStream:
    """A stream of sound from a thread."""

    def __init__(
        self,
        device: int,
        channels: int,
        dtype: str,
        samplerate: int,
        callback: Callable[..., None],
        finished_callback: Callable[[], None],
    ) -> None:
        if WRONG == "busy":
            raise PortAudioError("Error opening InputStream: Device unavailable [PaErrorCode -9985]", -9985)
        self._callback, self._finished, self._channels = callback, finished_callback, channels
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins to record."""
        self._thread.start()

    def stop(self) -> None:
        """Stops recording, after the block that is there."""
        self._stopped.set()
        self._thread.join()

    def close(self) -> None:
        """Stops recording."""
        self.stop()

    def _run(self) -> None:
        block = RATE // 20
        sound = np.frombuffer(Path(os.environ["FAKE_SOUND"]).read_bytes(), np.int16)
        position = 0
        while not self._stopped.wait(0.05 / SPEED):
            samples = sound[position : position + block]
            position += block
            if not len(samples):
                if "FAKE_SOUND_ENDS" in os.environ:
                    break
                samples = np.zeros(block, np.int16)
            self._callback(np.stack([samples] * self._channels, axis=1), len(samples), None, None)
        self._finished()
