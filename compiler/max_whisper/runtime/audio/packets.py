"""Packets of encoded sound that hold no sound, although a decoder may call them errors."""

from __future__ import annotations

from typing import Any

from av.packet import Packet


class SilentPackets:
    """Recognizes packets that describe a pause or a tag. It must be called for every packet that gave no frame."""

    def __init__(self, codec: str) -> None:
        """Takes FFmpeg's name of the codec."""
        # Frame types of AMR that describe a pause: comfort noise, and nothing to send (3GPP TS 26.101 and 26.201).
        self._pauses = {"amrnb": (8, 15), "amrwb": (9, 15)}.get(codec, ())
        self._is_mpeg = codec in ("mp1float", "mp2float", "mp3float", "aac")
        self._tags_end = 0

    def is_without_sound(self, packet: Packet[Any]) -> bool:
        """Returns whether a packet that gave no frame was not meant to give one."""
        data = bytes(packet) if packet.size else b""
        if self._pauses:
            return bool(data) and data[0] >> 3 & 15 in self._pauses
        if not self._is_mpeg:
            return False
        # Tags are found between files that were joined. FFmpeg's parser cuts a long tag into packets.
        position = packet.pos or 0
        if position >= self._tags_end:
            self._tags_end = position + _length_of_tags(data)
        return position < self._tags_end


def _length_of_tags(data: bytes) -> int:
    """Returns the length of the tags that `data` begins with, which may be longer than it."""
    end = 0
    while True:
        if data.startswith(b"TAG", end):  # ID3v1
            end += 128
        elif data.startswith(b"ID3", end) and len(data) >= end + 10:
            end += 10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(data[end + 6 : end + 10]))
        elif data.startswith(b"APETAGEX", end) and len(data) >= end + 16:
            end += 32 + int.from_bytes(data[end + 12 : end + 16], "little")
        else:
            return end
