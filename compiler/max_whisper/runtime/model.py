"""A loaded artifact: log-mel, encode, decode, transcribe."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from typing import Any, BinaryIO, Literal, NoReturn, TypeAlias

import numpy as np
from max.driver import Buffer
from numpy.typing import ArrayLike, NDArray

from max_whisper.artifact.load import Artifact, open_artifact
from max_whisper.artifact.manifest import VOCABULARY_FILE
from max_whisper.artifact.process import inside_max
from max_whisper.errors import UserError
from max_whisper.options import checked_integer, options_of
from max_whisper.progress import OnProgress, check_progress, ignore_progress
from max_whisper.runtime.arrays import as_array, check_finite, float32_rows, token_list, token_rows
from max_whisper.runtime.audio.mel import HOP, LogMel, Samples, log_mel
from max_whisper.runtime.audio.vad import Clip, voice
from max_whisper.runtime.audio.waveform import SAMPLE_RATE, check_waveform
from max_whisper.runtime.decoding.decoder import CrossKV, Decoder
from max_whisper.runtime.decoding.languages import language_code
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.decoding.window_decoder import WindowDecoder
from max_whisper.runtime.results import DecodingResult, Override, TranscriptionResult
from max_whisper.runtime.transcription.alignment import token_starts
from max_whisper.runtime.transcription.options import APPENDED, MAX_SECONDS, PREPENDED, TranscribeOptions
from max_whisper.runtime.transcription.scheduler import together
from max_whisper.runtime.transcription.transcriber import Encoded, Transcriber, clips_of
from max_whisper.runtime.transcription.words import Timing, timings

Audio: TypeAlias = "str | PathLike[str] | BinaryIO | NDArray[Any]"


def load(folder: str | PathLike[str]) -> Model:
    """The model in an artifact folder, checked as a whole; it may be used from several threads.

    A process that is forked later can neither use it nor load one itself: load in the child alone, or start the child
    by multiprocessing's "spawn". An artifact is code: load only what you trust.

    Raises UserError where there is no artifact; ArtifactError where it is damaged, or not for this machine or MAX;
    ForkError in a process that was forked from one that had loaded a model. Every method raises ArtifactError where
    a file of the artifact was changed in place, and ForkError in a forked process.
    """
    return Model(open_artifact(folder))


class Features:
    """The encoder's output for some windows, on the device: float32 [windows, n_audio_ctx, d_model].

    numpy.asarray copies it to the host.
    """

    def __init__(self, chunks: Sequence[Buffer], windows: int) -> None:
        self.chunks = chunks  # one for each `batch` windows; the last may have some that nobody asked for
        self.last_memory: tuple[int, CrossKV] | None = None  # of the chunk with that number
        self.shape: tuple[int, ...] = (windows, *chunks[0].shape[1:])
        inside_max.keep_in_forks(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = np.concatenate([chunk.to_numpy() for chunk in self.chunks])[: self.shape[0]]
        return array.astype(dtype or np.float32, copy=False)

    def __len__(self) -> int:
        return self.shape[0]


class Model:
    """Whisper, compiled. Nothing in it changes after loading."""

    def __init__(self, artifact: Artifact) -> None:
        self.manifest = artifact.manifest
        self.tokenizer = Tokenizer(artifact.folder / VOCABULARY_FILE, artifact.manifest.tokens)
        self._artifact = artifact
        self._decoder = Decoder(artifact)
        self._window_decoder = WindowDecoder(self._decoder, self.manifest, self.tokenizer)

    @property
    def multilingual(self) -> bool:
        """Whether the model knows other languages than English."""
        return self.tokenizer.multilingual

    @cached_property
    def n_frames(self) -> int:
        """Mel frames of one window."""
        return self.manifest.dims["n_frames"]

    def log_mel(self, waveform: ArrayLike, *, padding: int = 0) -> NDArray[np.float32]:
        """Returns the float32 [n_mels, frames] log-mel spectrogram of a 16 kHz waveform; see `mel.log_mel`.

        padding: samples of silence that are put behind the waveform first, at most a day of them.
        """
        most = MAX_SECONDS * SAMPLE_RATE
        padding = checked_integer("padding", padding, low=0, high=most)
        return log_mel(
            as_array(waveform, "waveform", "float32 [samples]"), self.manifest.dims["n_mels"], padding=padding
        )

    def windows(self, audio: Audio, *, audio_track: int | None = None) -> NDArray[np.float32]:
        """Returns the log-mel windows of a recording, as `encode` takes them: float32 [windows, n_mels, n_frames].

        They follow each other without overlap, and there is at least one. The last is filled up with silence: its
        frames are those of zero samples, as openai/whisper's `pad_or_trim` of a waveform makes them. An hour takes
        120 windows of 30 s, and 115 MB for 80 mels. (`transcribe` begins each window where the text of the last one
        ended.)

        audio, audio_track: as for `transcribe`. Raises AudioError for what cannot be read.
        """
        mel = self._spectrogram(audio, audio_track)
        size = self.n_frames
        count = max(1, math.ceil((mel.frames - size) / size))
        return np.stack([mel.part(i * size, (i + 1) * size) for i in range(count)])

    def prompt(
        self,
        *,
        language: str | None = None,
        task: str = "transcribe",
        without_timestamps: bool = False,
        prompt: str | Sequence[int] | None = None,
        prefix: str | Sequence[int] | None = None,
        **unknown: NoReturn,
    ) -> list[int]:
        """Returns the token ids that the decoder reads before it writes: what `decode` puts before each text.

        They are the text before the window (`prompt`), start-of-transcript, of a multilingual model language and task,
        no-timestamps, and the beginning of the text (`prefix`), as far as each is asked for.

        The arguments are those of `DecodingOptions`, which explains them; here a multilingual model needs a language
        (see `detect_language`). Raises UserError for values that the model does not take.
        """
        options: DecodingOptions
        (options,) = options_of(locals(), DecodingOptions)
        ids, _ = options.prompt_tokens(options.language, self.manifest, self.tokenizer)
        return ids

    def encode(self, mel: ArrayLike) -> Features:
        """Returns the features of some windows. Raises UserError for another shape.

        mel: float32 [windows, n_mels, n_frames], which `windows` gives.
        """
        self._artifact.check()
        windows = float32_rows(mel, "mel", self._sizes("n_mels", "n_frames"))
        encoder = self._artifact.graphs["encoder"]
        chunks = [encoder.execute(chunk)[0] for chunk in self._chunks(windows)]
        if any(not np.isfinite(chunk.to_numpy()).all() for chunk in chunks):
            raise UserError(
                f"mel: the encoder gave NaN or infinity for numbers of up to {np.abs(windows).max():g}; expected a "
                "log-mel spectrogram, whose numbers are about -1 to 2"
            )
        return Features(chunks, len(windows))

    def logits(self, features: Features | ArrayLike, tokens: ArrayLike) -> NDArray[np.float32]:
        """Teacher forced: float32 [windows, length, n_vocab], the scores after each token.

        features: what `encode` returned, or float32 [windows, n_audio_ctx, d_model]. tokens: [windows, length] ids.
        Raises UserError for shapes or ids that the model does not take.
        """
        features = self._features(features)
        dims = self.manifest.dims
        ids = token_rows(tokens, rows=len(features), longest=dims["n_text_ctx"], n_vocab=dims["n_vocab"])
        batch = self.manifest.plan.batch
        chunks = np.split(ids, range(batch, len(ids), batch))
        parts = [self._decoder.logits(self._memory(features, i), rows) for i, rows in enumerate(chunks)]
        logits: NDArray[np.float32] = np.concatenate(parts)
        check_finite(logits, "logits")
        return logits

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
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        best_of: int | None = None,
        beam_size: int | None = None,
        patience: float | None = None,
        length_penalty: float | None = None,
        prompt: str | Sequence[int] | None = None,
        prefix: str | Sequence[int] | None = None,
        suppress_tokens: str | Sequence[int] | None = "-1",
        suppress_blank: bool = True,
        without_timestamps: bool = False,
        max_initial_timestamp: float | None = None,
        seed: int = 0,
        **unknown: NoReturn,
    ) -> list[DecodingResult]:
        """Returns the text of each window, found by Whisper's rules (openai/whisper, decoding.py).

        features: what `encode` returned, or float32 [windows, n_audio_ctx, d_model].
        The other arguments are those of `DecodingOptions`, which explains them.

        Raises UserError for values that the model does not take.
        """
        (options,) = options_of(locals(), DecodingOptions)
        features = self._features(features)
        return self.decode_with(features, [options] * len(features))

    def decode_with(self, features: Features | ArrayLike, options: Sequence[DecodingOptions]) -> list[DecodingResult]:
        """As `decode`, with options for each window, which may differ in language and prompt, but not in its length."""
        features = self._features(features)
        for some in options:
            some.check(self.manifest, self.tokenizer)
        with self._artifact.core_sharing:  # from the first token to the last, not anew for each
            languages = self._languages(features, options)
            batch = self.manifest.plan.batch
            results: list[DecodingResult] = []
            for i in range(len(features.chunks)):
                part = slice(i * batch, (i + 1) * batch)
                results += self._window_decoder.decode(self._memory(features, i), languages[part], options[part])
        return results

    def explain(
        self, features: Features | ArrayLike, result: DecodingResult, options: DecodingOptions
    ) -> list[Override]:
        """Where the decoder did not take the argmax token of one window, and which rule kept it from that.

        features: of the window, as for `decode`. result: what came of it with the options. Takes one more pass of the
        decoder. Raises UserError for options that the model does not take.
        """
        options.check(self.manifest, self.tokenizer)
        return self._window_decoder.explain(self._memory(self._features(features), 0), result, options)

    def transcribe(
        self,
        audio: Audio,
        *,
        language: str | None = None,
        task: str = "transcribe",
        temperature: float | Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        compression_ratio_threshold: float | None = 2.4,
        logprob_threshold: float | Literal["model"] | None = "model",
        no_speech_threshold: float | None = 0.6,
        condition_on_previous_text: bool = True,
        initial_prompt: str | None = None,
        carry_initial_prompt: bool = False,
        hotwords: str | None = None,
        language_detection_segments: int = 1,
        language_detection_threshold: float = 0.5,
        audio_track: int | None = None,
        clip_timestamps: str | Sequence[float] = "0",
        vad_filter: bool = False,
        vad_threshold: float = 10.0,
        vad_min_silence: float = 2.0,
        vad_speech_pad: float = 0.4,
        word_timestamps: bool = False,
        prepend_punctuations: str = PREPENDED,
        append_punctuations: str = APPENDED,
        hallucination_silence_threshold: float | None = None,
        explain: bool = False,
        max_new_tokens: int | None = None,
        best_of: int | None = None,
        beam_size: int | None = None,
        patience: float | None = None,
        length_penalty: float | None = None,
        prefix: str | Sequence[int] | None = None,
        suppress_tokens: str | Sequence[int] | None = "-1",
        suppress_blank: bool = True,
        without_timestamps: bool = False,
        max_initial_timestamp: float | None = None,
        seed: int = 0,
        progress: OnProgress = ignore_progress,
        **unknown: NoReturn,
    ) -> TranscriptionResult:
        """Returns the text of a whole recording, with the times of its segments (openai/whisper, transcribe.py).

        audio: a path ("-" is stdin), an open binary file, or a 16 kHz mono waveform.
        progress: called after each window with the seconds of the recording that are done, and that there are.
        The other arguments are those of `TranscribeOptions` and `DecodingOptions`, which explain them.

        Raises AudioError for what cannot be read, UserError for values that the model does not take.
        """
        transcriber = self.open(audio, *self._options(locals()))
        for window in transcriber:
            progress(transcriber.progress(window))
        return transcriber.result()

    def transcribe_batch(
        self,
        audios: Sequence[Audio],
        *,
        language: str | None = None,
        task: str = "transcribe",
        temperature: float | Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        compression_ratio_threshold: float | None = 2.4,
        logprob_threshold: float | Literal["model"] | None = "model",
        no_speech_threshold: float | None = 0.6,
        condition_on_previous_text: bool = True,
        initial_prompt: str | None = None,
        carry_initial_prompt: bool = False,
        hotwords: str | None = None,
        language_detection_segments: int = 1,
        language_detection_threshold: float = 0.5,
        audio_track: int | None = None,
        clip_timestamps: str | Sequence[float] = "0",
        vad_filter: bool = False,
        vad_threshold: float = 10.0,
        vad_min_silence: float = 2.0,
        vad_speech_pad: float = 0.4,
        word_timestamps: bool = False,
        prepend_punctuations: str = PREPENDED,
        append_punctuations: str = APPENDED,
        hallucination_silence_threshold: float | None = None,
        explain: bool = False,
        max_new_tokens: int | None = None,
        best_of: int | None = None,
        beam_size: int | None = None,
        patience: float | None = None,
        length_penalty: float | None = None,
        prefix: str | Sequence[int] | None = None,
        suppress_tokens: str | Sequence[int] | None = "-1",
        suppress_blank: bool = True,
        without_timestamps: bool = False,
        max_initial_timestamp: float | None = None,
        seed: int = 0,
        progress: OnProgress = ignore_progress,
        **unknown: NoReturn,
    ) -> list[TranscriptionResult]:
        """Returns what `transcribe` does for each of several recordings, as many at once as the artifact's batch.

        progress: its `index` says which recording it is about.
        """
        options = self._options(locals())
        if isinstance(audios, str | bytes | PathLike) or not isinstance(audios, Sequence):
            raise UserError(f"audios: expected a list of recordings, got a {type(audios).__name__}")
        transcribers = [self.open(audio, *options) for audio in audios]
        for number, window in together(self, [transcriber.steps() for transcriber in transcribers]):
            if window is not None:
                progress(transcribers[number].progress(window, number))
        return [transcriber.result() for transcriber in transcribers]

    def transcriber(
        self,
        audio: Audio,
        *,
        language: str | None = None,
        task: str = "transcribe",
        temperature: float | Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        compression_ratio_threshold: float | None = 2.4,
        logprob_threshold: float | Literal["model"] | None = "model",
        no_speech_threshold: float | None = 0.6,
        condition_on_previous_text: bool = True,
        initial_prompt: str | None = None,
        carry_initial_prompt: bool = False,
        hotwords: str | None = None,
        language_detection_segments: int = 1,
        language_detection_threshold: float = 0.5,
        audio_track: int | None = None,
        clip_timestamps: str | Sequence[float] = "0",
        vad_filter: bool = False,
        vad_threshold: float = 10.0,
        vad_min_silence: float = 2.0,
        vad_speech_pad: float = 0.4,
        word_timestamps: bool = False,
        prepend_punctuations: str = PREPENDED,
        append_punctuations: str = APPENDED,
        hallucination_silence_threshold: float | None = None,
        explain: bool = False,
        max_new_tokens: int | None = None,
        best_of: int | None = None,
        beam_size: int | None = None,
        patience: float | None = None,
        length_penalty: float | None = None,
        prefix: str | Sequence[int] | None = None,
        suppress_tokens: str | Sequence[int] | None = "-1",
        suppress_blank: bool = True,
        without_timestamps: bool = False,
        max_initial_timestamp: float | None = None,
        seed: int = 0,
        **unknown: NoReturn,
    ) -> Transcriber:
        """Returns an iterator over the windows of a recording, which gives each as soon as it is decoded.

        Arguments and errors are those of `transcribe`.
        """
        return self.open(audio, *self._options(locals()))

    def open(self, audio: Audio, whole: TranscribeOptions, decoding: DecodingOptions) -> Transcriber:
        """Returns what `transcriber` does, for options that `check_options` gave."""
        self._artifact.check()
        mel = self._spectrogram(audio, whole.audio_track)
        content = mel.frames - self.n_frames
        clips = self._clips(mel, content, whole)
        language, encoded = decoding.language, None
        if language is None and self.multilingual:
            language, encoded = self._spoken_language(mel, whole)
        language = self._code(language)
        return Transcriber(self, mel, whole, replace(decoding, language=language), language, clips, encoded)

    def _spectrogram(self, audio: Audio, audio_track: int | None) -> LogMel:
        """Returns the log-mel spectrogram of a recording with a window of silence behind it."""
        return LogMel(_samples(audio, audio_track), self.manifest.dims["n_mels"], padding=self.n_frames * HOP)

    def _clips(self, mel: LogMel, content: int, options: TranscribeOptions) -> list[Clip]:
        """The frames of each part that is transcribed."""
        if not options.vad_filter:
            return clips_of(options, content)
        return voice(
            mel,
            content,
            self.n_frames,
            threshold=options.vad_threshold,
            min_silence=options.vad_min_silence,
            speech_pad=options.vad_speech_pad,
        )

    def _spoken_language(self, mel: LogMel, options: TranscribeOptions) -> tuple[str, Encoded]:
        """The language of a recording, and its first window."""
        content, found = mel.frames - self.n_frames, []
        for i in range(options.language_detection_segments):
            if i * self.n_frames >= content and i > 0:
                break
            window = mel.part(i * self.n_frames, (i + 1) * self.n_frames)[None]
            features = self.encode(window)
            if i == 0:
                first = (window, features)
            language, share = next(iter(self.detect_language(features)[0].items()))
            if share > options.language_detection_threshold:
                return language, first
            found.append(language)
        return Counter(found).most_common(1)[0][0], first

    def check_options(
        self, whole: TranscribeOptions, decoding: DecodingOptions
    ) -> tuple[TranscribeOptions, DecodingOptions]:
        """Returns the options with the model's own values filled in; raises UserError like `transcribe`."""
        if whole.logprob_threshold == "model":
            whole = replace(whole, logprob_threshold=self.manifest.tokens.logprob_threshold)
        whole.check()
        half = self.manifest.dims["n_text_ctx"] // 2
        if whole.hotwords is not None and len(self.tokenizer.encode(" " + whole.hotwords.strip())) >= half:
            raise UserError(f"hotwords: expected fewer than {half} tokens, half of the text context")
        for temperature in whole.temperatures:
            decoding.at(temperature).check(self.manifest, self.tokenizer)
        return whole, decoding

    def _options(self, arguments: dict[str, Any]) -> tuple[TranscribeOptions, DecodingOptions]:
        """The options among the arguments of a call, checked."""
        check_progress(arguments.get("progress", ignore_progress))
        if "prompt" in arguments["unknown"]:
            raise UserError("prompt: belongs to one window; give the text before the recording as initial_prompt")
        whole, decoding = options_of({**arguments}, TranscribeOptions, DecodingOptions)
        return self.check_options(whole, decoding)

    def align(
        self,
        features: Features | ArrayLike,
        tokens: Sequence[int],
        *,
        language: str,
        task: str = "transcribe",
        n_frames: int,
    ) -> list[Timing]:
        """The words of some text tokens, and when they were said in one window (openai/whisper, timing.py).

        features: what `encode` returned for the window, or float32 [1, n_audio_ctx, d_model]. n_frames: mel frames of
        it that are sound. Of more tokens than the text context takes, the first.
        """
        features = self._features(features)
        if len(features) != 1:
            raise UserError(f"features: expected those of one window, got {len(features)}")
        if language is None:
            raise UserError("language: expected a code or an English name, got None")
        options = DecodingOptions(language=language, task=task)
        options.check(self.manifest, self.tokenizer)
        tokenizer = self.tokenizer
        prompt = tokenizer.prompt(language if self.multilingual else None, task, without_timestamps=True)
        text = token_list(tokens, self.manifest.tokens.eot)[: self.manifest.dims["n_text_ctx"] - len(prompt) - 1]
        positions = checked_integer("n_frames", n_frames, low=0, high=self.n_frames) // 2
        if not text or not positions:
            return []
        rows = [[*prompt, *text, tokenizer.tokens.eot]]
        logits, scores = (array[0] for array in self._decoder.alignment(self._memory(features, 0), rows))
        before = len(prompt) - 1  # the last token of the prompt chooses the first of the text
        starts = token_starts(scores[:, :, :positions], before)
        return timings(
            text, starts.tolist(), shares(logits[before:-2, : tokenizer.tokens.eot], text), tokenizer, language
        )

    def _memory(self, features: Features, i: int) -> CrossKV:
        """Keys and values of chunk i, kept for the next time: several temperatures and the alignment ask for it."""
        kept = features.last_memory
        if kept is None or kept[0] != i:
            features.last_memory = kept = (i, self._decoder.cross_kv(features.chunks[i]))
        return kept[1]

    def _sizes(self, *names: str) -> dict[str, int]:
        return {name: self.manifest.dims[name] for name in names}

    def _features(self, features: Features | ArrayLike) -> Features:
        self._artifact.check()
        if isinstance(features, Features):
            expected = (self.manifest.plan.batch, self.manifest.dims["n_audio_ctx"], self.manifest.dims["d_model"])
            found = tuple(features.chunks[0].shape)
            if found != expected:
                raise UserError(f"features: expected chunks of {list(expected)}, got {list(found)} of another model")
            return features
        array = float32_rows(features, "features", self._sizes("n_audio_ctx", "d_model"))
        return Features(list(self._chunks(array)), len(array))

    def _chunks(self, rows: NDArray[Any]) -> Iterator[Buffer]:
        """`batch` rows at a time on the device, the last ones filled up with zeros."""
        batch = self.manifest.plan.batch
        for start in range(0, len(rows), batch):
            chunk = np.zeros((batch, *rows.shape[1:]), rows.dtype)
            chunk[: len(rows) - start] = rows[start : start + batch]
            yield Buffer.from_numpy(chunk).to(self._artifact.device)

    def _languages(self, features: Features, options: Sequence[DecodingOptions]) -> list[str]:
        """One code for each window."""
        given = [some.language for some in options]
        if None in given and self.multilingual:
            detected = [next(iter(shares)) for shares in self.detect_language(features)]
            given = [code or own for code, own in zip(given, detected, strict=True)]
        return [self._code(language) for language in given]

    def _code(self, language: str | None) -> str:
        """Of a language that was given or detected; None is that of an English-only model."""
        return language_code("en" if language is None else language, self.manifest.tokens.languages or ("en",))


def shares(logits: NDArray[np.float32], tokens: Sequence[int]) -> list[float]:
    """The probability of each of some tokens, by a softmax of its row of logits [length, n]."""
    best = logits.max(axis=1)
    total = np.exp(logits - best[:, None]).sum(axis=1)
    chosen: list[float] = (np.exp(logits[np.arange(len(tokens)), tokens] - best) / total).tolist()
    return chosen


def _samples(audio: Audio, track: int | None) -> Samples:
    """FFmpeg is imported when there is a file to decode, and not with the package: it takes 45 ms and 19 MB."""
    if isinstance(audio, np.ndarray):
        if track is not None:
            raise UserError("audio_track: is for files, a waveform has no tracks; leave it out")
        return check_waveform(audio)
    from max_whisper.runtime.audio.load import open_audio

    return open_audio(audio, track=track)
