"""A loaded artifact: log-mel, encode, decode, transcribe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from max.driver import Buffer
from numpy.typing import ArrayLike, NDArray

from max_whisper.artifact.load import VOCABULARY, Artifact, open_artifact
from max_whisper.errors import UserError
from max_whisper.runtime.audio import SAMPLE_RATE, load_audio
from max_whisper.runtime.decoder import Decoder
from max_whisper.runtime.languages import language_code
from max_whisper.runtime.mel import HOP, log_mel
from max_whisper.runtime.tokenizer import Tokenizer

Audio: TypeAlias = "str | PathLike[str] | BinaryIO | NDArray[Any]"


def load(folder: str | Path) -> Model:
    """The model in an artifact folder, checked as a whole; it may be used from several threads.

    Raises UserError where there is no artifact; ArtifactError where it is damaged, or not for this machine or MAX.
    """
    return Model(open_artifact(folder))


class Features:
    """The encoder's output for some windows, on the device: float32 [windows, n_audio_ctx, d_model].

    numpy.asarray copies it to the host.
    """

    def __init__(self, chunks: Sequence[Buffer], windows: int) -> None:
        self.chunks = chunks  # one for each `batch` windows; the last may have some that nobody asked for
        self.shape: tuple[int, ...] = (windows, *chunks[0].shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = np.concatenate([chunk.to_numpy() for chunk in self.chunks])[: self.shape[0]]
        return array.astype(dtype or np.float32, copy=False)

    def __len__(self) -> int:
        return self.shape[0]


@dataclass(frozen=True)
class DecodingResult:
    """The text of one window."""

    language: str  # "en" for an English-only model
    tokens: list[int]  # sampled ones, without prompt and end-of-text
    text: str
    avg_logprob: float  # of the tokens and end-of-text: sum / (number of tokens + 1)


@dataclass(frozen=True)
class Segment:
    """The text of one stretch of audio; times in seconds."""

    start: float
    end: float
    text: str
    tokens: list[int]
    avg_logprob: float


@dataclass(frozen=True)
class TranscriptionResult:
    text: str
    segments: list[Segment]
    language: str


class Model:
    """Whisper, compiled. Nothing in it changes after loading."""

    def __init__(self, artifact: Artifact) -> None:
        self.manifest = artifact.manifest
        self.tokenizer = Tokenizer(artifact.folder / VOCABULARY, artifact.manifest.tokens)
        self._artifact = artifact
        self._decoder = Decoder(artifact)

    @property
    def multilingual(self) -> bool:
        """Whether the model knows other languages than English."""
        return self.tokenizer.multilingual

    @cached_property
    def n_frames(self) -> int:
        """Mel frames of one window."""
        return self.manifest.dims["n_frames"]

    def log_mel(self, waveform: ArrayLike, *, padding: int = 0) -> NDArray[np.float32]:
        """Float32 [n_mels, frames] of a 16 kHz waveform; see `mel.log_mel`."""
        return log_mel(np.asarray(waveform), self.manifest.dims["n_mels"], padding=padding)

    def encode(self, mel: ArrayLike) -> Features:
        """The features of some windows. mel: float32 [windows, n_mels, n_frames]. Raises UserError for other shapes."""
        windows = self._checked(mel, "mel", ("n_mels", "n_frames"))
        encoder = self._artifact.graphs["encoder"]
        return Features([encoder.execute(chunk)[0] for chunk in self._chunks(windows)], len(windows))

    def logits(self, features: Features | ArrayLike, tokens: ArrayLike) -> NDArray[np.float32]:
        """Teacher forced: float32 [windows, length, n_vocab], the scores after each token.

        features: what `encode` returned, or float32 [windows, n_audio_ctx, d_model]. tokens: [windows, length] ids.
        Raises UserError for shapes or ids that the model does not take.
        """
        features = self._features(features)
        ids = np.asarray(tokens)
        dims = self.manifest.dims
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer) or len(ids) != len(features):
            raise UserError(f"tokens: expected integers [{len(features)}, length], got {ids.dtype} {list(ids.shape)}")
        if not 1 <= ids.shape[1] <= dims["n_text_ctx"]:
            raise UserError(f"tokens: expected 1 to {dims['n_text_ctx']} for each window, got {ids.shape[1]}")
        if ids.min() < 0 or ids.max() >= dims["n_vocab"]:
            raise UserError(f"tokens: expected ids below {dims['n_vocab']}, got {ids.min()} to {ids.max()}")
        parts = [
            self._decoder.logits(self._decoder.cross_kv(chunk), rows)
            for chunk, rows in zip(features.chunks, self._chunks(ids.astype(np.int64)), strict=True)
        ]
        return np.concatenate(parts)[: len(ids)]

    def detect_language(self, features: Features | ArrayLike) -> list[dict[str, float]]:
        """For each window, the probability of each language, the likeliest first: a softmax after start-of-transcript.

        Raises UserError for an English-only model.
        """
        if not self.multilingual:
            raise UserError("an English-only model has no languages to detect")
        features = self._features(features)
        languages = self.manifest.tokens.languages
        scores = self.logits(features, [[self.manifest.tokens.sot]] * len(features))[:, 0, list(languages.values())]
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        ranked = [sorted(zip(languages, row.tolist(), strict=True), key=lambda pair: -pair[1]) for row in shares]
        return [dict(pairs) for pairs in ranked]

    def decode(
        self,
        features: Features | ArrayLike,
        *,
        language: str | None = None,
        task: str = "transcribe",
        without_timestamps: bool = True,
        max_new_tokens: int | None = None,
    ) -> list[DecodingResult]:
        """Greedy text of each window, by Whisper's suppression rules (openai/whisper, decoding.py, temperature 0).

        features: what `encode` returned, or float32 [windows, n_audio_ctx, d_model].
        language: code or English name; None detects it for each window. An English-only model takes none but English.
        task: "transcribe" or "translate" (into English).
        without_timestamps: must be true; decoding with timestamps is not there yet.
        max_new_tokens: None is half of the text context, as in openai/whisper.

        Raises UserError for options that the model does not take.
        """
        if not without_timestamps:
            raise UserError("decoding with timestamps is not there yet: leave without_timestamps as it is")
        self.check_options(language, task, max_new_tokens)
        features = self._features(features)
        limit = self._limit(max_new_tokens)
        languages = self._languages(features, language)
        results: list[DecodingResult] = []
        batch = self.manifest.batch
        for i, chunk in enumerate(features.chunks):
            spoken = languages[i * batch : (i + 1) * batch]
            prompts = [self.tokenizer.prompt(code, task, without_timestamps=True) for code in spoken]
            (prompt,) = self._chunks(np.array(prompts))
            sampled = self._decoder.greedy(self._decoder.cross_kv(chunk), prompt, len(prompts), limit)
            results += [
                DecodingResult(code, tokens, self.tokenizer.decode(tokens).strip(), average)
                for code, (tokens, average) in zip(spoken, sampled, strict=True)
            ]
        return results

    def transcribe(
        self,
        audio: Audio,
        *,
        language: str | None = None,
        task: str = "transcribe",
        max_new_tokens: int | None = None,
        progress: Callable[[float, float], None] = lambda done, total: None,
    ) -> TranscriptionResult:
        """The text of a whole recording, window by window, each for itself and without timestamps.

        audio: a path ("-" is stdin), an open binary file, or a 16 kHz mono waveform.
        language: as in `decode`; None detects it in the first window.
        progress: called with the seconds that are done and those there are.

        Windows are cut from the mel of the whole recording and filled up with 0.0 in mel space, as openai/whisper
        does. Raises AudioError for what cannot be read, UserError for options that the model does not take.
        """
        self.check_options(language, task, max_new_tokens)
        waveform = audio if isinstance(audio, np.ndarray) else load_audio(audio)
        window = self.n_frames
        mel = self.log_mel(waveform, padding=window * HOP)
        content = mel.shape[1] - window
        starts = range(0, content, window)
        total = content * HOP / SAMPLE_RATE
        segments: list[Segment] = []
        if language is None and self.multilingual:
            language = next(iter(self.detect_language(self.encode(mel[None, :, :window]))[0]))
        for first in range(0, len(starts), self.manifest.batch):
            chosen = starts[first : first + self.manifest.batch]
            lengths = [min(window, content - start) for start in chosen]
            windows = np.zeros((len(chosen), mel.shape[0], window), np.float32)
            for row, start, length in zip(windows, chosen, lengths, strict=True):
                row[:, :length] = mel[:, start : start + length]
            results = self.decode(self.encode(windows), language=language, task=task, max_new_tokens=max_new_tokens)
            for start, length, result in zip(chosen, lengths, results, strict=True):
                begin, end = (frame * HOP / SAMPLE_RATE for frame in (start, start + length))
                text = self.tokenizer.decode(result.tokens)
                segments.append(Segment(begin, end, text, result.tokens, result.avg_logprob))
                progress(end, total)
        text = self.tokenizer.decode(token for segment in segments for token in segment.tokens)
        return TranscriptionResult(
            text, [segment for segment in segments if segment.text.strip()], self._code(language)
        )

    def check_options(self, language: str | None, task: str, max_new_tokens: int | None) -> None:
        """Raises UserError for options that `decode` and `transcribe` would refuse, without any work."""
        some_language = next(iter(self.manifest.tokens.languages), None)
        self.tokenizer.prompt(some_language if language is None else language, task)
        self._limit(max_new_tokens)

    def _checked(self, array: ArrayLike, what: str, dims: tuple[str, str]) -> NDArray[np.float32]:
        """Float32 [windows, *dims], or a UserError that names both shapes."""
        found = np.asarray(array)
        expected = tuple(self.manifest.dims[name] for name in dims)
        if found.ndim != 3 or found.shape[1:] != expected or len(found) == 0 or found.dtype.kind != "f":
            raise UserError(
                f"{what}: expected float32 [windows, {dims[0]}, {dims[1]}] = [n, {expected[0]}, {expected[1]}], "
                f"got {found.dtype} {list(found.shape)}"
            )
        if not np.isfinite(found).all():
            raise UserError(f"{what}: expected finite numbers, got NaN or infinity")
        return np.ascontiguousarray(found, np.float32)

    def _features(self, features: Features | ArrayLike) -> Features:
        if isinstance(features, Features):
            expected = (self.manifest.batch, self.manifest.dims["n_audio_ctx"], self.manifest.dims["d_model"])
            found = tuple(features.chunks[0].shape)
            if found != expected:
                raise UserError(f"features: expected chunks of {list(expected)}, got {list(found)} of another model")
            return features
        array = self._checked(features, "features", ("n_audio_ctx", "d_model"))
        return Features(list(self._chunks(array)), len(array))

    def _chunks(self, rows: NDArray[Any]) -> Iterator[Buffer]:
        """`batch` rows at a time on the device, the last ones filled up with zeros."""
        batch = self.manifest.batch
        for start in range(0, len(rows), batch):
            chunk = np.zeros((batch, *rows.shape[1:]), rows.dtype)
            chunk[: len(rows) - start] = rows[start : start + batch]
            yield Buffer.from_numpy(chunk).to(self._artifact.device)

    def _languages(self, features: Features, language: str | None) -> list[str]:
        """One code for each window."""
        if language is not None or not self.multilingual:
            return [self._code(language)] * len(features)
        return [next(iter(shares)) for shares in self.detect_language(features)]

    def _code(self, language: str | None) -> str:
        """Of a language that was given or detected; None is that of an English-only model."""
        return language_code("en" if language is None else language, self.manifest.tokens.languages or ("en",))

    def _limit(self, max_new_tokens: int | None) -> int:
        if max_new_tokens is None:
            return self.manifest.dims["n_text_ctx"] // 2
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens: expected at least 1, got {max_new_tokens}")
        return max_new_tokens
