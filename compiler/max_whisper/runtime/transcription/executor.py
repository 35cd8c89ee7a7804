"""Computes the answers to the requests of one batch with the compiled graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter
from typing import Any
from weakref import ref

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.artifact.load import WhisperArtifact
from max_whisper.errors import UserError
from max_whisper.options import checked_integer
from max_whisper.runtime.arrays import token_list
from max_whisper.runtime.decoding.cancelling import Stop
from max_whisper.runtime.decoding.conflicts import check_decoding
from max_whisper.runtime.decoding.decoder import CrossKV, Decoder, padded
from max_whisper.runtime.decoding.languages import language_code
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.decoding.window_decoder import WindowDecoder
from max_whisper.runtime.features import Chunk, WindowFeatures
from max_whisper.runtime.results import DecodingResult, Override
from max_whisper.runtime.transcription.alignment import attention_to_sound, token_starts
from max_whisper.runtime.transcription.requests import (
    Align,
    Decode,
    DetectLanguage,
    Encode,
    Explain,
    Logits,
    Logprobs,
    Request,
)
from max_whisper.runtime.transcription.words import Timing, timings

SHARED_OPTIONS = attrgetter(*(DecodingOptions.declared.keys() - {"prompt", "language"}))
"""Returns the options that texts which are decoded together have in common."""


class Executor:
    """Computes the answers to at most `batch` requests of one key at once. It may be used from several threads."""

    def __init__(self, artifact: WhisperArtifact, tokenizer: Tokenizer) -> None:
        self.batch = artifact.manifest.plan.batch
        self._artifact = artifact
        self._manifest = artifact.manifest
        self._tokenizer = tokenizer
        self._decoder = Decoder(artifact)
        self._window_decoder = WindowDecoder(self._decoder, artifact.manifest, tokenizer)
        self._kept_lock = threading.Lock()
        self._last: ref[WindowFeatures] | None = None  # the window that keys and values were computed for last
        self._answers: dict[type[Request[Any]], Callable[[Any, Stop], list[Any]]] = {
            Encode: self._encode,
            DetectLanguage: self._detect_languages,
            Decode: self._decode,
            Align: self._align,
            Explain: self._explain,
            Logprobs: self._logprobs,
            Logits: self._logits,
        }

    def key(self, request: Request[Any]) -> Hashable:
        """Returns a value that is equal for requests that can be rows of one batch.

        Texts are decoded together if their prompts have the same length, and all their options but prompt and language
        are the same. Raises UserError for values that the model does not take, with which MAX would read out of bounds;
        and the errors of `Artifact.check`, so that a forked process does not wait for threads that it does not have.
        """
        self._artifact.check()
        if isinstance(request, Decode):
            options = request.options
            language = self._checked(options)
            prompt, _ = options.prompt_tokens(language, self._manifest, self._tokenizer)
            return Decode, len(prompt), *SHARED_OPTIONS(options)
        if isinstance(request, Explain | Logprobs):
            self._checked(request.options)
        if isinstance(request, Align):
            self._checked(DecodingOptions(language=request.language, task=request.task))
            token_list(request.tokens, self._manifest.tokens.eot)
            checked_integer("n_frames", request.n_frames, low=0, high=self._manifest.dims["n_frames"])
        if isinstance(request, Logits):
            return Logits, len(request.tokens)
        return (type(request),)

    def answer(self, requests: Sequence[Request[Any]], stop: Stop) -> list[Any]:
        """Returns the answers to at most `batch` requests of one key.

        Raises Cancelled where `stop()` returns True before a token; ArtifactError where a file of the artifact was
        changed in place; ForkError in a forked process; UserError for mel or features that give NaN or infinity.
        """
        self._artifact.check()
        with self._artifact.core_sharing:  # entered once for all tokens: entering it takes 40 us
            return self._answers[type(requests[0])](requests, stop)

    def chunk(self, rows: NDArray[np.float32]) -> Chunk:
        """Copies features [windows, n_audio_ctx, d_model] of at most `batch` windows to the device."""
        return Chunk(self._on_device(rows))

    def _encode(self, requests: Sequence[Encode], stop: Stop) -> list[WindowFeatures]:
        windows = np.stack([request.mel for request in requests])
        chunk = Chunk(self._artifact.graphs["encoder"].execute(self._on_device(windows))[0])
        if not np.isfinite(chunk.buffer.to_numpy()).all():
            raise UserError(
                f"mel: the encoder gave NaN or infinity for numbers of up to {np.abs(windows).max():g}; expected a "
                "log-mel spectrogram, whose numbers are about -1 to 2"
            )
        return [WindowFeatures(chunk, row) for row in range(len(requests))]

    def _detect_languages(self, requests: Sequence[DetectLanguage], stop: Stop) -> list[dict[str, float]]:
        """Applies a softmax over the languages' tokens after start-of-transcript (openai/whisper, decoding.py)."""
        tokens = self._manifest.tokens
        logits = self._decoder.logits(self._keys_values(requests), [[tokens.sot]] * len(requests))
        scores = logits[:, 0, list(tokens.languages.values())]
        probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        ranked = [
            sorted(zip(tokens.languages, row.tolist(), strict=True), key=lambda pair: -pair[1]) for row in probabilities
        ]
        return [dict(pairs) for pairs in ranked]

    def _decode(self, requests: Sequence[Decode], stop: Stop) -> list[DecodingResult]:
        languages = [self._language(request.options.language) for request in requests]
        options = [request.options for request in requests]
        return self._window_decoder.decode(self._keys_values(requests), languages, options, stop=stop)

    def _explain(self, requests: Sequence[Explain], stop: Stop) -> list[list[Override]]:
        results = [request.result for request in requests]
        options = [request.options for request in requests]
        return self._window_decoder.explain(self._keys_values(requests), results, options)

    def _logprobs(self, requests: Sequence[Logprobs], stop: Stop) -> list[list[float]]:
        results = [request.result for request in requests]
        options = [request.options for request in requests]
        return self._window_decoder.logprobs(self._keys_values(requests), results, options)

    def _logits(self, requests: Sequence[Logits], stop: Stop) -> list[NDArray[np.float32]]:
        return [*self._decoder.logits(self._keys_values(requests), [request.tokens for request in requests])]

    def _align(self, requests: Sequence[Align], stop: Stop) -> list[list[Timing]]:
        """Finds the words by the alignment heads (openai/whisper, timing.py)."""
        prompts = [
            self._tokenizer.prompt(
                request.language if self._tokenizer.multilingual else None, request.task, without_timestamps=True
            )
            for request in requests
        ]
        room = self._manifest.dims["n_text_ctx"] - len(prompts[0]) - 1
        texts = [[*request.tokens][:room] for request in requests]
        longest = max(map(len, texts))  # the decoder is causal: padding behind a text does not change its logits
        eot = self._manifest.tokens.eot
        rows = [
            [*prompt, *text, *[eot] * (longest + 1 - len(text))] for prompt, text in zip(prompts, texts, strict=True)
        ]
        logits, scores = self._decoder.alignment(self._keys_values(requests), rows)
        first = len(prompts[0]) - 1  # the index of the token that predicts the first token of the text
        words = []
        for i, (request, text) in enumerate(zip(requests, texts, strict=True)):
            last = first + len(text)
            words.append(self._words(request, text, first, logits[i, first:last], scores[i, :, : last + 2]))
        return words

    def _words(
        self, request: Align, text: list[int], first: int, logits: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> list[Timing]:
        """Returns the words of the text of one window.

        first: the index of the token that predicts the first token of the text. logits: [tokens of the text, n_vocab],
        those that predict each token of the text. scores: [heads, tokens, n_audio_ctx] of the alignment heads, for the
        prompt, the text and end-of-text.
        """
        n_positions = request.n_frames // 2
        if not text or not n_positions:
            return []
        attention = attention_to_sound(scores[:, :, :n_positions], first)
        starts, attended = token_starts(attention).tolist(), attention.argmax(axis=1).tolist()
        probabilities = chosen_probabilities(logits[:, : self._manifest.tokens.eot], text)
        return timings(text, starts, attended, probabilities, self._tokenizer, request.language)

    def _keys_values(self, requests: Sequence[Any]) -> CrossKV:
        """Returns the cross-attention keys and values of the requests' windows, in rows in their order.

        Several requests for the same windows follow each other (temperatures, words), so the first window keeps them;
        in a batch, those of the last windows alone are kept. There is no dictionary with weak keys for it, as Ctrl-C
        would be lost in the callback that removes a key.
        """
        windows: list[WindowFeatures] = [request.features for request in requests]
        with self._kept_lock:
            references, cross_kv = windows[0].kept or ([], [])
            if [reference() for reference in references] == windows:
                return cross_kv
        chunk = windows[0].chunk
        if any(window.chunk is not chunk or window.row != row for row, window in enumerate(windows)):
            chunk = self.chunk(np.stack([np.asarray(window) for window in windows]))
        cross_kv = self._decoder.cross_kv(chunk.buffer)
        references = [ref(window) for window in windows]
        with self._kept_lock:
            if self.batch > 1 and self._last is not None and (last := self._last()) is not None:
                last.kept = None
            windows[0].kept = references, cross_kv
            self._last = references[0]
        return cross_kv

    def _checked(self, options: DecodingOptions) -> str:
        """Returns the code of the language. Raises UserError for options that the model does not take."""
        check_decoding(options, self._manifest, self._tokenizer)
        if options.language is None and self._tokenizer.multilingual:
            raise UserError("language: expected a code or an English name, got None")
        return self._language(options.language)

    def _language(self, language: str | None) -> str:
        """Returns the code of a language; None stands for the language of an English-only model."""
        return language_code("en" if language is None else language, self._manifest.tokens.languages or ("en",))

    def _on_device(self, rows: NDArray[np.float32]) -> Buffer:
        """Returns rows on the device, filled up with zeros to the batch."""
        return Buffer.from_numpy(padded(rows, self.batch)).to(self._artifact.device)


def chosen_probabilities(logits: NDArray[np.float32], tokens: Sequence[int]) -> list[float]:
    """Returns the probability of each token by a softmax of its row of logits [length, n]."""
    best = logits.max(axis=1)
    total = np.exp(logits - best[:, None]).sum(axis=1)
    chosen: list[float] = (np.exp(logits[np.arange(len(tokens)), tokens] - best) / total).tolist()
    return chosen
