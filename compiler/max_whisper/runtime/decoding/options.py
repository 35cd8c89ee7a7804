"""What the text of one window can be asked for.

Names and defaults are those of openai/whisper where it has the option, else those of faster-whisper. Each field says
what it takes (max_whisper/options.py), from which the checks and the command line's options come.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, TypedDict

from max_whisper.errors import UserError
from max_whisper.options import Choice, Flag, Ids, Integer, Number, Options, Text, TextOrIds
from max_whisper.runtime.decoding.languages import asked_language

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import Manifest
    from max_whisper.runtime.decoding.tokenizer import Tokenizer

TASKS = ("transcribe", "translate")
TIME_PRECISION = 0.02
"""Seconds from one timestamp token to the next."""
MAX_TEMPERATURE = 10
"""Samples of a higher temperature are noise."""
MAX_CANDIDATES = 100
"""Samples or beams of one window; each beam has keys and values of its own."""


@dataclass(frozen=True)
class DecodingOptions(Options):
    """How the text of one window is found."""

    task: Annotated[
        str, Choice("Write down what is said in its own language (transcribe), or in English (translate).", words=TASKS)
    ] = "transcribe"
    language: Annotated[
        str | None,
        Text(
            "Language that is spoken: a code, locale or English name, such as de, de-AT or german; auto detects it.",
            unit="LANGUAGE",
            unset="detected; en for an English-only model",
        ),
    ] = None
    temperature: Annotated[
        float,
        Number(
            "Randomness of the choice among tokens; 0 always takes the most probable one.",
            low=0,
            high=MAX_TEMPERATURE,
            unit="T",
        ),
    ] = 0.0
    max_new_tokens: Annotated[
        int | None,
        Integer(
            "The most tokens that one window's text may have (openai/whisper calls this sample_len).",
            low=1,
            high=100_000,
            unset="half of the model's text context, 224 tokens of Whisper's 448",
        ),
    ] = None
    best_of: Annotated[
        int | None,
        Integer(
            "Number of samples from which the best is taken, where the temperature is above 0.",
            low=1,
            high=MAX_CANDIDATES,
            unset="1",
        ),
    ] = None
    beam_size: Annotated[
        int | None,
        Integer(
            "Number of texts that a beam search follows at once, where the temperature is 0.",
            low=1,
            high=MAX_CANDIDATES,
            unset="no beam search",
        ),
    ] = None
    patience: Annotated[
        float | None,
        Number(
            "A beam search ends when it has this many times beam_size finished texts; more search longer.",
            low=0.01,
            high=100,
            unit="FACTOR",
            unset="1",
        ),
    ] = None
    length_penalty: Annotated[
        float | None,
        Number(
            "Among samples or beams, divide the log-probability by ((5 + length) / 6) to this power.",
            low=0,
            high=1,
            unit="EXPONENT",
            unset="divide by the length",
        ),
    ] = None
    prompt: Annotated[
        str | Sequence[int] | None,
        TextOrIds("Text, or its token ids, that comes before this window.", unset="no text"),
    ] = None
    prefix: Annotated[
        str | Sequence[int] | None,
        TextOrIds("Text, or its token ids, with which the text of each window begins.", unit="TEXT", unset="no text"),
    ] = None
    suppress_tokens: Annotated[
        str | Sequence[int] | None,
        Ids(
            "Ids of tokens that are never written; -1 stands for the model's own list, an empty list for none at all.",
            unit="IDS",
            unset="none",
        ),
    ] = "-1"
    suppress_blank: Annotated[bool, Flag("Do not let a window begin with a blank, or with its end.")] = True
    without_timestamps: Annotated[bool, Flag("Find text alone, without times inside of a window.")] = False
    max_initial_timestamp: Annotated[
        float | None,
        Number(
            "The latest time in a window at which its first segment may begin.",
            low=0,
            high=30,
            unit="SECONDS",
            unset="the model's, which is 1 for OpenAI's",
        ),
    ] = None
    seed: Annotated[
        int,
        Integer("Start of the random numbers for samples; the same seed gives the same text.", low=0, high=2**63 - 1),
    ] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language is not None:
            object.__setattr__(self, "language", asked_language(self.language))

    def at(self, temperature: float) -> "DecodingOptions":
        """Returns these options for one of several temperatures: at 0 there are no samples, above it no beams."""
        if temperature == 0:
            return replace(self, temperature=temperature, best_of=None)
        return replace(self, temperature=temperature, beam_size=None, patience=None)

    def check(self, manifest: "Manifest", tokenizer: "Tokenizer") -> None:
        """Raises UserError for values that do not go together, or that the model does not take."""
        some_language = next(iter(manifest.tokens.languages), None)
        tokenizer.prompt(some_language if self.language is None else self.language, self.task)
        if self.best_of is not None and self.temperature == 0:
            raise UserError("best_of: with temperature 0 every sample is the same; leave it out, or sample")
        if self.beam_size is not None:
            if self.temperature > 0 or self.best_of is not None:
                raise UserError("beam_size: a search takes no samples; leave it out, or temperature and best_of")
            if manifest.plan.batch != 1:
                raise UserError(f"beam_size: needs an artifact of batch 1, not {manifest.plan.batch}; build another")
        if self.patience is not None:
            if self.beam_size is None:
                raise UserError("patience: is for a beam search, give beam_size too")
            if self.finished_beams < 1:
                raise UserError(
                    f"patience: {self.patience:g} times a beam_size of {self.beam_size} is less than one finished "
                    f"text; give at least {1 / self.beam_size:.2g}"
                )
        longest = manifest.dims["n_audio_ctx"] * TIME_PRECISION
        if self.max_initial_timestamp is not None and not self.max_initial_timestamp <= longest:
            raise UserError(
                f"max_initial_timestamp: expected 0 to {longest:g} seconds, got {self.max_initial_timestamp:g}"
            )
        self.suppressed(manifest)

    @property
    def finished_beams(self) -> int:
        """The number of finished texts with which a beam search ends (openai/whisper's max_candidates)."""
        return round((self.beam_size or 1) * (self.patience or 1.0))

    def limit(self, manifest: "Manifest") -> int:
        """Returns the most tokens that the text of a window may have."""
        return manifest.dims["n_text_ctx"] // 2 if self.max_new_tokens is None else self.max_new_tokens

    def prompt_tokens(
        self, language: str | None, manifest: "Manifest", tokenizer: "Tokenizer"
    ) -> tuple[list[int], int]:
        """Returns the tokens that the decoder reads first, and the index of start-of-transcript among them.

        They are the previous text, cut to its last half context less one; start-of-transcript with language and task;
        the prefix. Raises UserError for more than the text context, and for ids that there are not: MAX would read out
        of bounds.
        """
        n_text_ctx = manifest.dims["n_text_ctx"]
        half = n_text_ctx // 2
        tokens = tokenizer.prompt(language, self.task, self.without_timestamps)
        if self.prefix is not None:
            prefix = _tokens(self.prefix, tokenizer)
            room = half - self.limit(manifest)
            tokens += prefix[-room:] if room > 0 else prefix
        previous = [] if self.prompt is None else _tokens(self.prompt, tokenizer)[-(half - 1) :]
        if self.prompt is not None:
            previous = [manifest.tokens.startofprev, *previous]
        ids, n_vocab = [*previous, *tokens], manifest.dims["n_vocab"]
        if len(ids) > n_text_ctx:
            raise UserError(f"prefix: expected a prompt of at most {n_text_ctx} tokens with it, got {len(ids)}")
        if not all(0 <= i < n_vocab for i in ids):
            raise UserError(f"prompt and prefix: expected token ids below {n_vocab}, got {max(ids)}")
        return ids, len(previous)

    def suppressed_first_and_later(self, manifest: "Manifest") -> tuple[list[int], list[int]]:
        """Returns the ids that are not chosen as the first token, and those that are not chosen later."""
        always = self.suppressed(manifest)
        return [*always, *(manifest.tokens.begin_suppress if self.suppress_blank else [])], always

    def suppressed(self, manifest: "Manifest") -> list[int]:
        """Returns the ids that are never chosen. Raises UserError for ids that the model does not have."""
        ids = [int(i) for i in self.suppress_tokens or ()]
        n_vocab, tokens = manifest.dims["n_vocab"], manifest.tokens
        wrong = next((i for i in ids if i >= n_vocab), None)
        if wrong is not None:
            raise UserError(f"suppress_tokens: expected ids below {n_vocab}, or -1, got {wrong}")
        if not ids:
            return []
        own = tokens.suppress if -1 in ids else []
        controls = [tokens.transcribe, tokens.translate, tokens.sot, tokens.startofprev, tokens.startoflm]
        return sorted({*own, *controls, tokens.nospeech, *(i for i in ids if i >= 0)})


class PromptKeywords(TypedDict, total=False):
    """The options of `Model.prompt`, for type checkers and editors."""

    language: str | None
    task: str
    without_timestamps: bool
    prompt: str | Sequence[int] | None
    prefix: str | Sequence[int] | None


PROMPT_OPTIONS = frozenset(PromptKeywords.__annotations__)


class TextKeywords(TypedDict, total=False):
    """The options of `DecodingOptions` that `Model.transcribe` takes as well, for type checkers and editors."""

    task: str
    language: str | None
    max_new_tokens: int | None
    best_of: int | None
    beam_size: int | None
    patience: float | None
    length_penalty: float | None
    prefix: str | Sequence[int] | None
    suppress_tokens: str | Sequence[int] | None
    suppress_blank: bool
    without_timestamps: bool
    max_initial_timestamp: float | None
    seed: int


class DecodingKeywords(TextKeywords, total=False):
    """The options of `Model.decode`, for type checkers and editors."""

    temperature: float
    prompt: str | Sequence[int] | None


def _tokens(text: str | Sequence[int], tokenizer: "Tokenizer") -> list[int]:
    return tokenizer.encode(" " + text.strip()) if isinstance(text, str) else list(text)
