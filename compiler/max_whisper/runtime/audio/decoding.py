"""Decodes the bytes of a file to int16 samples with FFmpeg, in whichever process this runs.

FFmpeg touches the bytes of strangers in `decode` alone, which raises AudioError for whatever goes wrong there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from max_whisper.errors import AudioError, MaxWhisperError
from max_whisper.runtime.audio.channels import ChannelReader, PhaseMeter, single_channel
from max_whisper.runtime.audio.container import (
    NEXT,
    FFmpegInput,
    Uncommon,
    cannot_read,
    check_claims,
    check_codec,
    open_container,
    reason,
)
from max_whisper.runtime.audio.formats import HINT
from max_whisper.runtime.audio.packets import SilentPackets
from max_whisper.runtime.audio.tracks import choose_track, track_warning
from max_whisper.runtime.audio.waveform import SAMPLE_RATE, check_samples

MAX_PACKET_BYTES = 64 << 20
"""The largest piece of encoded sound that a container may hold: ten seconds of 32 channels at 48 kHz are 49 MB."""
MAX_FRAME_SAMPLES = 64 << 20
"""The most samples, of all channels together, that one packet may become."""
STALLED_SECONDS = 60
"""The seconds without a sample after which decoding is given up."""

_FLOATS = ("flt", "fltp", "dbl", "dblp")


class Request(NamedTuple):
    """The sound that is to be decoded, and the file that has it.

    Attributes:
        name: What to call the file in messages.
        suffix: The ending of its name, with the dot, which FFmpeg uses where the bytes leave a doubt.
        track: The audio track, from 0; None takes the one that ffmpeg takes.
        channel: The only channel to take; None mixes all of them.
    """

    name: str
    suffix: str = ""
    track: int | None = None
    channel: int | None = None


@dataclass
class Outcome:
    """The result of decoding a file, besides its samples.

    Attributes:
        warnings: What the user should know about the sound.
        loudest_channel: The channel to take alone instead of the mix, in which the channels cancel each other; None
            where the mix is good.
    """

    warnings: list[str] = field(default_factory=list)
    loudest_channel: int | None = None


def decode(file: BinaryIO, request: Request, write: Callable[[bytes], None], *, common: bool = False) -> Outcome:
    """Decodes one audio track of a file to int16, mono, 16 kHz.

    Args:
        file: A seekable file, at its beginning.
        request: What to decode of it.
        write: Called with the samples as they come.
        common: Whether only what `formats.COMMON` lists is decoded.

    Raises:
        Uncommon: Only common formats are decoded, and it is none.
        AudioError: FFmpeg cannot decode it.
        Exception: What `write` raises.
    """
    source = FFmpegInput(file, request.suffix)
    try:
        log: list[str] = []
        with open_container(source, request.name, common, log) as container:
            stream = choose_track(container, request.track, request.name)
            check_codec(container, stream, request.name, common, log)
            decoding = _Decoding(container, stream, request, write)
            if request.track is None:
                decoding.outcome.warnings += track_warning(container, stream, request.name)
            outcome = decoding.run()
    except Exception as e:
        if source.error is not None:
            raise AudioError(cannot_read(request.name, source.error)) from source.error
        if isinstance(e, Uncommon | MaxWhisperError):
            raise
        # Of the decoding library: ValueError, AttributeError, MemoryError, UnicodeDecodeError, …
        raise AudioError(f"the sound of {request.name} cannot be decoded ({reason(e)}): it is damaged; {NEXT}") from e
    if source.error is not None:
        raise AudioError(cannot_read(request.name, source.error)) from source.error
    return outcome


class _Decoding:
    """Decodes one track of an open file, once."""

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
        self._channels = ChannelReader()
        self._phases = PhaseMeter()

    def run(self) -> Outcome:
        """Decodes the track to its end."""
        lossless = self._stream.codec_context.codec.lossless
        resampler: av.AudioResampler | None = None
        source_format = ""
        mixed = np.ones(0, bool)
        try:
            for frame in self._frames():
                # A lossy decoder may make anything of damaged data, which is clipped as ffmpeg does.
                if lossless and frame.format.name in _FLOATS:
                    check_samples(self._channels.of(frame), self._name, f" after {self._seconds:.2f} s")
                channels = frame.layout.nb_channels
                frame_format = f"{frame.format.name}, {frame.layout.name}, {frame.sample_rate} Hz"
                # The frames of one stream may change format midway; a resampler is made for one.
                if frame_format != source_format:
                    check_claims(self._name, frame.sample_rate, channels)
                    if resampler:
                        self._append(resampler.resample(None))
                    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
                    source_format = frame_format
                    # ffmpeg leaves the channel for low frequencies out of the mix.
                    mixed = np.array([channel.name != "LFE" for channel in frame.layout.channels])
                if channels > 1:
                    if self._channel is not None:
                        frame = single_channel(frame, self._channels.of(frame), self._channel)
                    elif self._phases.wants_frame:
                        self._phases.add_frame(self._channels.of(frame), frame.sample_rate, mixed)
                assert resampler
                self._append(resampler.resample(frame))
            if resampler:
                self._append(resampler.resample(None))
        except av.FFmpegError as e:
            raise AudioError(
                f"the sound of {self._name} ({source_format}) cannot be converted to {SAMPLE_RATE} Hz mono "
                f"({reason(e)}): convert it to a common wav first"
            ) from e
        self._conclude()
        return self.outcome

    def _frames(self) -> Iterator[AudioFrame]:
        """Yields every frame that can be decoded, as ffmpeg goes on after an error; counts what is lost."""
        packets = self._container.demux(self._stream)
        silent_packets = SilentPackets(self._stream.codec_context.name)
        stalled_since: float | None = None
        while True:
            frames: list[Any] = []
            packet = error = None
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.size > MAX_PACKET_BYTES:
                    raise self._too_large(f"a piece of {packet.size} bytes", f"{MAX_PACKET_BYTES}")
                frames = packet.decode()
            except av.FFmpegError as e:
                error = e
            without_sound = packet is not None and not frames and silent_packets.is_without_sound(packet)
            if error and not without_sound:
                self._parts_lost += 1
                self._error = reason(error)
            for frame in frames:
                assert isinstance(frame, AudioFrame)
                if frame.samples * frame.layout.nb_channels > MAX_FRAME_SAMPLES:
                    raise self._too_large(f"a frame of {frame.samples} samples", f"{MAX_FRAME_SAMPLES} of all channels")
                yield frame
            if frames:
                stalled_since = None
            elif stalled_since is None:
                stalled_since = time.monotonic()
            elif time.monotonic() - stalled_since > STALLED_SECONDS:
                raise AudioError(
                    f"{self._name} gave no sound for {STALLED_SECONDS} s, after {self._seconds:.1f} s of sound: it is "
                    f"damaged; {NEXT}"
                )

    def _too_large(self, what: str, bound: str) -> AudioError:
        return AudioError(
            f"{self._name} holds {what}, expected at most {bound}: it is damaged, or must be converted to {HINT}"
        )

    def _append(self, frames: list[AudioFrame]) -> None:
        """Writes the samples of resampled frames."""
        for frame in frames:
            # A resampler with nothing to do gives back what it is given, even the None that flushes it.
            if frame is not None:
                # What frame.to_ndarray gives costs a tenth of the time of reading an MP3 file.
                samples = np.frombuffer(memoryview(frame.planes[0]), np.int16, frame.samples)
                self._phases.add_mix(samples)
                self._write(samples.tobytes())
                self._written += samples.size

    @property
    def _seconds(self) -> float:
        """The seconds of sound that were written."""
        return self._written / SAMPLE_RATE

    def _conclude(self) -> None:
        """Adds the warnings about the whole track. Raises AudioError where there is no sound."""
        name = self._name
        if not self._written:
            if self._error:
                raise AudioError(
                    f"the sound of {name} cannot be decoded, no part of it ({self._error}): it is damaged or cut off; "
                    f"{NEXT}"
                )
            raise AudioError(f"the sound of {name} has zero length, expected at least one sample: {NEXT}")
        warnings = self.outcome.warnings
        if self._error:
            warnings.append(
                f"{name} is damaged or cut off: {self._parts_lost} parts cannot be decoded ({self._error}) and were "
                f"left out; {self._seconds:.1f} s of sound were read"
            )
        self._phases.end()
        audible, cancelled = self._phases.audible, self._phases.cancelled
        if cancelled > audible / 2:
            self.outcome.loudest_channel = self._phases.loudest
            warnings.append(
                f"the channels of {name} cancel each other (opposite phase), their mix has next to no sound: channel "
                f"{self.outcome.loudest_channel}, counted from 0, was taken alone"
            )
        elif cancelled:
            warnings.append(
                f"the channels of {name} cancel each other (opposite phase) in {cancelled} of {audible} s: what is "
                "said there may be missing; give a file with one of its channels alone"
            )
