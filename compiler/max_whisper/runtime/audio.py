"""An audio or video file -> the waveform Whisper listens to (waveform.py).

The samples are the ones that openai/whisper gets from `ffmpeg -i FILE -f s16le -ac 1 -acodec pcm_s16le -ar 16000`
(whisper/audio.py, `load_audio`), made with the same libraries through PyAV and without an ffmpeg program: FFmpeg's
own down-mix and resampler, int16, divided by 32768.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from max_whisper.errors import AudioError
from max_whisper.runtime.waveform import SAMPLE_RATE, Waveform, check_samples, full_scale

MAX_HOURS = 24
"""The longest audio that is read: 24 hours are 2.8 GB of int16, in a temporary file."""
IN_MEMORY = 32 << 20
"""Bytes of int16 that are kept in memory: those of 17 minutes."""
MIN_SAMPLE_RATE = 1000
"""The lowest sample rate of a file that is believed: one of 1 Hz would fill the memory with interpolation."""

_LOG = logging.getLogger(__name__)
_NEXT = "give an audio or video file such as wav, mp3, flac, m4a, ogg, mp4 or mkv"


class Recording:
    """Decoded sound, 16 kHz mono: `recording[start:stop]` is float32 [samples], `len` is the number of samples.

    Up to IN_MEMORY bytes of int16 are in memory, more in a temporary file that goes with the recording.
    """

    def __init__(self, pcm: IO[bytes]) -> None:
        """pcm: int16, open at its end."""
        self._pcm = pcm
        self._length = pcm.tell() // 2

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Waveform:
        start, stop, step = part.indices(self._length)
        assert step == 1
        self._pcm.seek(2 * start)
        return full_scale(np.frombuffer(self._pcm.read(2 * max(0, stop - start)), np.int16))


def load_audio(source: str | os.PathLike[str] | BinaryIO) -> Waveform:
    """Read the best audio stream of an audio or video file, all at once; see `open_audio` for the rest.

    Returns float32 [samples], mono, 16 kHz, in [-1, 1).
    """
    return open_audio(source)[:]


def open_audio(source: str | os.PathLike[str] | BinaryIO) -> Recording:
    """Decode the best audio stream of an audio or video file.

    source: a path, "-" for standard input, or a binary file object; one that cannot seek (a pipe) is first copied to
        a temporary file, because formats such as mp4 keep their index at the end. Never a URL.
    Float samples beyond full scale are clipped, as ffmpeg does.
    Parts that cannot be decoded are left out, as ffmpeg does, with a warning in the log.
    Raises AudioError when there is no such file, it cannot be read, holds no sound, holds samples that are NaN,
    infinite or beyond MAX_PEAK, or is longer than MAX_HOURS. What a header claims about the length is never trusted:
    memory is taken for what was decoded. TypeError for a source that is none of the above.
    """
    with contextlib.ExitStack() as stack:
        file, name = _open(source, stack)
        try:
            # A playlist or a concatenation must not make us read other files, or the network.
            container = stack.enter_context(
                av.open(file, "r", metadata_errors="replace", options={"protocol_whitelist": ""})
            )
        except av.FFmpegError as e:
            raise AudioError(
                f"{name} is not an audio or video file that can be read ({_reason(e)}): it may be damaged, cut off, or "
                f"of another kind than its name says; {_NEXT}"
            ) from e
        except OSError as e:
            raise AudioError(_cannot_read(name, e)) from e
        pcm: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (closed with the recording)
        _decode(container, name, pcm)
    return Recording(pcm)


def _open(source: str | os.PathLike[str] | BinaryIO, stack: contextlib.ExitStack) -> tuple[BinaryIO, str]:
    """The seekable, not empty file of a source, and what to call it in an error; the stack closes what was opened."""
    file: BinaryIO
    if isinstance(source, str) and source == "-":
        file, name = sys.stdin.buffer, "standard input"
    elif isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        try:
            file = stack.enter_context(Path(name).open("rb"))  # noqa: SIM115 (the stack closes it)
        except (OSError, ValueError) as e:
            raise AudioError(_cannot_open(name, e)) from e
    elif hasattr(source, "read"):
        file, name = source, str(getattr(source, "name", "the audio stream"))
    else:
        raise TypeError(f"expected a path, '-' or a binary file, not {type(source).__name__}")
    try:
        if not isinstance(file.read(0), bytes):
            raise AudioError(f"{name} is open as text, expected bytes: open it in mode 'rb'")
        if not file.seekable():
            copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
            shutil.copyfileobj(file, copy)
            file = copy
        if not file.seek(0, io.SEEK_END):
            raise AudioError(f"{name} is empty (0 bytes), expected sound: {_NEXT}")
        file.seek(0)
    except (OSError, ValueError) as e:
        raise AudioError(_cannot_read(name, e)) from e
    return file, name


def _cannot_open(name: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        if "://" in name:
            return f"there is no file {name}: addresses are not opened, download it and give the file"
        return f"there is no file {name}: check the path, it is looked up from {Path.cwd()}"
    if isinstance(error, IsADirectoryError):
        return f"{name} is a folder, expected one audio or video file: give its files one by one, as in {name}/*.wav"
    if isinstance(error, PermissionError):
        return f"{name} may not be read by this user: change its permissions, or copy it to where you may read it"
    return f"{name} cannot be opened ({getattr(error, 'strerror', None) or error}): check the path"


def _cannot_read(name: str, error: OSError | ValueError) -> str:
    return f"{name} cannot be read ({getattr(error, 'strerror', None) or error}): check the file, and the disk it is on"


def _decode(container: InputContainer, name: str, pcm: IO[bytes]) -> None:
    """Writes all of the best audio stream to `pcm`: int16, mono, 16 kHz."""
    stream = container.streams.best("audio")  # one that this build of FFmpeg can decode
    if not isinstance(stream, AudioStream):
        if container.streams.audio:
            raise AudioError(
                f"the sound of {name} cannot be decoded here: its header is damaged, or it is in a rare format that "
                "must be converted to wav first"
            )
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise AudioError(f"{name} has no sound (it holds {kinds}): {_NEXT} that has an audio track")

    lossless = stream.codec_context.codec.lossless
    resampler: av.AudioResampler | None = None
    source_format = ""
    damage = _Damage()
    try:
        for frame in _frames(container, stream, damage):
            # What a lossy decoder makes of damaged data may be anything, and is clipped as ffmpeg does.
            if lossless and frame.format.name in ("flt", "fltp", "dbl", "dblp"):
                check_samples(frame.to_ndarray(), name, f" after {_seconds(pcm):.2f} s")
            # The frames of one stream may change format midway; a resampler is made for one.
            frame_format = f"{frame.format.name}, {frame.layout.name}, {frame.sample_rate} Hz"
            if frame_format != source_format:
                if frame.sample_rate < MIN_SAMPLE_RATE:
                    raise AudioError(
                        f"{name} claims {frame.sample_rate} samples a second, expected at least {MIN_SAMPLE_RATE}: its "
                        "header is damaged; make it anew"
                    )
                if resampler:
                    _append(pcm, resampler.resample(None))
                resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
                source_format = frame_format
            assert resampler
            _append(pcm, resampler.resample(frame))
            if pcm.tell() > MAX_HOURS * 3600 * SAMPLE_RATE * 2:
                raise AudioError(f"{name} is longer than {MAX_HOURS} hours: cut it into shorter files")
        if resampler:
            _append(pcm, resampler.resample(None))
    except av.FFmpegError as e:
        raise AudioError(
            f"the sound of {name} ({source_format}) cannot be converted to {SAMPLE_RATE} Hz mono ({_reason(e)}): "
            "convert it to a common wav first"
        ) from e
    except OSError as e:
        raise AudioError(_cannot_read(name, e)) from e
    if not pcm.tell():
        if damage.error:
            raise AudioError(f"nothing in {name} can be decoded ({damage.error}): it is damaged or cut off; {_NEXT}")
        raise AudioError(f"the sound of {name} has zero length, expected at least one sample: {_NEXT}")
    if damage.error:
        _LOG.warning(
            "%s is damaged or cut off: %d parts cannot be decoded (%s) and were left out; %.1f s of sound were read",
            name, damage.parts, damage.error, _seconds(pcm),
        )  # fmt: skip


class _Damage:
    """What could not be decoded."""

    parts = 0
    error = ""

    def add(self, error: av.FFmpegError) -> None:
        self.parts += 1
        self.error = _reason(error)


def _frames(container: InputContainer, stream: AudioStream, damage: _Damage) -> Iterator[AudioFrame]:
    """Every frame that can be decoded, as ffmpeg goes on after an error; what cannot is added to the damage."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.FFmpegError as e:
            damage.add(e)
            continue
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            yield frame


def _append(pcm: IO[bytes], frames: list[AudioFrame]) -> None:
    for frame in frames:
        # A resampler with nothing to do gives back what it is given, even the None that flushes it.
        if frame is not None:
            pcm.write(frame.to_ndarray().tobytes())


def _seconds(pcm: IO[bytes]) -> float:
    return pcm.tell() / 2 / SAMPLE_RATE


def _reason(error: av.FFmpegError) -> str:
    return (error.strerror or str(error)).strip().lower()
