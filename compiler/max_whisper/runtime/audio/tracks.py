"""Chooses the audio track of a file that is decoded, and names the tracks in messages."""

from __future__ import annotations

from av.audio.stream import AudioStream
from av.container import InputContainer

from max_whisper.errors import AudioError
from max_whisper.messages import printable


def choose_track(container: InputContainer, number: int | None, name: str) -> AudioStream:
    """Returns the audio track with a number, from 0; or, for None, the one that ffmpeg takes.

    That is the track marked as default, then the one with the most channels, then the first, among those that can be
    decoded. Raises AudioError where there is no such track.
    """
    tracks = container.streams.audio
    if not tracks:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise AudioError(f"{name} has no sound (it holds {kinds}): give one that has an audio track")
    if number is None:
        decodable = [track for track in tracks if _channels(track)] or tracks
        return max(decodable, key=lambda track: (_is_default(track), _channels(track)))
    if not 0 <= number < len(tracks):
        raise AudioError(
            f"{name} has no audio track {number}, expected one of {_listed(tracks)}: tracks are counted from 0"
        )
    return tracks[number]


def _is_default(track: AudioStream) -> bool:
    """Returns whether the file marks a track as the default one."""
    disposition = getattr(track, "disposition", 0)  # PyAV 14.0 does not say
    return bool(getattr(disposition, "value", disposition) & 1)  # AV_DISPOSITION_DEFAULT


def _channels(track: AudioStream) -> int:
    return track.codec_context.layout.nb_channels if track.codec_context is not None else 0


def _listed(tracks: tuple[AudioStream, ...]) -> str:
    """Returns the numbers and descriptions of the first 20 tracks."""
    return ", ".join(f"{i} ({_described(track)})" for i, track in enumerate(tracks[:20]))


def _described(track: AudioStream) -> str:
    """Returns language, title, codec and channels of a track, as far as they are known."""
    codec = track.codec_context.name if track.codec_context is not None else "unknown codec"
    title, channels = track.metadata.get("title"), _channels(track)
    words = [track.language, f"'{title}'" if title else None, codec, f"{channels} channel{'s' * (channels != 1)}"]
    return ", ".join(printable(word, 60) for word in words if word)


def track_warning(container: InputContainer, stream: AudioStream, name: str) -> list[str]:
    """Returns the warning that one of several tracks was chosen; none where there is only one."""
    tracks = container.streams.audio
    if len(tracks) == 1:
        return []
    return [
        f"{name} has {len(tracks)} audio tracks: {_listed(tracks)}; track {tracks.index(stream)} was taken, "
        "name another with --audio-track (in Python: track=)"
    ]
