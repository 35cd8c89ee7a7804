"""Reads audio and video files as the waveform that Whisper takes (waveform.py).

The samples are the ones that openai/whisper gets from `ffmpeg -i FILE -f s16le -ac 1 -acodec pcm_s16le -ar 16000`
(whisper/audio.py, `load_audio`), made with the same libraries through PyAV and without an ffmpeg program: FFmpeg's
down-mix and resampler, int16, divided by 32768. There is one exception: channels that cancel each other, of which
ffmpeg makes silence.

A damaged file may end the process in which FFmpeg reads it. Few kinds of files are read at all (formats.py); the
common ones in this process, because thousands of damaged ones did no harm (decoding.py); the others in a child process
(child.py). With `isolated=True`, which is for programs that read files of strangers, all are read in a child process.
"""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from max_whisper.errors import AudioError, MaxWhisperError
from max_whisper.files import expanded
from max_whisper.messages import printable
from max_whisper.runtime.audio.container import NEXT, Uncommon, cannot_read, is_media
from max_whisper.runtime.audio.decoding import Outcome, Request, decode
from max_whisper.runtime.audio.edits import has_many_edits
from max_whisper.runtime.audio.recording import MAX_HOURS, DecodedSound, Recording, Storage
from max_whisper.runtime.audio.waveform import Waveform

__all__ = ["IN_MEMORY", "MAX_HOURS", "MAX_PIPE_BYTES", "Recording", "load_audio", "open_audio"]

IN_MEMORY = 32 << 20
"""The bytes of int16 samples, or of what a pipe gave, that are kept in memory: 17 minutes of sound."""
MAX_PIPE_BYTES = 4 << 30
"""The most bytes taken from a pipe, which must be copied before they can be decoded: 6 hours of 16-bit stereo WAV."""
PROBED_BYTES = 2 << 20
"""The bytes of a pipe that FFmpeg must recognize before the rest is copied; it looks at the first megabyte."""
PIPE_SECONDS = 20
"""The seconds for which a named pipe waits until somebody writes to it."""

_CHUNK = 1 << 20
_LOG = logging.getLogger(__name__)


def load_audio(source: str | os.PathLike[str] | BinaryIO, *, track: int | None = None) -> Waveform:
    """Reads an audio track of an audio or video file, all at once.

    Args:
        source: The file, as `open_audio` takes it.
        track: Which of several audio tracks, as `open_audio` takes it.

    Returns:
        float32 [samples], mono, 16 kHz, in [-1, 1).

    Raises:
        AudioError: The file cannot be read, as for `open_audio`.
    """
    return open_audio(source, track=track)[:]


def open_audio(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    track: int | None = None,
    isolated: bool = False,
    name: str | None = None,
    max_seconds: float = MAX_HOURS * 3600,
    in_memory: int = IN_MEMORY,
    stop: Callable[[], bool] = lambda: False,
    kept: Callable[[int], None] = lambda size: None,
) -> Recording:
    """Decodes an audio track of an audio or video file.

    The channels are mixed as ffmpeg does. Where they cancel each other and the mix would be silent, the loudest channel
    is taken alone, with a warning in the log. Float samples beyond full scale are clipped, and parts that cannot be
    decoded are left out, with a warning, as ffmpeg does. What a header claims about the length is never trusted: memory
    is taken for what was decoded.

    Args:
        source: A path (`~` is expanded when there is no such file), "-" for standard input, or a binary file object;
            never a URL. A pipe, which cannot seek, is copied first, because formats such as mp4 have their index at the
            end; at most MAX_PIPE_BYTES.
        track: Which of several audio tracks, from 0, as in ffmpeg's `-map 0:a:N`. None takes the one that ffmpeg does:
            the track marked as default, then the one with the most channels, then the first. When there are several, a
            warning in the log says which.
        isolated: Whether to decode in a child process whatever the format is. A file that crashes FFmpeg, or makes it
            take too much memory or time, then raises AudioError and does not end this process. This takes 0.2 s.
        name: What messages call the source. None takes the name of the file.
        max_seconds: The longest audio that is read, in seconds, at most MAX_HOURS.
        in_memory: The bytes of int16 samples up to which they are kept in memory, and not in a temporary file.
        stop: A function that is called while the file is decoded, and whenever samples are read; True ends that.
        kept: A function that is called with the number of bytes of samples that are about to be kept, negative where
            they are given up; what it raises ends the decoding.

    Returns:
        The samples, in memory or in a temporary file, of which parts can be read, with the warnings.

    Raises:
        AudioError: There is no such file or track, it cannot be read, is of a kind that is not read (formats.py), holds
            no sound, holds samples that are NaN, infinite or beyond MAX_PEAK, or is longer than `max_seconds`;
            or the source is none of the above.
        Cancelled: `stop()` returned True.
        NoRoomError: The temporary folder has no room.
    """
    number = None if track is None else _index(track)
    if track is not None and number is None:
        raise AudioError(
            f"track is of type {type(track).__name__}, expected the number of an audio track, from 0, or None"
        )
    with contextlib.ExitStack() as stack:
        file, found, suffix = _open(source, stack)
        request = Request(found if name is None else printable(name, 500), suffix, number)
        isolated = isolated or has_many_edits(file)
        pcm = DecodedSound(request.name, min(max_seconds, MAX_HOURS * 3600), in_memory, stop, kept)
        stack.push(lambda failed, *_: pcm.close() if failed else None)
        outcome = _decode(file, request, pcm, isolated)
        if outcome.loudest_channel is not None:
            pcm.clear()
            file.seek(0)
            _decode(file, request._replace(channel=outcome.loudest_channel), pcm, isolated)
        pcm.flush()
    warnings = [printable(warning) for warning in outcome.warnings]
    for warning in warnings:
        _LOG.warning("%s", warning)
    return Recording(pcm.file, stop, warnings)


def _index(value: object) -> int | None:
    """Returns an integer of any type as an int, and None for any other value."""
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except Exception:  # somebody else's class may raise anything
        return None


def _decode(file: BinaryIO, request: Request, pcm: DecodedSound, isolated: bool) -> Outcome:
    """Decodes in this process, or in a child process where that is safer."""
    if not isolated:
        try:
            return decode(file, request, pcm.write, common=True)
        except Uncommon:
            file.seek(0)
    from max_whisper.runtime.audio.isolation import decode_in_child  # takes 12 ms, and few files need it

    return decode_in_child(file, request, pcm.write, pcm.stop)


def _open(source: object, stack: contextlib.ExitStack) -> tuple[BinaryIO, str, str]:
    """Returns the file of a source, which can seek and is not empty, what to call it in messages, and its suffix.

    The stack closes what was opened.
    """
    file: BinaryIO
    suffix = ""
    if isinstance(source, str) and source == "-":
        if sys.stdin is None:
            raise AudioError("there is no standard input, it is closed: give a file, or redirect one to it")
        file, name = sys.stdin.buffer, "standard input"
    elif isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if not isinstance(path, str):
            raise _wrong_type(path)
        name, suffix = printable(path, 500), os.path.splitext(path)[1]  # noqa: PTH122 (Path refuses what may be in here)
        try:
            file = stack.enter_context(_open_path(path, name))
        except (OSError, ValueError) as e:
            raise AudioError(_cannot_open(name, e)) from e
    elif hasattr(source, "read"):
        file, name = source, printable(getattr(source, "name", "the audio stream"), 500)  # type: ignore[assignment]
        suffix = os.path.splitext(name)[1]  # noqa: PTH122
    else:
        raise _wrong_type(source)
    try:
        if not isinstance(file.read(0), bytes):
            raise AudioError(f"{name} is open as text, expected bytes: open it in mode 'rb'")
        # Devices and the files of /proc have no size, and are copied as pipes are.
        if not _size(file):
            file = _copied(file, name, stack)
        file.seek(0)
    except MaxWhisperError:
        raise
    except Exception as e:  # the caller's file object may raise anything
        raise AudioError(cannot_read(name, e)) from e
    return file, name, suffix if suffix[1:].isalnum() and suffix.isascii() and len(suffix) < 10 else ""


def _wrong_type(source: object) -> AudioError:
    return AudioError(
        f"the audio source is of type {type(source).__name__}, expected a path as str or os.PathLike, '-' for standard "
        "input, or a binary file object"
    )


def _open_path(path: str, name: str) -> BinaryIO:
    """Opens a file, or a named pipe as soon as somebody writes to it."""
    if path.startswith("~") and not os.path.lexists(path):
        path = str(expanded(path))
    if not Path(path).is_fifo():
        return Path(path).open("rb")
    import select

    # Opening a named pipe would wait for a writer forever, without a word.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    readable = select.poll()
    readable.register(file)
    if not readable.poll(1000 * PIPE_SECONDS):
        file.close()
        raise AudioError(f"{name} is a named pipe, and in {PIPE_SECONDS} s nobody wrote to it: start what writes first")
    os.set_blocking(file.fileno(), True)
    return file


def _size(file: BinaryIO) -> int:
    """Returns the number of bytes of a file that can seek, 0 for one that cannot."""
    seekable = getattr(file, "seekable", None)
    if not (seekable() if seekable else hasattr(file, "seek")):
        return 0
    try:
        return file.seek(0, io.SEEK_END)
    except OSError:
        return 0


def _copied(file: BinaryIO, name: str, stack: contextlib.ExitStack) -> BinaryIO:
    """Copies a pipe to a file that can seek. Raises AudioError for too many bytes, and where they are no media."""
    copy = Storage(IN_MEMORY)
    stack.callback(copy.close)
    probed = False
    while data := _read(file):
        copy.write(data)
        if copy.size > MAX_PIPE_BYTES:
            raise AudioError(
                f"{name} gave more than {MAX_PIPE_BYTES >> 20} MB and did not end, expected one audio or video file: "
                "save it to a file first, in a format that is smaller than wav, or in parts"
            )
        if not probed and copy.size > PROBED_BYTES:
            probed = True
            copy.file.seek(0)
            if not is_media(copy.file.read(PROBED_BYTES)):
                raise AudioError(f"{name} does not begin as an audio or video file does: {NEXT}")
            copy.file.seek(0, io.SEEK_END)
    if not copy.size:
        raise AudioError(f"{name} is empty (0 bytes), expected sound: {NEXT}")
    copy.flush()
    return copy.file  # type: ignore[return-value]


def _read(file: BinaryIO) -> bytes:
    """Returns the next bytes of a file, which may be non-blocking; none at its end."""
    while (data := file.read(_CHUNK)) is None:  # standard input need not be blocking
        time.sleep(0.01)
    return data


def _cannot_open(name: str, error: OSError | ValueError) -> str:
    """Returns the message about a path that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        if "://" in name:
            return f"there is no file {name}: addresses are not opened, download it and give the file"
        return f"there is no file {name}: check the path, it is looked up from {_folder()}"
    if isinstance(error, IsADirectoryError):
        return f"{name} is a folder, expected one audio or video file: give its files one by one, as in {name}/*.wav"
    if isinstance(error, PermissionError):
        return f"{name} may not be read by this user: change its permissions, or copy it to where you may read it"
    return f"{name} cannot be opened ({getattr(error, 'strerror', None) or error}): check the path"


def _folder() -> str:
    """Returns the current folder, for messages."""
    try:
        return printable(Path.cwd(), 500)
    except OSError:
        return "a folder that is gone"
