"""FFmpeg: the bytes of a file -> int16 samples, in whichever process this runs.

Everything that FFmpeg does with foreign bytes happens in `decode`, and whatever it raises becomes one AudioError there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from max_whisper.errors import AudioError, MaxWhisperError
from max_whisper.messages import printable
from max_whisper.runtime.audio.channels import Phases, Planes, alone
from max_whisper.runtime.audio.formats import CODECS, COMMON, COMMON_CODECS, CONTAINERS, HINT
from max_whisper.runtime.audio.tracks import choose_track, which_track
from max_whisper.runtime.audio.waveform import SAMPLE_RATE, check_samples

MIN_SAMPLE_RATE = 1000
"""The lowest sample rate of a file that is believed: one of 1 Hz would fill the memory with interpolation."""
MAX_SAMPLE_RATE = 768_000
"""The highest sample rate that is believed, that of the fastest converters."""
MAX_CHANNELS = 32
"""The most channels that are believed: studios use up to 24."""
MAX_PACKET_BYTES = 64 << 20
"""The largest piece of encoded sound that a container may hold: ten seconds of 32 channels at 48 kHz are 49 MB."""
MAX_FRAME_SAMPLES = 64 << 20
"""The most samples, of all channels, that one packet may become."""
MAX_ALLOCATION = 512 << 20
"""The most bytes that FFmpeg may take at once: some chunks of a header are believed, and a wav of a kilobyte took 2 GB.
The index of a film of 24 hours takes 160 MB."""
STALLED_SECONDS = 60
"""Decoding that gives no sample for so long is given up."""

_NEXT = f"give an audio or video file such as {HINT}"
_FLOATS = ("flt", "fltp", "dbl", "dblp")

# The option -max_alloc of ffmpeg, which PyAV does not have: of the libavutil that PyAV is linked with.
ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(MAX_ALLOCATION))


class Request(NamedTuple):
    """What to decode, of which file."""

    name: str
    """What to call the file in messages."""
    suffix: str = ""
    """How its name ends, with the dot: FFmpeg asks it where the bytes leave a doubt."""
    track: int | None = None
    """The audio track, from 0; None takes the one that ffmpeg does."""
    channel: int | None = None
    """The channel to take alone; None mixes all of them."""


@dataclass
class Outcome:
    """What is to be said of sound that was decoded."""

    warnings: list[str] = field(default_factory=list)
    louder: int | None = None
    """The loudest channel, when the channels cancel each other and the mix should not be used."""


class Uncommon(Exception):
    """A container or a codec that is not decoded in this process."""


def decode(file: BinaryIO, request: Request, write: Callable[[bytes], None], *, common: bool = False) -> Outcome:
    """Decodes one audio track of a file to int16, mono, 16 kHz.

    file: seekable, at its beginning.
    write: is given the samples as they come.
    common: only what `formats.COMMON` lists, and Uncommon for all else.
    Raises AudioError for whatever FFmpeg cannot decode, and what `write` raises.
    """
    source = _Input(file, request.suffix)
    try:
        said: list[str] = []
        with _open(source, request.name, common, said) as container:
            stream = choose_track(container, request.track, request.name)
            _check_codec(container, stream, request.name, common, said)
            decoding = _Decoding(container, stream, request, write)
            if request.track is None:
                decoding.outcome.warnings += which_track(container, stream, request.name)
            outcome = decoding.run()
    except Exception as e:
        if source.error is not None:
            raise AudioError(cannot_read(request.name, source.error)) from source.error
        if isinstance(e, Uncommon | MaxWhisperError):
            raise
        # Of the decoding library: ValueError, AttributeError, MemoryError, UnicodeDecodeError, …
        raise AudioError(f"the sound of {request.name} cannot be decoded ({_reason(e)}): it is damaged; {_NEXT}") from e
    if source.error is not None:
        raise AudioError(cannot_read(request.name, source.error)) from source.error
    return outcome


def is_media(beginning: bytes) -> bool:
    """Whether FFmpeg takes the beginning of a file for any container that it knows. It opens none to answer that."""
    try:
        av.open(_Input(io.BytesIO(beginning), ""), "r", options={"protocol_whitelist": "", "format_whitelist": "none"})
    except av.FFmpegError as e:
        return e.errno == errno.EINVAL  # not on the list
    except Exception:
        return False
    return True


def cannot_read(name: str, error: Exception) -> str:
    """The sentence about a file or a disk that gives an error."""
    return f"{name} cannot be read ({getattr(error, 'strerror', None) or error}): check the file, and the disk it is on"


class _Input:
    """The file as FFmpeg sees it: read and seek, and a name that says nothing but its suffix.

    It ends where it cannot be read; the first error is kept. PyAV would print the second.
    """

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self._file = file
        self.name = f"audio{suffix}"
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
            if not isinstance(data, bytes) or len(data) > size:  # PyAV would copy it beyond its buffer
                raise ValueError(f"asked for {size} bytes, it gave something else")
        except Exception as e:
            self.error = self.error or e
            return b""
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except Exception as e:
            # FFmpeg tries places that there cannot be, as before the beginning, and does without.
            if not isinstance(e, OSError | ValueError):
                self.error = self.error or e
            return -1

    def tell(self) -> int:
        return self._file.tell()


def _open(source: _Input, name: str, common: bool, said: list[str]) -> InputContainer:
    """said: is given what FFmpeg says in its log, where it names what it does not know."""
    options = {
        # A playlist or a concatenation must not make us read other files, or the network.
        "protocol_whitelist": "",
        "format_whitelist": ",".join(COMMON if common else CONTAINERS),
        "codec_whitelist": ",".join(COMMON_CODECS if common else CODECS),
    }
    try:
        with contextlib.nullcontext() if common else _listening(said):
            return av.open(source, "r", metadata_errors="replace", options=options)
    except av.FFmpegError as e:
        if common and e.errno == errno.EINVAL:  # not on the list, or a header with values that cannot be
            raise Uncommon from e
        kind = next((line.split(":")[0] for line in said if "Format not on whitelist" in line), None)
        if kind is None:
            raise _unreadable(name, e) from e
        raise AudioError(f"{name} is in the container '{kind}', which is not read here: convert it to {HINT}") from e


@contextlib.contextmanager
def _listening(said: list[str]) -> Iterator[None]:
    """Collects what FFmpeg says in its log, as `part: words`. For the child process: PyAV's log is for all threads."""
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as lines:
            try:
                yield
            finally:
                said += [printable(f"{name}: {words}", 300) for _, name, words in lines]
    finally:
        av.logging.set_level(None)


def _unreadable(name: str, error: Exception) -> AudioError:
    return AudioError(
        f"{name} is not an audio or video file that can be read ({_reason(error)}): it may be damaged, cut off, or "
        f"of another kind than its name says; {_NEXT}"
    )


def _check_codec(container: InputContainer, stream: AudioStream, name: str, common: bool, said: list[str]) -> None:
    """Refuses what FFmpeg may not decode, before it does."""
    context = stream.codec_context
    if context is None:
        if common:
            raise Uncommon
        pattern = re.compile(rf"stream {stream.index} \(Audio: none \((.{{1,40}}?)\)")
        found = next(filter(None, map(pattern.search, said)), None)
        raise AudioError(
            f"the sound of {name} cannot be decoded here: its codec, {found[1] if found else 'without a name'}, is not "
            f"known, or its header is damaged: convert it to {HINT}"
        )
    if common and context.name not in COMMON.get(container.format.name, ()):
        raise Uncommon
    if context.name not in CODECS:
        raise AudioError(
            f"the sound of {name} is in the codec '{context.name}', which is not read here: convert it to {HINT}"
        )
    _check_claims(name, context.sample_rate, context.layout.nb_channels)


def _check_claims(name: str, rate: int, channels: int) -> None:
    """Refuses rates and channels that no recording has. 0 is not known yet."""
    if rate and not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"{name} claims {rate} samples a second, which cannot be, expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}: "
            "its header is damaged; make it anew"
        )
    if channels > MAX_CHANNELS:
        raise AudioError(
            f"{name} claims {channels} channels, expected at most {MAX_CHANNELS}: its header is damaged, or it must be "
            "mixed down first"
        )


class _Decoding:
    """One pass over one track."""

    def __init__(
        self, container: InputContainer, stream: AudioStream, request: Request, write: Callable[[bytes], None]
    ) -> None:
        self.outcome = Outcome()
        self._container = container
        self._stream = stream
        self._name = request.name
        self._channel = request.channel
        self._write = write
        self._written = 0
        self._parts_lost = 0
        self._error = ""
        self._planes = Planes()
        self._phases = Phases()

    def run(self) -> Outcome:
        lossless = self._stream.codec_context.codec.lossless
        resampler: av.AudioResampler | None = None
        source_format = ""
        mixed = np.ones(0, bool)
        try:
            for frame in self._frames():
                # What a lossy decoder makes of damaged data may be anything, and is clipped as ffmpeg does.
                if lossless and frame.format.name in _FLOATS:
                    check_samples(self._planes.of(frame), self._name, f" after {self._seconds:.2f} s")
                channels = frame.layout.nb_channels
                frame_format = f"{frame.format.name}, {frame.layout.name}, {frame.sample_rate} Hz"
                # The frames of one stream may change format midway; a resampler is made for one.
                if frame_format != source_format:
                    _check_claims(self._name, frame.sample_rate, channels)
                    if resampler:
                        self._append(resampler.resample(None))
                    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
                    source_format = frame_format
                    # ffmpeg leaves the channel of low frequencies out of the mix.
                    mixed = np.array([channel.name != "LFE" for channel in frame.layout.channels])
                if channels > 1:
                    if self._channel is not None:
                        frame = alone(frame, self._planes.of(frame), self._channel)
                    elif self._phases.wants_more:
                        self._phases.hear(self._planes.of(frame), frame.sample_rate, mixed)
                assert resampler
                self._append(resampler.resample(frame))
            if resampler:
                self._append(resampler.resample(None))
        except av.FFmpegError as e:
            raise AudioError(
                f"the sound of {self._name} ({source_format}) cannot be converted to {SAMPLE_RATE} Hz mono "
                f"({_reason(e)}): convert it to a common wav first"
            ) from e
        self._judge()
        return self.outcome

    def _frames(self) -> Iterator[AudioFrame]:
        """Every frame that can be decoded, as ffmpeg goes on after an error; what was lost is counted."""
        packets = self._container.demux(self._stream)
        silent = _Silent(self._stream.codec_context.name)
        stalled: float | None = None  # since when
        while True:
            frames: list[Any] = []
            packet = error = None
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.size > MAX_PACKET_BYTES:
                    raise self._too_much(f"a piece of {packet.size} bytes", f"{MAX_PACKET_BYTES}")
                frames = packet.decode()
            except av.FFmpegError as e:
                error = e
            without_sound = packet is not None and not frames and silent.is_without_sound(packet)
            if error and not without_sound:
                self._parts_lost += 1
                self._error = _reason(error)
            for frame in frames:
                assert isinstance(frame, AudioFrame)
                if frame.samples * frame.layout.nb_channels > MAX_FRAME_SAMPLES:
                    raise self._too_much(f"a frame of {frame.samples} samples", f"{MAX_FRAME_SAMPLES} of all channels")
                yield frame
            if frames:
                stalled = None
            elif stalled is None:
                stalled = time.monotonic()
            elif time.monotonic() - stalled > STALLED_SECONDS:
                raise AudioError(
                    f"{self._name} gave no sound for {STALLED_SECONDS} s, after {self._seconds:.1f} s of sound: it is "
                    f"damaged; {_NEXT}"
                )

    def _too_much(self, what: str, bound: str) -> AudioError:
        return AudioError(
            f"{self._name} holds {what}, expected at most {bound}: it is damaged, or must be converted to {HINT}"
        )

    def _append(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            # A resampler with nothing to do gives back what it is given, even the None that flushes it.
            if frame is not None:
                samples = frame.to_ndarray()[0]
                self._phases.mixed(samples)
                self._write(samples.tobytes())
                self._written += samples.size

    @property
    def _seconds(self) -> float:
        return self._written / SAMPLE_RATE

    def _judge(self) -> None:
        """Says what became of the whole."""
        name = self._name
        if not self._written:
            if self._error:
                raise AudioError(
                    f"the sound of {name} cannot be decoded, no part of it ({self._error}): it is damaged or cut off; "
                    f"{_NEXT}"
                )
            raise AudioError(f"the sound of {name} has zero length, expected at least one sample: {_NEXT}")
        warnings = self.outcome.warnings
        if self._error:
            warnings.append(
                f"{name} is damaged or cut off: {self._parts_lost} parts cannot be decoded ({self._error}) and were "
                f"left out; {self._seconds:.1f} s of sound were read"
            )
        self._phases.end()
        heard, cancelled = self._phases.heard, self._phases.cancelled
        if cancelled > heard / 2:
            self.outcome.louder = self._phases.loudest
            warnings.append(
                f"the channels of {name} cancel each other (opposite phase), their mix has next to no sound: channel "
                f"{self.outcome.louder}, counted from 0, was taken alone"
            )
        elif cancelled:
            warnings.append(
                f"the channels of {name} cancel each other (opposite phase) in {cancelled} of {heard} s: what is said "
                "there may be missing; give a file with one of its channels alone"
            )


class _Silent:
    """Knows the packets that hold no sound, although the decoder may call them errors.

    It is shown each packet that gave no frame.
    """

    def __init__(self, codec: str) -> None:
        # Frame types of AMR that describe a pause: comfort noise, and nothing to send (3GPP TS 26.101 and 26.201).
        self._pauses = {"amrnb": (8, 15), "amrwb": (9, 15)}.get(codec, ())
        self._mpeg = codec in ("mp1float", "mp2float", "mp3float", "aac")
        self._tags_end = 0

    def is_without_sound(self, packet: Packet[Any]) -> bool:
        data = bytes(packet) if packet.size else b""
        if self._pauses:
            return bool(data) and data[0] >> 3 & 15 in self._pauses
        if not self._mpeg:
            return False
        # Tags stand between files that were joined to one. The parser cuts a long one, and finds frames in its picture.
        position = packet.pos or 0
        if position >= self._tags_end:
            self._tags_end = position + _length_of_tags(data)
        return position < self._tags_end


def _length_of_tags(data: bytes) -> int:
    """The length of the tags that `data` begins with, which may be longer than it."""
    end = 0
    while True:
        if data.startswith(b"TAG", end):  # ID3v1
            end += 128
        elif data.startswith(b"ID3", end) and len(data) >= end + 10:
            end += 10 + sum((byte & 127) << 7 * (3 - place) for place, byte in enumerate(data[end + 6 : end + 10]))
        elif data.startswith(b"APETAGEX", end) and len(data) >= end + 16:
            end += 32 + int.from_bytes(data[end + 12 : end + 16], "little")
        else:
            return end


def _reason(error: Exception) -> str:
    """What a library says, without the path that FFmpeg adds to it."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(str(words).strip().lower(), 200)
