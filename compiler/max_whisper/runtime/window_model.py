"""The methods of a model for single windows: log-mel, features, logits, languages, text."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.artifact.load import WhisperArtifact
from max_whisper.artifact.manifest import VOCABULARY_FILE
from max_whisper.errors import UserError
from max_whisper.options import check_names, checked_integer, lists_options, options_of
from max_whisper.runtime.arrays import as_array, check_finite, float32_rows, token_rows
from max_whisper.runtime.audio.mel import log_mel
from max_whisper.runtime.audio.waveform import MAX_SECONDS, SAMPLE_RATE
from max_whisper.runtime.decoding.conflicts import check_decoding
from max_whisper.runtime.decoding.keywords import PROMPT_OPTIONS, DecodingKeywords, PromptKeywords
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.features import Features, WindowFeatures
from max_whisper.runtime.results import DecodingResult
from max_whisper.runtime.transcription.executor import Executor
from max_whisper.runtime.transcription.opening import Audio, spectrogram
from max_whisper.runtime.transcription.requests import Decode, DetectLanguage, Encode, Logits
from max_whisper.runtime.transcription.scheduler import Scheduler


class WindowModel:
    """The methods of `Model` for single windows.

    Attributes:
        manifest: The description of the artifact: its graphs, dims, special tokens and build plan.
        tokenizer: The tokenizer of the checkpoint.
        scheduler: The queue through which all methods compute (`transcription/scheduler.py`).
    """

    def __init__(self, artifact: WhisperArtifact) -> None:
        self.manifest = artifact.manifest
        self.tokenizer = Tokenizer(artifact.folder / VOCABULARY_FILE, artifact.manifest.tokens)
        self._artifact = artifact
        self._executor = Executor(artifact, self.tokenizer)
        self.scheduler = Scheduler(self._executor)

    @property
    def multilingual(self) -> bool:
        """Whether the model knows other languages than English."""
        return self.tokenizer.multilingual

    @cached_property
    def n_frames(self) -> int:
        """The number of mel frames of one window."""
        return self.manifest.dims["n_frames"]

    def log_mel(self, waveform: ArrayLike, *, padding: int = 0) -> NDArray[np.float32]:
        """Returns the log-mel spectrogram of a waveform, float32 [n_mels, frames].

        Args:
            waveform: The samples at 16 kHz, mono, as `transcribe` takes them.
            padding: The number of samples of silence that are put behind the waveform first, at most a day of them.

        Raises:
            AudioError: The waveform is too short, or is no audio of full scale 1.0.
            UserError: The padding is out of bounds.
        """
        padding = checked_integer("padding", padding, low=0, high=MAX_SECONDS * SAMPLE_RATE)
        samples = as_array(waveform, "waveform", "float32 [samples]")
        return log_mel(samples, self.manifest.dims["n_mels"], padding=padding)

    def windows(self, audio: Audio, *, audio_track: int | None = None) -> NDArray[np.float32]:
        """Returns the log-mel windows of a recording, as `encode` takes them: float32 [windows, n_mels, n_frames].

        The windows follow each other without overlap, and there is at least one. The last is filled up with silence, as
        by openai/whisper's `pad_or_trim`. An hour takes 120 windows of 30 s, which are 115 MB for 80 mel bands.
        (`transcribe` begins each window where the text of the one before ended.)

        Args:
            audio: The recording, as for `transcribe`.
            audio_track: The number of the audio track in a file that has several.

        Raises:
            AudioError: The recording cannot be read.
        """
        mel = spectrogram(audio, audio_track, self.manifest)
        size = self.n_frames
        count = max(1, math.ceil((mel.frames - size) / size))
        return np.stack([mel.part(i * size, (i + 1) * size) for i in range(count)])

    @lists_options(DecodingOptions, only=PROMPT_OPTIONS)
    def prompt(self, **options: Unpack[PromptKeywords]) -> list[int]:
        """Returns the token ids that the decoder reads before it writes, which `decode` puts before each text.

        They are, as far as each is asked for: the text before the window (`prompt`), start-of-transcript, the language
        and the task (of a multilingual model), no-timestamps, and the beginning of the text (`prefix`).

        Args:
            **options: `prompt`, `language`, `task`, `without_timestamps` and `prefix` of `DecodingOptions`. A
                multilingual model needs a language (see `detect_language`).

        Raises:
            UserError: The value of an option is wrong, or the model does not support it.
        """
        check_names(options, PROMPT_OPTIONS)
        (decoding,) = options_of(options, DecodingOptions)
        ids: list[int] = decoding.prompt_tokens(decoding.language, self.manifest, self.tokenizer)[0]
        return ids

    def encode(self, mel: ArrayLike) -> Features:
        """Returns the features of windows.

        Args:
            mel: float32 [windows, n_mels, n_frames], which `windows` gives.

        Raises:
            UserError: The array has another shape, or numbers that are not finite or far from those of a log-mel
                spectrogram.
        """
        self._artifact.check()
        windows = float32_rows(mel, "mel", self._sizes("n_mels", "n_frames"))
        return Features(self.scheduler.ask([Encode(window) for window in windows]))

    def logits(self, features: Features | ArrayLike, tokens: ArrayLike) -> NDArray[np.float32]:
        """Returns the logits after each token, teacher forced: float32 [windows, length, n_vocab].

        Args:
            features: What `encode` returned, or float32 [windows, n_audio_ctx, d_model].
            tokens: The token ids [windows, length].

        Raises:
            UserError: An array has another shape, or the vocabulary does not have an id.
        """
        windows, dims = self._features(features), self.manifest.dims
        ids = token_rows(tokens, rows=len(windows), longest=dims["n_text_ctx"], n_vocab=dims["n_vocab"])
        requests = [Logits(window, row.tolist()) for window, row in zip(windows, ids, strict=True)]
        logits: NDArray[np.float32] = np.stack([*self.scheduler.ask(requests)])
        check_finite(logits, "logits")
        return logits

    def detect_language(self, features: Features | ArrayLike) -> list[dict[str, float]]:
        """Returns the probability of each language for each window, the most probable first.

        Args:
            features: What `encode` returned, or float32 [windows, n_audio_ctx, d_model].

        Raises:
            UserError: The model is English-only.
        """
        if not self.multilingual:
            raise UserError("an English-only model has no languages to detect")
        return self.scheduler.ask([DetectLanguage(window) for window in self._features(features)])

    @lists_options(DecodingOptions)
    def decode(self, features: Features | ArrayLike, **options: Unpack[DecodingKeywords]) -> list[DecodingResult]:
        """Returns the text of each window, decoded as by openai/whisper (decoding.py).

        Args:
            features: What `encode` returned, or float32 [windows, n_audio_ctx, d_model].
            **options: Those of `DecodingOptions`, which explains them. Without `language`, the most probable language
                of each window is taken.

        Raises:
            UserError: The value of an option is wrong, or the model does not support it.
        """
        (decoding,) = options_of(options, DecodingOptions)
        check_decoding(decoding, self.manifest, self.tokenizer)
        windows = self._features(features)
        languages = [decoding.language] * len(windows)
        if decoding.language is None and self.multilingual:
            detected = self.scheduler.ask([DetectLanguage(window) for window in windows])
            languages = [next(iter(probabilities)) for probabilities in detected]
        return self.scheduler.ask(
            [
                Decode(window, decoding if language == decoding.language else replace(decoding, language=language))
                for window, language in zip(windows, languages, strict=True)
            ]
        )

    def _features(self, features: Features | ArrayLike) -> Sequence[WindowFeatures]:
        """Returns the features of each window. Raises UserError for features of another shape."""
        self._artifact.check()
        batch = self.manifest.plan.batch
        if not isinstance(features, Features):
            array = float32_rows(features, "features", self._sizes("n_audio_ctx", "d_model"))
            parts = np.split(array, range(batch, len(array), batch))
            chunks = [self._executor.chunk(part) for part in parts]
            return [WindowFeatures(chunks[i // batch], i % batch) for i in range(len(array))]
        expected = [batch, *self._sizes("n_audio_ctx", "d_model").values()]
        found = list(features.windows[0].chunk.buffer.shape)
        if found != expected:
            raise UserError(f"features: expected chunks of {expected}, got {found} of another model")
        return features.windows

    def _sizes(self, *names: str) -> dict[str, int]:
        return {name: self.manifest.dims[name] for name in names}
