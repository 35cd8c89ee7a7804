"""Converts between token ids and text, and makes the prompt that tells Whisper what to do."""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from max_whisper.errors import ArtifactError, UserError
from max_whisper.messages import suggestion
from max_whisper.runtime.decoding.languages import TASKS, language_code
from max_whisper.tokens import Tokens

if TYPE_CHECKING:
    import tiktoken

# How GPT-2 cuts text into the pieces that are encoded one by one (openai/gpt-2, encoder.py); Whisper kept it.
_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


class Tokenizer:
    """The byte-pair encoding of one checkpoint.

    Making one reads the file and does no more. Each line is parsed when its token is decoded, as all 50,000 would take
    40 ms before the first text; they are parsed, and the encoder is built, when text is first encoded. A tokenizer may
    be used from several threads.

    Attributes:
        tokens: The special tokens.
    """

    def __init__(self, ranks_file: Path, tokens: Tokens) -> None:
        """Reads the file.

        Args:
            ranks_file: One text token per line, `base64 of its bytes, space, id` (openai's .tiktoken format).
            tokens: The special tokens of the same vocabulary.

        Raises:
            ArtifactError: The file cannot be read.
        """
        self.tokens = tokens
        self._file = ranks_file
        try:
            self._ranks = ranks_file.read_bytes()
        except OSError as e:
            raise ArtifactError(
                f"the vocabulary {ranks_file} cannot be read ({e.strerror}): build the artifact again"
            ) from e

    @property
    def multilingual(self) -> bool:
        """Whether the model takes a language and a task; if not, it writes English text of English speech."""
        return bool(self.tokens.languages)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text. The names of special tokens in it are encoded as text."""
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids, without special tokens and timestamps; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._token(i) for i in ids if 0 <= i < self.tokens.eot).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """Returns the bytes of one id, which need not be whole characters; none for special tokens and timestamps."""
        return self._token(token) if 0 <= token < self.tokens.eot else b""

    def prompt(self, language: str | None, task: str = "transcribe", without_timestamps: bool = False) -> list[int]:
        """Returns the ids that every window starts with.

        Args:
            language: The code or the name of the language; an English-only model takes none but English.
            task: "transcribe" or "translate".
            without_timestamps: Whether to ask for text only.

        Raises:
            UserError: The language or task is unknown or not supported by the model, or there is no language where the
                model needs one.
        """
        if task not in TASKS:
            raise UserError(f"unknown task '{task}': expected 'transcribe' or 'translate'{suggestion(task, TASKS)}")
        tokens = self.tokens
        ids = [tokens.sot]
        if self.multilingual:
            if language is None:
                raise UserError("no language given: a multilingual model needs one, such as 'en'; give or detect it")
            ids.append(tokens.languages[language_code(language, tokens.languages)])
            ids.append(tokens.translate if task == "translate" else tokens.transcribe)
        else:
            if language is not None:
                language_code(language, ("en",))  # raises for any other
            if task == "translate":
                raise UserError("an English-only model cannot translate: use a multilingual model")
        if without_timestamps:
            ids.append(tokens.notimestamps)
        return ids

    @cached_property
    def _lines(self) -> list[bytes]:
        """The line of each text token; special tokens, which may follow in the file, have no text.

        Raises ArtifactError where the file has too few lines.
        """
        lines = self._ranks.splitlines()[: self.tokens.eot]
        if len(lines) < self.tokens.eot:
            raise ArtifactError(
                f"{self._file}: expected {self.tokens.eot} tokens, found {len(lines)}: build the artifact again"
            )
        return lines

    def _token(self, rank: int) -> bytes:
        """Returns the bytes of a token. Raises ArtifactError for any line but the one written for it."""
        line = self._lines[rank]
        text, _, number = line.partition(b" ")
        try:
            token = binascii.a2b_base64(text)
            valid = number == b"%d" % rank and binascii.b2a_base64(token, newline=False) in (text, text.lstrip(b"="))
        except ValueError:
            valid = False
        if not valid:
            raise ArtifactError(
                f"{self._file}:{rank + 1}: expected 'base64 id', found {line[:40]!r}: build the artifact again"
            )
        return token

    @cached_property
    def _encoding(self) -> tiktoken.Encoding:
        """The encoder, which relies on a file that has each token once, and a token for every byte.

        Raises ArtifactError where that is not so.
        """
        import tiktoken  # only here: whoever transcribes without an initial prompt needs no encoder

        ranks = {self._token(rank): rank for rank in range(len(self._lines))}
        if len(ranks) < len(self._lines) or sum(len(token) == 1 for token in ranks) < 256:
            raise ArtifactError(
                f"{self._file}: expected each token once and all 256 bytes among them: build the artifact again"
            )
        ranks.pop(b"", None)  # the empty token of the multilingual vocabulary is never the result of a merge
        return tiktoken.Encoding(self._file.stem, pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={})
