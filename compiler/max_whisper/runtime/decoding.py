"""What one window of audio is decoded with, and what comes out (openai/whisper, decoding.py)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from max_whisper.artifact.manifest import Manifest
from max_whisper.errors import UserError
from max_whisper.runtime.languages import asked_language
from max_whisper.runtime.tokenizer import Tokenizer

TIME_PRECISION = 0.02  # seconds from one timestamp token to the next


@dataclass(frozen=True)
class DecodingOptions:
    """Names and defaults as in openai/whisper where it has them.

    task: "transcribe", or "translate" into English.
    language: code, locale or English name; None or "auto" detects it. An English-only model takes none but English.
    temperature: 0 takes the likeliest token; more samples, from `seed` on.
    max_new_tokens: of a window; None is half of the text context (`sample_len` in openai/whisper).
    best_of: how many samples the best is chosen from, where the temperature is not 0.
    beam_size: how many texts a search goes on with, where the temperature is 0; None takes the likeliest token.
    patience: the search ends when this many times `beam_size` texts have come to their end; None is 1.
    length_penalty: of the choice among samples or beams: None divides the log-probability by the length, a number by
        ((5 + length) / 6) to its power.
    prompt: text, or its tokens, that came before.
    prefix: text, or its tokens, that the window's text begins with.
    suppress_tokens: ids never to choose; -1 among them stands for the checkpoint's own list. Control tokens come with
        any list; an empty one suppresses nothing at all.
    suppress_blank: whether a blank, or nothing at all, may not be the first.
    without_timestamps: text alone.
    max_initial_timestamp: seconds, the latest start of the first segment; None is the checkpoint's.
    """

    task: str = "transcribe"
    language: str | None = None
    temperature: float = 0.0
    max_new_tokens: int | None = None
    best_of: int | None = None
    beam_size: int | None = None
    patience: float | None = None
    length_penalty: float | None = None
    prompt: str | Sequence[int] | None = None
    prefix: str | Sequence[int] | None = None
    suppress_tokens: str | Sequence[int] = (-1,)
    suppress_blank: bool = True
    without_timestamps: bool = False
    max_initial_timestamp: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.language, str):
            object.__setattr__(self, "language", asked_language(self.language))

    def at(self, temperature: float) -> DecodingOptions:
        """For one of several temperatures: at 0 there are no samples, above there are no beams."""
        if temperature == 0:
            return replace(self, temperature=temperature, best_of=None)
        return replace(self, temperature=temperature, beam_size=None, patience=None)

    def check(self, manifest: Manifest, tokenizer: Tokenizer) -> None:
        """Raises UserError for what the model does not take."""
        some_language = next(iter(manifest.tokens.languages), None)
        tokenizer.prompt(some_language if self.language is None else self.language, self.task)
        if not isinstance(self.temperature, int | float) or not 0 <= self.temperature <= 10:
            raise UserError(f"temperature: expected 0 to 10, got {self.temperature}")
        if self.best_of is not None and self.temperature == 0:
            raise UserError("best_of: with temperature 0 every sample is the same; leave it out, or sample")
        if self.best_of is not None and self.best_of < 1:
            raise UserError(f"best_of: expected at least 1, got {self.best_of}")
        if self.beam_size is not None:
            if self.temperature > 0 or self.best_of is not None:
                raise UserError("beam_size: a search takes no samples; leave it out, or temperature and best_of")
            if self.beam_size < 1:
                raise UserError(f"beam_size: expected at least 1, got {self.beam_size}")
            if manifest.batch != 1:
                raise UserError(f"beam_size: needs an artifact of batch 1, not {manifest.batch}; build another")
        if self.patience is not None and (self.beam_size is None or not self.patience > 0):
            raise UserError(f"patience: expected more than 0, and a beam_size, got {self.patience}")
        if self.length_penalty is not None and not 0 <= self.length_penalty <= 1:
            raise UserError(f"length_penalty: expected 0 to 1, got {self.length_penalty}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens: expected at least 1, got {self.max_new_tokens}")
        if self.seed < 0:
            raise UserError(f"seed: expected 0 or more, got {self.seed}")
        longest = manifest.dims["n_audio_ctx"] * TIME_PRECISION
        if self.max_initial_timestamp is not None and not 0 <= self.max_initial_timestamp <= longest:
            raise UserError(f"max_initial_timestamp: expected 0 to {longest:g} s, got {self.max_initial_timestamp}")
        self.suppressed(manifest)

    def limit(self, manifest: Manifest) -> int:
        """Tokens of a window at most."""
        return manifest.dims["n_text_ctx"] // 2 if self.max_new_tokens is None else self.max_new_tokens

    def prompt_tokens(self, language: str | None, manifest: Manifest, tokenizer: Tokenizer) -> tuple[list[int], int]:
        """What the decoder reads first, and where start-of-transcript is in it.

        Previous text, cut to its last half context less one; start-of-transcript with language and task; prefix.
        Raises UserError for more than the text context, and for ids that there are not: MAX would read out of bounds.
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
            raise UserError(f"prompt and prefix: expected token ids below {n_vocab}, got {max(ids)} or a negative one")
        return ids, len(previous)

    def suppressed_first_and_later(self, manifest: Manifest) -> tuple[list[int], list[int]]:
        """Ids not to choose for the first token, and for the others."""
        always = self.suppressed(manifest)
        return [*always, *(manifest.tokens.begin_suppress if self.suppress_blank else [])], always

    def suppressed(self, manifest: Manifest) -> list[int]:
        """Ids never to choose. Raises UserError for what is no list of ids."""
        given = self.suppress_tokens
        try:
            ids = (
                [int(part) for part in given.split(",") if part] if isinstance(given, str) else [int(i) for i in given]
            )
        except ValueError:
            raise UserError(f"suppress_tokens: expected ids with commas between them, got '{given!s}'") from None
        n_vocab, tokens = manifest.dims["n_vocab"], manifest.tokens
        wrong = next((i for i in ids if not -1 <= i < n_vocab), None)
        if wrong is not None:
            raise UserError(f"suppress_tokens: expected ids below {n_vocab}, or -1, got {wrong}")
        if not ids:
            return []
        own = tokens.suppress if -1 in ids else []
        controls = [tokens.transcribe, tokens.translate, tokens.sot, tokens.startofprev, tokens.startoflm]
        return sorted({*own, *controls, tokens.nospeech, *(i for i in ids if i >= 0)})


@dataclass(frozen=True)
class DecodingResult:
    """The text of one window."""

    language: str  # "en" for an English-only model
    tokens: list[int]  # sampled ones, without prompt and end-of-text; timestamps among them
    text: str
    avg_logprob: float  # of the tokens and end-of-text: sum / (number of tokens + 1)
    no_speech_prob: float
    temperature: float
    compression_ratio: float  # bytes of the text / its bytes after zlib: high where it repeats itself


def compression_ratio(text: str) -> float:
    """openai/whisper, utils.py."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def rank(sum_logprob: float, length: int, penalty: float | None) -> float:
    """The higher the better, among samples of a window (openai/whisper's MaximumLikelihoodRanker)."""
    return sum_logprob / (max(length, 1) if penalty is None else ((5 + length) / 6) ** penalty)


def _tokens(text: str | Sequence[int], tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(" " + text.strip()) if isinstance(text, str) else list(text)
