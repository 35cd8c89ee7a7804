"""The options of subtitles."""

from dataclasses import dataclass
from typing import Annotated

from max_whisper.option_kinds import Flag, Integer
from max_whisper.options import OptionError, Options


@dataclass(frozen=True)
class SubtitleOptions(
    Options, headings={"highlight_words": "Subtitles (srt and vtt; these options need {word_timestamps})"}
):
    """The options of srt and vtt files, which need the times of words."""

    highlight_words: Annotated[bool, Flag("Underline each word while it is said.")] = False
    max_line_width: Annotated[
        int | None,
        Integer(
            "Break lines that would be longer than this number of characters.", low=1, high=10_000, unset="no limit"
        ),
    ] = None
    max_line_count: Annotated[
        int | None,
        Integer(
            "Show at most this number of lines at once, and fill them across segments. Needs {max_line_width}.",
            low=1,
            high=1_000,
            unset="no limit, and each segment begins a new subtitle",
        ),
    ] = None
    max_words_per_line: Annotated[
        int | None,
        Integer(
            "Show at most this number of words at once. Cannot be used with {max_line_width}.",
            low=1,
            high=1_000,
            unset="no limit",
        ),
    ] = None

    def check(self, *, word_timestamps: bool) -> None:
        """Raises OptionError for values that conflict with each other."""
        if self != PLAIN and not word_timestamps:
            raise OptionError("subtitles are cut and highlighted by the times of words: give {word_timestamps} too")
        if self.max_line_count is not None and self.max_line_width is None:
            raise OptionError("{max_line_count}: needs {max_line_width}, as lines are not cut without it")
        if self.max_words_per_line is not None and self.max_line_width is not None:
            raise OptionError("{max_words_per_line}: goes without {max_line_width}; give one of them")


PLAIN = SubtitleOptions()
"""The default options: a subtitle for each segment, and no highlighted words."""
