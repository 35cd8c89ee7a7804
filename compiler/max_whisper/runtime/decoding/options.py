"""The options of the decoding of one window.

Names and defaults are those of openai/whisper where it has the option, else those of faster-whisper. Each field says
what it takes (max_whisper/options.py), from which the checks and the command line's options come.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from max_whisper.option_kinds import Choice, Flag, Ids, Integer, Number, Text, TextOrIds
from max_whisper.options import OptionError, Options
from max_whisper.runtime.decoding.languages import TASKS, asked_language

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import WhisperManifest
    from max_whisper.runtime.decoding.tokenizer import Tokenizer

MAX_TEMPERATURE = 10
"""Samples of a higher temperature are noise."""
MAX_CANDIDATES = 100
"""Samples or beams of one window; each beam has keys and values of its own."""


@dataclass(frozen=True)
class DecodingOptions(
    Options,
    headings={
        "task": "Language",
        "temperature": "Search for the most probable text",
        "prompt": "Text that the model reads before a window",
        "suppress_tokens": "Rules for tokens",
        "without_timestamps": "Timestamps",
        "seed": "Search for the most probable text",
    },
):
    """The options of the decoding of one window."""

    task: Annotated[
        str, Choice("Write what is said in its own language (transcribe), or in English (translate).", words=TASKS)
    ] = "transcribe"
    language: Annotated[
        str | None,
        Text(
            "Language that is spoken: a code, a locale or a name, such as de, de-AT, german or Deutsch; auto "
            "detects it.",
            unit="LANGUAGE",
            unset="detected, or en for an English-only model",
        ),
    ] = None
    temperature: Annotated[
        float,
        Number(
            "How random the choice of each token is: 0 always takes the most probable one, higher values take "
            "improbable ones more often.",
            low=0,
            high=MAX_TEMPERATURE,
            unit="T",
        ),
    ] = 0.0
    max_new_tokens: Annotated[
        int | None,
        Integer(
            "End the text of a window after this number of tokens (openai/whisper calls this sample_len).",
            low=1,
            high=100_000,
            unset="half of the model's text context, which is 224 for Whisper",
        ),
    ] = None
    best_of: Annotated[
        int | None,
        Integer(
            "Sample this number of texts where the temperature is above 0, and keep the most probable one. More "
            "take longer.",
            low=1,
            high=MAX_CANDIDATES,
            unset="1",
        ),
    ] = None
    beam_size: Annotated[
        int | None,
        Integer(
            "Follow this number of texts at once where the temperature is 0, and keep the most probable one "
            "(beam search). More find better texts, and take longer. Needs a model that was built with a batch "
            "of 1.",
            low=1,
            high=MAX_CANDIDATES,
            unset="no beam search: the most probable token is taken each time",
        ),
    ] = None
    patience: Annotated[
        float | None,
        Number(
            "End a beam search when it has {beam_size} times this number of finished texts. Values above 1 "
            "search longer. Needs {beam_size}.",
            low=0.01,
            high=100,
            unit="FACTOR",
            unset="1",
        ),
    ] = None
    length_penalty: Annotated[
        float | None,
        Number(
            "To compare samples or beams, divide their log-probabilities by ((5 + tokens) / 6) to this power. "
            "Higher values prefer longer texts.",
            low=0,
            high=1,
            unit="EXPONENT",
            unset="divide by the number of tokens",
        ),
    ] = None
    prompt: Annotated[
        str | Sequence[int] | None,
        TextOrIds(
            "Text, or its token ids, that the model reads as what was said before this window; names and "
            "style are taken from it.",
            unset="no text",
        ),
    ] = None
    prefix: Annotated[
        str | Sequence[int] | None,
        TextOrIds(
            "Text with which the text of each window begins; in Python, token ids too.", unit="TEXT", unset="no text"
        ),
    ] = None
    draft: Annotated[
        str | Sequence[int] | None,
        TextOrIds(
            "Text that is likely, such as an earlier one of the same sound, for all windows together; in Python, token "
            "ids too. It changes nothing but the time: its tokens are verified several at once where {temperature} is "
            "0. Not with {beam_size}, {no_repeat_ngram_size} or {repetition_penalty}. Needs a model for a CPU that was "
            "built with a batch of 1 and our kernels.",
            unset="no draft",
            longest=10_000_000,
        ),
    ] = None
    suppress_tokens: Annotated[
        str | Sequence[int] | None,
        Ids(
            "Tokens that are never chosen, as ids with commas between them. -1 stands for the model's own list, "
            "mostly symbols that nobody says. An empty list allows every token.",
            unit="IDS",
            unset="every token is allowed",
        ),
    ] = "-1"
    suppress_blank: Annotated[bool, Flag("Do not let the text of a window begin with a space, or be empty.")] = True
    no_repeat_ngram_size: Annotated[
        int,
        Integer(
            "Do not write any sequence of this many tokens twice in the text of a window; 0 allows it.",
            low=0,
            high=1000,
        ),
    ] = 0
    repetition_penalty: Annotated[
        float,
        Number(
            "How much less probable a token becomes once the text of the window has it: 1 leaves it as it is, higher "
            "values avoid repetition.",
            low=0.01,
            high=100,
            unit="FACTOR",
        ),
    ] = 1.0
    without_timestamps: Annotated[bool, Flag("Do not find times inside a window: each window becomes one segment.")] = (
        False
    )
    max_initial_timestamp: Annotated[
        float | None,
        Number(
            "Let the first segment of a window begin at most this long after the window does.",
            low=0,
            high=30,
            unit="SECONDS",
            unset="the model's own value, which is 1 for OpenAI's models",
        ),
    ] = None
    seed: Annotated[
        int,
        Integer(
            "Start of the random numbers for temperatures above 0: the same seed gives the same text.",
            low=0,
            high=2**63 - 1,
        ),
    ] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language is not None:
            object.__setattr__(self, "language", asked_language(self.language))

    def at(self, temperature: float) -> "DecodingOptions":
        """Returns these options for one of several temperatures: at 0 no samples, above it no beams and no draft."""
        if temperature == 0:
            return replace(self, temperature=temperature, best_of=None)
        return replace(self, temperature=temperature, beam_size=None, patience=None, draft=None)

    @property
    def finished_beams(self) -> int:
        """The number of finished texts with which a beam search ends (openai/whisper's max_candidates)."""
        return round((self.beam_size or 1) * (self.patience or 1.0))

    def limit(self, manifest: "WhisperManifest") -> int:
        """Returns the largest number of tokens that the text of a window may have."""
        return manifest.dims["n_text_ctx"] // 2 if self.max_new_tokens is None else self.max_new_tokens

    def prompt_tokens(
        self, language: str | None, manifest: "WhisperManifest", tokenizer: "Tokenizer"
    ) -> tuple[list[int], int]:
        """Returns the tokens that the decoder reads first, and the index of start-of-transcript among them.

        They are the end of the previous text, which fills at most half of the text context; start-of-transcript with
        language and task; and the prefix. Raises UserError where they do not fit into the text context, and for ids
        that the vocabulary does not have: MAX would read out of bounds.
        """
        n_text_ctx = manifest.dims["n_text_ctx"]
        half = n_text_ctx // 2
        tokens = tokenizer.prompt(language, self.task, self.without_timestamps)
        tokens += self.prefix_tokens(manifest, tokenizer)
        previous = [] if self.prompt is None else _tokens(self.prompt, tokenizer)[-(half - 1) :]
        if self.prompt is not None:
            previous = [manifest.tokens.startofprev, *previous]
        ids, n_vocab = [*previous, *tokens], manifest.dims["n_vocab"]
        if len(ids) > n_text_ctx:
            raise OptionError(
                "{prefix}: expected a prompt of at most {most} tokens with it, got {got}", most=n_text_ctx, got=len(ids)
            )
        if not all(0 <= i < n_vocab for i in ids):
            raise OptionError(
                "{prompt} and {prefix}: expected token ids below {end}, got {got}", end=n_vocab, got=max(ids)
            )
        return ids, len(previous)

    def draft_tokens(self, tokenizer: "Tokenizer") -> list[int]:
        """Returns the tokens of the draft."""
        return [] if self.draft is None else _tokens(self.draft, tokenizer)

    def prefix_tokens(self, manifest: "WhisperManifest", tokenizer: "Tokenizer") -> list[int]:
        """Returns the last tokens of the prefix, as many as leave half of the text context enough room for the text."""
        if self.prefix is None:
            return []
        prefix = _tokens(self.prefix, tokenizer)
        room = manifest.dims["n_text_ctx"] // 2 - self.limit(manifest)
        return prefix[-room:] if room > 0 else prefix


def _tokens(text: str | Sequence[int], tokenizer: "Tokenizer") -> list[int]:
    return tokenizer.encode(" " + text.strip()) if isinstance(text, str) else list(text)
