"""Makes sounds, and files of many kinds that hold them."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


def sweep(seconds: float = 2.0, rate: int = 16000) -> Samples:
    """Returns a tone from 100 to 3000 Hz that gets louder and softer four times a second: float32 [samples]."""
    t = np.arange(round(seconds * rate)) / rate
    loudness = 0.5 * (1 - np.cos(2 * np.pi * 4 * t))
    return (0.5 * loudness * np.sin(2 * np.pi * (100 + (3000 - 100) / (2 * seconds) * t) * t)).astype(np.float32)


def noise(seconds: float = 2.0, rate: int = 16000, seed: int = 0) -> Samples:
    """Returns white noise: float32 [samples]."""
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * rate)).astype(np.float32)


def silence(seconds: float = 2.0, rate: int = 16000) -> Samples:
    """Returns zeros: float32 [samples]."""
    return np.zeros(round(seconds * rate), np.float32)


def int16(samples: Samples) -> npt.NDArray[np.int16]:
    """Returns samples of full scale 1.0 as int16."""
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def write_wav(path: Path, samples: Samples, rate: int = 16000) -> Path:
    """Writes a 16-bit WAV file of samples, [samples] or [samples, channels]; returns its path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(int16(samples).tobytes())
    return path


def encode(
    path: Path, samples: Samples | None, rate: int = 44100, codec: str = "", layout: str = "mono", video: str = ""
) -> Path:
    """Writes a file in the container of its suffix, with samples in every channel (none: no sound), and a black video.

    `codec` and `video` are names of FFmpeg encoders that come with PyAV.
    """
    with av.open(path, "w") as container:
        options = {"strict": "experimental"}  # for what FFmpeg has no other encoder
        audio_stream = (
            container.add_stream(codec, rate=rate, layout=layout, options=options) if samples is not None else None
        )
        video_stream = container.add_stream(video, rate=10) if video else None
        if video_stream is not None:
            video_stream.width = video_stream.height = 64
            video_stream.pix_fmt = "yuv420p"
            for i in range(10):
                picture = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
                picture.pts = i
                container.mux(video_stream.encode(picture))
            container.mux(video_stream.encode(None))
        if audio_stream is not None and samples is not None:
            channels = len(audio_stream.layout.channels)
            packed = np.repeat(samples, channels)[np.newaxis]
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
            frame.sample_rate = rate
            if samples.size:
                container.mux(audio_stream.encode(frame))
            rest = audio_stream.encode(None)
            if path.suffix in (".mkv", ".ogg"):  # their muxers refuse the empty packet at the end of FLAC
                rest = [packet for packet in rest if packet.size]
            container.mux(rest)
    return path


def write_tracks(path: Path, tracks: list[tuple[str | float, ...]], default: int | None = 0) -> Path:
    """Writes a file with several audio tracks (AAC, 44.1 kHz, 1 s), each (language, title, amplitude[, layout])."""
    with av.open(path, "w") as container:
        streams = []
        for number, (language, title, _, *layout) in enumerate(tracks):
            stream = container.add_stream("aac", rate=44100, layout=layout[0] if layout else "mono")
            stream.metadata.update(language=language, title=title)
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            streams.append(stream)
        for stream, (_, _, amplitude, *_) in zip(streams, tracks, strict=True):
            samples = (amplitude * np.sin(np.arange(44100) / 10)).astype(np.float32)
            planes = np.tile(samples, (len(stream.layout.channels), 1))
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=stream.layout)
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def without_tag(content: bytes) -> bytes:
    """Returns an mp3 file without its ID3 tag, as broadcasts are; any other content as it is."""
    if not content.startswith(b"ID3"):
        return content
    size = sum(byte << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    return content[10 + size :]
