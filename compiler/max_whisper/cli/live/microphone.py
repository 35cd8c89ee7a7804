"""The microphone, by PortAudio and the package sounddevice, which is installed with max-whisper[live]."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from max_whisper.cli.live.sources import Hear, Source
from max_whisper.console import Table
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.messages import printable, quote
from max_whisper.runtime.audio.waveform import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, SAMPLE_RATE
from max_whisper.runtime.streaming.backlog import Samples, SoundQueue

NONE = "there is no microphone, or PortAudio cannot use it: connect one, or give a file, or - for sound from stdin"


class Microphone(Source):
    """A sound card, which brings sound until it is stopped or pulled out."""

    endless = True

    def __init__(self, device: str | None) -> None:
        """Finds a device that records. device: its number or a part of its name; None is the system's choice.

        Raises:
            UserError: There is no such device, or sounddevice or PortAudio is not installed.
            MaxWhisperError: There is no microphone, or it is used by another program.
        """
        self._sounddevice = _sounddevice()
        info = _found(self._sounddevice, device)
        self._device = int(info["index"])
        self._stream: Any = None
        self._stopped = False
        super().__init__(printable(info["name"], 80), SAMPLE_RATE)
        own = min(max(round(info["default_samplerate"]), MIN_SAMPLE_RATE), MAX_SAMPLE_RATE)
        most = int(info["max_input_channels"])
        for rate, channels in ((SAMPLE_RATE, 1), (own, 1), (SAMPLE_RATE, most), (own, most)):
            self._settings = {"device": self._device, "channels": channels, "dtype": "int16", "samplerate": rate}
            self.sample_rate = rate
            try:
                with _quiet():
                    self._sounddevice.check_input_settings(**self._settings)
            except self._sounddevice.PortAudioError as error:
                refusal = error
            else:
                return
        raise MaxWhisperError(f"{self.name} cannot be used ({_reason(refusal)}): choose another one with --device")

    def start(self, queue: SoundQueue, hear: Hear) -> None:
        """Starts to record. Raises MaxWhisperError where that fails."""

        def take(block: Samples, frames: int, time: object, status: Any) -> None:
            """Gets each block of sound, int16 [samples, channels], in a thread of PortAudio's."""
            self.overflowed = self.overflowed or bool(status and status.input_overflow)
            samples = block[:, 0].copy() if block.shape[1] == 1 else block.mean(axis=1).astype(np.int16)
            hear(samples)
            queue.put(samples)

        def ended() -> None:
            if not self._stopped:
                self.error = MaxWhisperError(f"{self.name} brings no more sound: was it disconnected?")
            queue.end()

        try:
            with _quiet():
                self._stream = self._sounddevice.InputStream(**self._settings, callback=take, finished_callback=ended)
                self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise MaxWhisperError(
                f"{self.name} cannot be used ({_reason(error)}): close the program that uses it, or choose another one "
                "with --device"
            ) from error

    def stop(self) -> None:
        """Stops recording."""
        self._stopped = True
        if self._stream is not None:
            with _quiet(), contextlib.suppress(self._sounddevice.PortAudioError):  # it may be gone
                self._stream.stop()  # which brings what was recorded, as close alone does not
            with _quiet(), contextlib.suppress(self._sounddevice.PortAudioError):
                self._stream.close()
            self._stream = None


def device_table() -> Table:
    """Returns a table of the devices that record.

    Raises UserError where sounddevice or PortAudio is not installed, MaxWhisperError where there is no such device.
    """
    sounddevice = _sounddevice()
    devices = [info for info in sounddevice.query_devices() if info["max_input_channels"] > 0]
    if not devices:
        raise MaxWhisperError(NONE)
    chosen = sounddevice.default.device[0]
    table = Table("number", "name", "system", "channels", "sample rate", title="devices that record")
    for info in devices:
        system = sounddevice.query_hostapis(info["hostapi"])["name"]
        name = info["name"] + (" (the default)" if info["index"] == chosen else "")
        sizes = str(info["max_input_channels"]), f"{info['default_samplerate']:.0f} Hz"
        table.add_row(str(info["index"]), name, system, *sizes)
    return table


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ImportError as error:
        raise UserError(
            "the microphone needs the package sounddevice: pip install 'max-whisper[live]', and on Debian or Ubuntu "
            f"also apt install libportaudio2 ({error})"
        ) from error
    except OSError as error:
        raise UserError(
            f"the microphone needs the library PortAudio: on Debian or Ubuntu, apt install libportaudio2 ({error})"
        ) from error
    module: ModuleType = sounddevice
    return module


def _found(sounddevice: ModuleType, device: str | None) -> dict[str, Any]:
    """Returns what PortAudio says of a device that records."""
    number = int(device) if device is not None and device.isdecimal() else device
    try:
        info: dict[str, Any] = sounddevice.query_devices(number, "input")
    except (ValueError, sounddevice.PortAudioError) as error:
        if not any(info["max_input_channels"] > 0 for info in sounddevice.query_devices()):
            raise MaxWhisperError(NONE) from error
        if device is None:
            raise MaxWhisperError(f"the system has chosen no microphone ({_reason(error)}): give --device") from error
        how_many = (
            "several devices that record are" if str(error).startswith("Multiple") else "no device that records is"
        )
        raise UserError(
            f"--device {quote(device)}: {how_many} called so; give the number or the whole name of one of "
            "--list-devices"
        ) from error
    return info


def _reason(error: Exception) -> str:
    """Returns what PortAudio says, without its numbers."""
    return str(error.args[0] if error.args else error).partition(" [PaErrorCode")[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what ALSA and PortAudio themselves write to standard error from the terminal for the time of a block."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
