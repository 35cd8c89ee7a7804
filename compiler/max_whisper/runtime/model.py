"""A loaded artifact: log-mel, encode, decode, transcribe."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from max.driver import Buffer
from numpy.typing import ArrayLike, NDArray

from max_whisper.artifact.load import VOCABULARY, Artifact, open_artifact
from max_whisper.artifact.process import inside_max
from max_whisper.errors import UserError
from max_whisper.runtime.alignment import token_starts
from max_whisper.runtime.batching import together
from max_whisper.runtime.beam import search
from max_whisper.runtime.decoder import Decoder, Memory, Sampled
from max_whisper.runtime.decoding import TIME_PRECISION, DecodingOptions, DecodingResult, compression_ratio, rank
from max_whisper.runtime.explanation import SAMPLE, SEARCH, TIE, Overruled, overruled
from max_whisper.runtime.languages import language_code
from max_whisper.runtime.mel import HOP, LogMel, log_mel
from max_whisper.runtime.rules import TimestampRules, mask_of
from max_whisper.runtime.timing import Timing, timings
from max_whisper.runtime.tokenizer import Tokenizer
from max_whisper.runtime.transcription import Encoded, TranscribeOptions, Transcriber, TranscriptionResult, Window
from max_whisper.runtime.vad import voice
from max_whisper.runtime.waveform import check_waveform

if TYPE_CHECKING:
    from max_whisper.runtime.audio import Recording

Audio: TypeAlias = "str | PathLike[str] | BinaryIO | NDArray[Any]"


def load(folder: str | Path) -> Model:
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
        self.last_memory: tuple[int, Memory] | None = None  # of the chunk with that number
        self.shape: tuple[int, ...] = (windows, *chunks[0].shape[1:])
        inside_max.owns(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = np.concatenate([chunk.to_numpy() for chunk in self.chunks])[: self.shape[0]]
        return array.astype(dtype or np.float32, copy=False)

    def __len__(self) -> int:
        return self.shape[0]


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
        self._artifact.check()
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
            self._decoder.logits(self._memory(features, i), rows)
            for i, rows in enumerate(self._chunks(ids.astype(np.int64)))
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

    def decode(self, features: Features | ArrayLike, **options: Any) -> list[DecodingResult]:
        """The text of each window, by Whisper's rules (openai/whisper, decoding.py).

        features: what `encode` returned, or float32 [windows, n_audio_ctx, d_model]. options: those of
        `DecodingOptions`, such as language="en", without_timestamps=True, max_new_tokens=100.

        Raises UserError for options that the model does not take.
        """
        _check_names(options, _names(DecodingOptions))
        features = self._features(features)
        return self.decode_with(features, [DecodingOptions(**options)] * len(features))

    def decode_with(self, features: Features | ArrayLike, options: Sequence[DecodingOptions]) -> list[DecodingResult]:
        """As `decode`, with options for each window, which may differ in language and prompt, but not in its length."""
        features = self._features(features)
        for some in options:
            some.check(self.manifest, self.tokenizer)
        languages = self._languages(features, options)
        batch = self.manifest.batch
        results: list[DecodingResult] = []
        for i in range(len(features.chunks)):
            part = slice(i * batch, (i + 1) * batch)
            results += self._decode_chunk(self._memory(features, i), languages[part], options[part])
        return results

    def _decode_chunk(
        self, memory: Memory, languages: list[str], each: Sequence[DecodingOptions]
    ) -> list[DecodingResult]:
        """At most `batch` windows, the best of some samples for each."""
        rows = [
            options.prompt_tokens(language, self.manifest, self.tokenizer)
            for options, language in zip(each, languages, strict=True)
        ]
        options = each[0]
        if options.beam_size is not None:
            ((prompt, sot),) = rows
            candidates = [[text] for text in self._search(memory, prompt, sot, options)]
        else:
            candidates = list(self._samples(memory, rows, options))
        results = []
        for row, language in enumerate(languages):
            best = max(
                (sample[row] for sample in candidates),
                key=lambda sample: rank(sample.sum_logprob, len(sample.tokens), options.length_penalty),
            )
            text = self.tokenizer.decode(best.tokens).strip()
            average = best.sum_logprob / (len(best.tokens) + 1)
            ratio = compression_ratio(text)
            results.append(
                DecodingResult(language, best.tokens, text, average, best.no_speech_prob, options.temperature, ratio)
            )
        return results

    def _samples(
        self, memory: Memory, rows: list[tuple[list[int], int]], options: DecodingOptions
    ) -> Iterator[list[Sampled]]:
        """`best_of` times a text for each window."""
        (prompts,) = self._chunks(np.array([prompt for prompt, _ in rows]))
        first, others = (self._decoder.mask(ids) for ids in options.suppressed_first_and_later(self.manifest))
        for sample in range(options.best_of or 1):
            yield self._decoder.generate(
                memory,
                prompts,
                rows=len(rows),
                sot=rows[0][1],
                limit=options.limit(self.manifest),
                masks=(first, others),
                rules=self._rules(options),
                temperature=options.temperature,
                rng=np.random.default_rng([options.seed, sample]),
            )

    def _search(self, memory: Memory, prompt: list[int], sot: int, options: DecodingOptions) -> list[Sampled]:
        """The texts of a beam search for one window."""
        n_vocab = self.manifest.dims["n_vocab"]
        first, others = (mask_of(ids, n_vocab) for ids in options.suppressed_first_and_later(self.manifest))
        return search(
            self._decoder,
            memory,
            prompt,
            sot=sot,
            limit=options.limit(self.manifest),
            masks=(first, others),
            rules=self._rules(options),
            beam_size=options.beam_size or 1,
            patience=options.patience or 1.0,
        )

    def explain(
        self, features: Features | ArrayLike, result: DecodingResult, options: DecodingOptions
    ) -> list[Overruled]:
        """Where the decoder did not take the likeliest token of one window, and which rule kept it from that.

        features: of the window, as for `decode`. result: what came of it with the options. Takes one more pass of the
        decoder. Raises UserError for options that the model does not take.
        """
        options.check(self.manifest, self.tokenizer)
        prompt, _ = options.prompt_tokens(result.language, self.manifest, self.tokenizer)
        n_text_ctx, tokens = self.manifest.dims["n_text_ctx"], result.tokens
        ended = len(tokens) < min(options.limit(self.manifest), n_text_ctx + 1 - len(prompt))
        chosen = [*tokens, self.manifest.tokens.eot] if ended else tokens
        logits = self.logits(features, [[*prompt, *chosen[:-1]]])[0, len(prompt) - 1 :]
        return overruled(
            logits,
            chosen,
            first=self.manifest.tokens.begin_suppress if options.suppress_blank else (),
            always=options.suppressed(self.manifest),
            rules=self._rules(options),
            otherwise=SAMPLE if options.temperature > 0 else SEARCH if options.beam_size is not None else TIE,
        )

    def _rules(self, options: DecodingOptions) -> TimestampRules | None:
        if options.without_timestamps:
            return None
        latest = options.max_initial_timestamp
        tokens = self.manifest.tokens
        return TimestampRules(
            tokens, tokens.max_initial_timestamp if latest is None else round(latest / TIME_PRECISION)
        )

    def transcribe(
        self, audio: Audio, *, progress: Callable[[Window, float], None] = lambda window, total: None, **options: Any
    ) -> TranscriptionResult:
        """The text of a whole recording, with the times of its segments (openai/whisper, transcribe.py).

        audio: a path ("-" is stdin), an open binary file, or a 16 kHz mono waveform.
        progress: called with each window when it is done, and with the seconds there are.
        options: those of `TranscribeOptions` and `DecodingOptions`. The language is detected in the first window if
        none is given.

        Raises AudioError for what cannot be read, UserError for options that the model does not take.
        """
        transcriber = self.transcriber(audio, **options)
        for window in transcriber:
            progress(window, transcriber.seconds)
        return transcriber.result()

    def transcribe_batch(
        self,
        audios: Sequence[Audio],
        *,
        progress: Callable[[int, Window, float], None] = lambda number, window, total: None,
        **options: Any,
    ) -> list[TranscriptionResult]:
        """As `transcribe`, of several recordings at once, as many as the artifact's batch; the texts are the same.

        progress: called with the number of the recording, too.
        """
        transcribers = [self.transcriber(audio, **options) for audio in audios]
        for number, window in together(self, [transcriber.steps() for transcriber in transcribers]):
            if window is not None:
                progress(number, window, transcribers[number].seconds)
        return [transcriber.result() for transcriber in transcribers]

    def transcriber(self, audio: Audio, **options: Any) -> Transcriber:
        """As `transcribe`, but to be gone through window by window, each as soon as it is decoded."""
        self._artifact.check()
        whole, decoding = self.check_options(**options)
        samples = check_waveform(audio) if isinstance(audio, np.ndarray) else _decoded(audio)
        mel = LogMel(samples, self.manifest.dims["n_mels"], padding=self.n_frames * HOP)
        content = mel.frames - self.n_frames
        clips = voice(mel, content, whole.vad, self.n_frames) if whole.vad_filter else whole.clips(content)
        language, encoded = decoding.language, None
        if language is None and self.multilingual:
            language, encoded = self._spoken_language(mel, whole)
        language = self._code(language)
        return Transcriber(self, mel, whole, replace(decoding, language=language), language, clips, encoded)

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

    def check_options(self, **options: Any) -> tuple[TranscribeOptions, DecodingOptions]:
        """The options of `transcribe`, or the UserError that it would raise for them, without any work."""
        if "prompt" in options:
            raise UserError("prompt: belongs to one window; give the text before the recording as initial_prompt")
        options = {"logprob_threshold": self.manifest.tokens.logprob_threshold} | options
        _check_names(options, [*_names(TranscribeOptions), *_names(DecodingOptions)])
        whole = TranscribeOptions(**{name: options[name] for name in _names(TranscribeOptions) if name in options})
        one = [name for name in _names(DecodingOptions) if name in options and name != "temperature"]
        decoding = DecodingOptions(**{name: options[name] for name in one})
        whole.check()
        half = self.manifest.dims["n_text_ctx"] // 2
        if whole.hotwords is not None and len(self.tokenizer.encode(" " + whole.hotwords.strip())) >= half:
            raise UserError(f"hotwords: expected fewer than {half} tokens, half of the text context")
        for temperature in whole.temperatures:
            decoding.at(temperature).check(self.manifest, self.tokenizer)
        return whole, decoding

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
        tokenizer = self.tokenizer
        prompt = tokenizer.prompt(language if self.multilingual else None, task, without_timestamps=True)
        text = list(tokens[: self.manifest.dims["n_text_ctx"] - len(prompt) - 1])
        positions = n_frames // 2
        if not text or not positions:
            return []
        (rows,) = self._chunks(np.array([[*prompt, *text, tokenizer.tokens.eot]]))
        logits, scores = (array[0] for array in self._decoder.alignment(self._memory(features, 0), rows))
        before = len(prompt) - 1  # the last token of the prompt chooses the first of the text
        starts = token_starts(scores[:, :, :positions], before)
        return timings(
            text, starts.tolist(), shares(logits[before:-2, : tokenizer.tokens.eot], text), tokenizer, language
        )

    def _memory(self, features: Features, i: int) -> Memory:
        """Keys and values of chunk i, kept for the next time: several temperatures and the alignment ask for it."""
        kept = features.last_memory
        if kept is None or kept[0] != i:
            features.last_memory = kept = (i, self._decoder.cross_kv(features.chunks[i]))
        return kept[1]

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
        self._artifact.check()
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


def _names(kind: type[TranscribeOptions] | type[DecodingOptions]) -> list[str]:
    return [field.name for field in fields(kind)]


def _check_names(given: dict[str, Any], known: list[str]) -> None:
    """Raises UserError for an option that there is not."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f": expected one of {', '.join(sorted(known))}"
            raise UserError(f"unknown option '{name}'{hint}")


def _decoded(audio: str | PathLike[str] | BinaryIO) -> Recording:
    """FFmpeg is imported when there is a file to decode, and not with the package: it takes 45 ms and 19 MB."""
    from max_whisper.runtime.audio import open_audio

    return open_audio(audio)
