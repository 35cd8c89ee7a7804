"""Which audio track of a file is decoded, and what the tracks are called in messages."""

from __future__ import annotations

from av.audio.stream import AudioStream
from av.container import InputContainer

from max_whisper.errors import AudioError
from max_whisper.messages import printable


def choose_track(container: InputContainer, number: int | None, name: str) -> AudioStream:
    """Returns the track of a number, counted from 0; or of those that can be decoded the one that ffmpeg takes.

    That is the one marked as default, then the one with the most channels, then the first.
    """
    tracks = container.streams.audio
    if not tracks:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise AudioError(f"{name} has no sound (it holds {kinds}): give one that has an audio track")
    if number is None:
        known = [track for track in tracks if _channels(track)] or tracks
        return max(known, key=lambda track: (_is_default(track), _channels(track)))
    if not 0 <= number < len(tracks):
        raise AudioError(
            f"{name} has no audio track {number}, expected one of {_listed(tracks)}: tracks are counted from 0"
        )
    return tracks[number]


def _is_default(track: AudioStream) -> bool:
    disposition = getattr(track, "disposition", 0)  # PyAV 14.0 does not say
    return bool(getattr(disposition, "value", disposition) & 1)  # AV_DISPOSITION_DEFAULT


def _channels(track: AudioStream) -> int:
    return track.codec_context.layout.nb_channels if track.codec_context is not None else 0


def _listed(tracks: tuple[AudioStream, ...]) -> str:
    return ", ".join(f"{place} ({_described(track)})" for place, track in enumerate(tracks[:20]))


def _described(track: AudioStream) -> str:
    codec = track.codec_context.name if track.codec_context is not None else "unknown codec"
    title, channels = track.metadata.get("title"), _channels(track)
    words = [track.language, f"'{title}'" if title else None, codec, f"{channels} channel{'s' * (channels != 1)}"]
    return ", ".join(printable(word, 60) for word in words if word)


def which_track(container: InputContainer, stream: AudioStream, name: str) -> list[str]:
    """The warning that a track was chosen of several."""
    tracks = container.streams.audio
    if len(tracks) == 1:
        return []
    return [
        f"{name} has {len(tracks)} audio tracks: {_listed(tracks)}; track {tracks.index(stream)} was taken, "
        "name another with --audio-track (in Python: track=)"
    ]
