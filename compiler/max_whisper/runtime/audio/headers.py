"""Tells by their first bytes files of sound from raw samples, which begin with anything."""

from __future__ import annotations

from typing import NamedTuple

PROBED_BYTES = 4096
"""The first bytes of a file from which its kind can be told: there are three frames of mp3 or AAC in them."""
_MARKS = (
    (0, b"RIFF", "a wav file"),
    (0, b"fLaC", "a flac file"),
    (0, b"OggS", "an ogg file"),
    (0, b"ID3", "an mp3 file"),
    (0, b"\x1aE\xdf\xa3", "a webm or mkv file"),
    (4, b"ftyp", "an mp4 file"),
)
"""Where and how files begin; as samples, these bytes would be loud noise."""
_FRAMES = 3
"""The headers, each where the frame before it ends, that make a file of frames: samples have one by chance."""
_MPEG1_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""By the number of the version in a header: MPEG 1, 2 and 2.5."""
_AAC_RATES = 13


class _Frame(NamedTuple):
    """A frame of sound. kind: what has it. format: what all frames of a file have in common. size: in bytes."""

    kind: str
    format: bytes
    size: int


def kind_of(beginning: bytes) -> str | None:
    """Returns what a file is ("an mp3 file") that begins so; None for all that may be raw samples.

    beginning: the first PROBED_BYTES of the file, or all that there are.
    """
    for at, mark, kind in _MARKS:
        if beginning.startswith(mark, at):
            return kind
    frames: list[_Frame] = []
    at = 0
    while len(frames) < _FRAMES and (frame := _frame(beginning, at)) is not None:
        frames.append(frame)
        at += frame.size
    if len(frames) < _FRAMES or len({frame.format for frame in frames}) > 1:
        return None
    return frames[0].kind


def _frame(data: bytes, at: int) -> _Frame | None:
    """Returns the frame whose header is at a place; None where there is none."""
    header = data[at : at + 7]
    if len(header) < 7 or header[0] != 0xFF:
        return None
    return _aac_frame(header) if header[1] & 0xF6 == 0xF0 else _mp3_frame(header)


def _aac_frame(header: bytes) -> _Frame | None:
    """Reads the header of AAC in ADTS (ISO 13818-7, 6.2)."""
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    if header[2] >> 2 & 15 >= _AAC_RATES or size < len(header):
        return None
    return _Frame("an aac file", header[1:3], size)


def _mp3_frame(header: bytes) -> _Frame | None:
    """Reads the header of MPEG audio of layer III (ISO 11172-3, 2.4.1.3)."""
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if header[1] & 0xE6 != 0xE2 or version not in _MP3_RATES or rate == 3 or bitrate in (0, 15):
        return None
    kbps, per_kbps = (_MPEG1_KBPS, 144_000) if version == 3 else (_MPEG2_KBPS, 72_000)
    padding = header[2] >> 1 & 1
    size = per_kbps * kbps[bitrate - 1] // _MP3_RATES[version][rate] + padding
    return _Frame("an mp3 file", bytes([header[1], rate]), size)
