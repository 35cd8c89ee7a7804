"""The types of options that only `max-whisper batch` has."""

from __future__ import annotations

from max_whisper.cli.options import FormatType


class SubtitleType(FormatType):
    """The name of a format of files beside the rows; which there are is looked up when it is needed."""

    def _names(self) -> list[str]:
        from max_whisper.batch.subtitles import subtitle_formats

        return subtitle_formats()
