"""Opens audio and video files with FFmpeg, and refuses those that it must not decode, before it does."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from max_whisper.errors import AudioError
from max_whisper.messages import printable
from max_whisper.runtime.audio.formats import CODECS, COMMON, COMMON_CODECS, CONTAINERS, HINT
from max_whisper.runtime.audio.waveform import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE

MAX_CHANNELS = 32
"""The highest number of channels that is accepted: studios use up to 24."""
MAX_ALLOCATION = 512 << 20
"""The most bytes that FFmpeg may allocate at once. It allocates what some headers claim, and took 2 GB for a wav of a
kilobyte; the index of a film of 24 hours takes 160 MB."""

NEXT = f"give an audio or video file such as {HINT}"
"""The advice in messages about files that cannot be read."""

# The option -max_alloc of ffmpeg, which PyAV does not have: of the libavutil that PyAV is linked with.
ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(MAX_ALLOCATION))


class Uncommon(Exception):
    """Raised for a container or a codec that is not decoded in this process."""


class FFmpegInput:
    """A file as FFmpeg sees it, with a name that tells nothing but its suffix.

    Where the file cannot be read, it ends for FFmpeg, and the first error is kept; PyAV would print a second one.
    """

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self._file = file
        self.name = f"audio{suffix}"
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes, none at the end of the file or after an error."""
        try:
            data = self._file.read(size)
            if not isinstance(data, bytes) or len(data) > size:  # PyAV would copy it beyond its buffer
                raise ValueError(f"asked for {size} bytes, it gave something else")
        except Exception as e:
            self.error = self.error or e
            return b""
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a position, and returns it; -1 where the file cannot."""
        try:
            return self._file.seek(offset, whence)
        except Exception as e:
            # FFmpeg tries positions that cannot be, as before the beginning, and goes on without them.
            if not isinstance(e, OSError | ValueError):
                self.error = self.error or e
            return -1

    def tell(self) -> int:
        """Returns the position."""
        return self._file.tell()


def open_container(source: FFmpegInput, name: str, common: bool, log: list[str]) -> InputContainer:
    """Opens a file.

    Args:
        source: The file.
        name: What to call it in messages.
        common: Whether only the formats of `formats.COMMON` are opened.
        log: The list to which the lines of FFmpeg's log are added, which name formats and codecs that it does not know.

    Raises:
        Uncommon: Only common formats are opened, and this is none of them, or its header has impossible values.
        AudioError: The file cannot be read, or its container is not read here.
    """
    options = {
        # A playlist or a concatenation must not make us read other files, or the network.
        "protocol_whitelist": "",
        "format_whitelist": ",".join(COMMON if common else CONTAINERS),
        "codec_whitelist": ",".join(COMMON_CODECS if common else CODECS),
    }
    try:
        with contextlib.nullcontext() if common else _captured_log(log):
            return av.open(source, "r", metadata_errors="replace", options=options)
    except av.FFmpegError as e:
        if common and e.errno == errno.EINVAL:  # not on the list, or a header with impossible values
            raise Uncommon from e
        kind = next((line.split(":")[0] for line in log if "Format not on whitelist" in line), None)
        if kind is None:
            raise AudioError(
                f"{name} is not an audio or video file that can be read ({reason(e)}): it may be damaged, cut off, or "
                f"of another kind than its name says; {NEXT}"
            ) from e
        raise AudioError(f"{name} is in the container '{kind}', which is not read here: convert it to {HINT}") from e


@contextlib.contextmanager
def _captured_log(log: list[str]) -> Iterator[None]:
    """Adds the lines of FFmpeg's log, as `part: words`. For the child process alone: PyAV's log is for all threads."""
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as lines:
            try:
                yield
            finally:
                log += [printable(f"{name}: {words}", 300) for _, name, words in lines]
    finally:
        av.logging.set_level(None)


def check_codec(container: InputContainer, stream: AudioStream, name: str, common: bool, log: list[str]) -> None:
    """Raises AudioError for a stream that must not be decoded; with `common`, Uncommon for one that is not common.

    The other arguments are those of `open_container`, which returned the container and filled the log.
    """
    context = stream.codec_context
    if context is None:
        if common:
            raise Uncommon
        pattern = re.compile(rf"stream {stream.index} \(Audio: none \((.{{1,40}}?)\)")
        match = next(filter(None, map(pattern.search, log)), None)
        raise AudioError(
            f"the sound of {name} cannot be decoded here: its codec, {match[1] if match else 'without a name'}, is not "
            f"known, or its header is damaged: convert it to {HINT}"
        )
    if common and context.name not in COMMON.get(container.format.name, ()):
        raise Uncommon
    if context.name not in CODECS:
        raise AudioError(
            f"the sound of {name} is in the codec '{context.name}', which is not read here: convert it to {HINT}"
        )
    check_claims(name, context.sample_rate, context.layout.nb_channels)


def check_claims(name: str, rate: int, channels: int) -> None:
    """Raises AudioError for a sample rate or a number of channels that no recording has; 0 stands for unknown."""
    if rate and not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"{name} claims {rate} samples a second, which cannot be, expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}: "
            "its header is damaged; make it again"
        )
    if channels > MAX_CHANNELS:
        raise AudioError(
            f"{name} claims {channels} channels, expected at most {MAX_CHANNELS}: its header is damaged, or it must be "
            "mixed down first"
        )


def is_media(beginning: bytes) -> bool:
    """Returns whether FFmpeg recognizes the beginning of a file as a container, without opening it."""
    options = {"protocol_whitelist": "", "format_whitelist": "none"}
    try:
        av.open(FFmpegInput(io.BytesIO(beginning), ""), "r", options=options)
    except av.FFmpegError as e:
        return e.errno == errno.EINVAL  # not on the list
    except Exception:
        return False
    return True


def cannot_read(name: str, error: Exception) -> str:
    """Returns the message about a file or a disk that gives an error."""
    return f"{name} cannot be read ({getattr(error, 'strerror', None) or error}): check the file, and the disk it is on"


def reason(error: Exception) -> str:
    """Returns the message of a library's error, without the path that FFmpeg adds to it."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(str(words).strip().lower(), 200)
