"""The options of `max-whisper transcribe` that are those of `Model.transcribe` and of the writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from max_whisper.runtime.words import APPENDED, PREPENDED


class OptionalFloat(click.ParamType):  # type: ignore[type-arg]
    """A number, or none."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value is None or str(value).lower() == "none":
            return None
        try:
            return float(value)
        except ValueError:
            self.fail(f"expected a number or none, got '{value}'", param, ctx)


OPTIONAL_FLOAT = OptionalFloat()

DECODING_OPTIONS = [
    click.option("--language", help="Code or English name of what is spoken: en, german, ... [default: auto]"),
    click.option("--task", default="transcribe", show_default=True, help="transcribe, or translate into English."),
    click.option("--without-timestamps", is_flag=True, help="Text alone, window by window."),
    click.option("--max-new-tokens", type=int, help="Most tokens of a window. [default: half of the text context]"),
    click.option("--initial-prompt", metavar="TEXT", help="Seen by the first window as the text before it."),
    click.option("--carry-initial-prompt", is_flag=True, help="Seen by every window."),
    click.option("--hotwords", metavar="TEXT", help="Names and terms, seen by every window before all other text."),
    click.option(
        "--language-detection-segments",
        type=int,
        default=1,
        show_default=True,
        metavar="N",
        help="Windows in which the language is looked for, until one is sure.",
    ),
    click.option(
        "--language-detection-threshold",
        type=float,
        default=0.5,
        show_default=True,
        metavar="SHARE",
        help="A likelier language is sure.",
    ),
    click.option(
        "--condition-on-previous-text/--no-condition-on-previous-text",
        default=True,
        show_default=True,
        help="Whether a window sees the text before it.",
    ),
    click.option("--prefix", metavar="TEXT", help="What the text of each window begins with."),
    click.option(
        "--clip-timestamps", metavar="SECONDS", default="0", help="start,end,start,... of what is transcribed."
    ),
    click.option("--temperature", type=float, default=0.0, show_default=True, help="0 takes the likeliest token."),
    click.option(
        "--temperature-increment-on-fallback",
        type=OPTIONAL_FLOAT,
        default="0.2",
        show_default=True,
        metavar="STEP|none",
        help="What is added, up to 1, when a window's text is repetitive or unlikely.",
    ),
    click.option("--best-of", type=int, default=5, show_default=True, help="Samples where the temperature is not 0."),
    click.option("--beam-size", type=int, help="Texts that a beam search goes on with. [default: no search]"),
    click.option("--patience", type=float, help="Of the beam search. [default: 1]"),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the samples."),
    click.option("--length-penalty", type=float, help="0 to 1: how much the length counts in the choice among texts."),
    click.option(
        "--compression-ratio-threshold",
        type=OPTIONAL_FLOAT,
        default="2.4",
        show_default=True,
        metavar="RATIO|none",
        help="A text that is compressed by more repeats itself.",
    ),
    click.option(
        "--logprob-threshold",
        type=OPTIONAL_FLOAT,
        metavar="LOGPROB|none",
        help="A text of a lower average is unlikely. [default: the model's, which is -1 for openai's]",
    ),
    click.option(
        "--no-speech-threshold",
        type=OPTIONAL_FLOAT,
        default="0.6",
        show_default=True,
        metavar="SHARE|none",
        help="A window of a likelier no-speech and an unlikely text is silence.",
    ),
    click.option("--suppress-tokens", metavar="IDS", default="-1", show_default=True, help="-1: the model's own list."),
    click.option("--max-initial-timestamp", type=float, metavar="SECONDS", help="The latest first start in a window."),
    click.option("--vad-filter", is_flag=True, help="Transcribe only the parts that are loud enough for a voice."),
    click.option(
        "--vad-threshold",
        type=float,
        default=10.0,
        show_default=True,
        metavar="DB",
        help="Above the quietest frames; louder ones may be a voice.",
    ),
    click.option(
        "--vad-min-silence",
        type=float,
        default=2.0,
        show_default=True,
        metavar="SECONDS",
        help="The shortest pause that parts two clips.",
    ),
    click.option(
        "--vad-speech-pad",
        type=float,
        default=0.4,
        show_default=True,
        metavar="SECONDS",
        help="Added to both ends of a clip.",
    ),
    click.option("--word-timestamps", is_flag=True, help="Find out when each word was said; srt and vtt show words."),
    click.option(
        "--prepend-punctuations", metavar="MARKS", default=PREPENDED, help="What belongs to the word after it."
    ),
    click.option(
        "--append-punctuations", metavar="MARKS", default=APPENDED, help="What belongs to the word before it."
    ),
    click.option(
        "--hallucination-silence-threshold",
        type=float,
        metavar="SECONDS",
        help="Pass over text that is hardly speech with more silence than this around it.",
    ),
]

SUBTITLE_OPTIONS = [
    click.option("--highlight-words", is_flag=True, help="Underline each word of srt and vtt while it is said."),
    click.option("--max-line-width", type=int, metavar="N", help="Characters of a line of srt and vtt."),
    click.option("--max-line-count", type=int, metavar="N", help="Lines that are shown at once."),
    click.option("--max-words-per-line", type=int, metavar="N", help="Words that are shown at once."),
]

Command = Callable[..., None]


def with_options(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """A decorator for several options."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
