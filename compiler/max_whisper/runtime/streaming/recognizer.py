"""Finds the text of a phrase with the compiled graphs: a hypothesis while it is said, and the final text."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.errors import Cancelled
from max_whisper.options import OptionError
from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND, HOP, LogMel
from max_whisper.runtime.audio.waveform import SAMPLE_RATE, Waveform
from max_whisper.runtime.decoding.conflicts import check_decoding
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.features import WindowFeatures
from max_whisper.runtime.results import DecodingResult, Segment, Word
from max_whisper.runtime.streaming.phrase import Ending, Found, Phrase
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.quality import is_repetitive, is_silence
from max_whisper.runtime.transcription.requests import Align, Answer, Decode, DetectLanguage, Encode, Request
from max_whisper.runtime.transcription.retries import with_retries
from max_whisper.runtime.transcription.scheduler import Caller, Scheduler
from max_whisper.runtime.transcription.text_before import TextBefore
from max_whisper.runtime.transcription.transcriber import RESET_TEMPERATURE
from max_whisper.runtime.transcription.warnings import KEPT_TEXTS, Hearing, with_warnings
from max_whisper.runtime.transcription.words import Timing, assign_words, merge_punctuation

Result = TypeVar("Result")

CERTAIN_SECONDS = 2.0
"""The length from which on a phrase tells the language of those that follow it."""
TOKENS_PER_SECOND = 15
"""The most tokens of a hypothesis for each second of sound that is not confirmed; English has six in fast speech."""
SILENT_SECONDS = 1.5
"""The speech after which a phrase without a word is heard without those before it."""
SPARE_TOKENS = 16
"""The tokens that a hypothesis may have besides: a phrase whose text has no room for so many must end."""


class Recognizer:
    """Finds the text of the phrases of one stream, one after the other.

    Attributes:
        language: The code of the language; "" until it is certain.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        manifest: WhisperManifest,
        tokenizer: Tokenizer,
        options: TranscribeOptions,
        decoding: DecodingOptions,
        language: str,
    ) -> None:
        """Takes a model and the options of a stream. language: a code, or "" to detect it."""
        self._caller = Caller()
        self.language = language
        self._scheduler = scheduler
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._options = options
        self._decoding = replace(decoding, without_timestamps=True, language=language or None)
        self._takes_drafts = _takes_drafts(self._decoding, manifest, tokenizer)
        self._before = TextBefore(options, tokenizer, manifest.dims["n_text_ctx"])
        self._recent: list[Ending] = []  # the last phrases, one after the other, which the next one is heard with
        self._earlier: list[str] = []  # the texts of the last phrases
        self._last_speech = 0.0  # when the last word of the last phrase ended

    @property
    def window_seconds(self) -> float:
        """The seconds of sound that the model hears at once."""
        return self._manifest.dims["n_frames"] / FRAMES_PER_SECOND

    def cancel(self) -> None:
        """Makes all requests raise Cancelled from now on. May be called from any thread."""
        self._scheduler.cancel(self._caller)

    def check(self) -> None:
        """Raises Cancelled where it was cancelled."""
        if self._caller.cancelled:
            raise Cancelled

    def begin(self, phrase: Phrase, longest: float) -> None:
        """Finds the phrases that are heard before another one, so that the model knows what it is about.

        longest: the seconds of sound that these may have.
        """
        half = self._manifest.dims["n_text_ctx"] // 2
        while self._recent and (
            phrase.first - self._recent[0].first > longest * SAMPLE_RATE
            or sum(len(self._text(ending)) for ending in self._recent) > half // 2
        ):
            self._before.add(self._text(self._recent.pop(0)), unseen=False)
        phrase.window = self._recent[0].first if self._recent else phrase.first
        phrase.before = [token for ending in self._recent for token in self._text(ending)]

    def has_room(self, phrase: Phrase) -> bool:
        """Returns whether the text of a phrase may become longer."""
        return self._room(phrase) - len(phrase.tail) > SPARE_TOKENS

    def hear(self, phrase: Phrase, samples: Waveform) -> Found:
        """Returns what is found in the sound of a window so far, and notes it in the phrase.

        The confirmed words are given to the decoder, which goes on from there.
        """
        features, mel = self._encoded(samples)
        heard = mel.seconds
        phrase.language, phrase.is_certain = self._language_of(features, phrase)
        unconfirmed = phrase.offset + heard - phrase.confirmed_until
        most = min(self._room(phrase) - SPARE_TOKENS // 2, SPARE_TOKENS + int(TOKENS_PER_SECOND * unconfirmed))
        prefix = [*phrase.before, *phrase.confirmed] or None
        options = replace(self._at(0.0, phrase, draft=phrase.tail), prefix=prefix, max_new_tokens=most)
        result = self._answer(Decode(features, options))
        words = self._new_words(features, heard, phrase, [*phrase.confirmed, *result.tokens], len(phrase.confirmed))
        merge_punctuation(words, self._options.prepend_punctuations, self._options.append_punctuations)
        words = [word for word in words if word.word]
        if not words and heard - (phrase.first - phrase.window) / SAMPLE_RATE > SILENT_SECONDS:
            self.begin(phrase, 0.0)  # perhaps it has nothing to add to the phrases before it: the next time it is alone
        complete = words[:-1]  # the last word may go on: it waits for the next one
        count = phrase.policy.confirmed(complete, heard)
        phrase.confirmed += [token for word in words[:count] for token in word.tokens]
        phrase.tail = [token for word in words[count:] for token in word.tokens]
        timed = [_timed(word, phrase.offset) for word in words]
        if count:
            phrase.confirmed_until = timed[count - 1].end
        return Found(timed[:count], timed[count:])

    def end(self, phrase: Phrase, samples: Waveform) -> Ending:
        """Returns a whole phrase, whose text is that of `Model.decode` for the same window and text before it.

        Where the model has nothing to add to the phrases before it, it hears the phrase once more, alone.
        """
        ending = self._end(phrase, samples)
        if ending.segment is None and phrase.window < phrase.first:
            samples = samples[phrase.first - phrase.window :]
            self.begin(phrase, 0.0)
            ending = self._end(phrase, samples)
        return ending

    def _end(self, phrase: Phrase, samples: Waveform) -> Ending:
        features, mel = self._encoded(samples)
        phrase.language, phrase.is_certain = self._language_of(features, phrase)
        draft = [*phrase.confirmed, *phrase.tail]
        steps = with_retries(features, self._options, lambda t: self._at(t, phrase, draft=draft))
        results, attempts = self._outcome(steps)
        result = _most_credible(results, self._options) if attempts[-1].rejected else results[-1]
        segment = None
        if result.text and not is_silence(result, self._options):
            segment = self._segment(phrase, mel, features, result)
        return Ending(phrase.first, phrase.window + len(samples), segment, phrase.language, phrase.is_certain)

    def keep(self, ending: Ending) -> None:
        """Takes the text of a phrase as what was said before the next one."""
        segment = ending.segment
        long_enough = min(CERTAIN_SECONDS, self.window_seconds / 4) * SAMPLE_RATE
        if ending.is_certain and segment is not None and ending.last - ending.first >= long_enough:
            self.language = ending.language
        self._recent.append(ending)
        unseen = segment is not None and (
            not self._options.condition_on_previous_text or segment.temperature > RESET_TEMPERATURE
        )
        if segment is None or unseen:  # what the model hears before a phrase, it must have the text of
            self._before.add([token for one in self._recent for token in self._text(one)], unseen=unseen)
            self._recent = []
        if segment is not None:
            self._earlier = [*self._earlier, segment.text.strip()][-KEPT_TEXTS:]
            self._last_speech = segment.end

    def _segment(self, phrase: Phrase, mel: LogMel, features: WindowFeatures, result: DecodingResult) -> Segment:
        """Returns the text of a phrase with the times of its words and its warnings."""
        begin, heard = (phrase.first - phrase.window) / SAMPLE_RATE, mel.seconds
        measures = (result.temperature, result.avg_logprob, result.compression_ratio, result.no_speech_prob)
        text = self._tokenizer.decode(result.tokens)
        segment = Segment(phrase.window // HOP, begin, heard, text, result.tokens, *measures)
        (times,) = assign_words(
            [segment],
            self._new_words(features, heard, phrase, result.tokens, 0),
            eot=self._manifest.tokens.eot,
            offset=0.0,
            last_speech=self._last_speech - phrase.offset,
            prepended=self._options.prepend_punctuations,
            appended=self._options.append_punctuations,
        )
        timed = replace(segment, start=times.start, end=min(times.end, heard), words=times.words)
        (warned,) = with_warnings([timed], self._earlier, Hearing(mel, self._options), heard)
        return _later(warned, phrase.offset)

    def _encoded(self, samples: Waveform) -> tuple[WindowFeatures, LogMel]:
        """Returns the features of a window that begins with the samples, and the spectrogram of these."""
        n_frames = self._manifest.dims["n_frames"]
        mel = LogMel(samples, self._manifest.dims["n_mels"], padding=n_frames * HOP)
        return self._answer(Encode(mel.part(0, n_frames))), mel

    def _language_of(self, features: WindowFeatures, phrase: Phrase) -> tuple[str, bool]:
        """Returns the language of a phrase, and whether it is certain. Words that are confirmed keep theirs."""
        if self.language:
            return self.language, True
        if phrase.confirmed:
            return phrase.language, phrase.is_certain
        language, probability = next(iter(self._answer(DetectLanguage(features)).items()))
        return language, probability > self._options.language_detection_threshold

    def _at(self, temperature: float, phrase: Phrase, *, draft: Sequence[int]) -> DecodingOptions:
        """Returns the options of an attempt to decode a phrase. draft: tokens that it is likely to have."""
        options = replace(
            self._decoding,
            language=phrase.language,
            prompt=self._before.tokens or None,
            prefix=phrase.before or None,
            max_new_tokens=self._manifest.dims["n_text_ctx"] // 2 - len(phrase.before),
            draft=draft if draft and self._takes_drafts else None,
        )
        return options.at(temperature)

    def _room(self, phrase: Phrase) -> int:
        """Returns the most tokens that may follow the text before a phrase and its confirmed words."""
        return self._manifest.dims["n_text_ctx"] // 2 - len(phrase.before) - len(phrase.confirmed)

    def _new_words(
        self, features: WindowFeatures, heard: float, phrase: Phrase, tokens: Sequence[int], known: int
    ) -> list[Timing]:
        """Returns the words of a phrase, in seconds of the window, without its first `known` tokens of text."""
        text = [token for token in [*phrase.before, *tokens] if token < self._manifest.tokens.eot]
        if not text:
            return []
        n_frames = min(round(heard * FRAMES_PER_SECOND), self._manifest.dims["n_frames"])
        known, begin = known + len(phrase.before), (phrase.first - phrase.window) / SAMPLE_RATE
        new = []
        for word in self._answer(Align(features, text, phrase.language, self._decoding.task, n_frames)):
            rest = word.tokens[max(0, known) :]
            known -= len(word.tokens)
            word.start, word.end = max(word.start, begin), max(word.end, begin)  # a pause counts as part of a word
            if len(rest) == len(word.tokens):
                new.append(word)
            elif rest:  # it goes on behind what is known of it
                new.append(replace(word, word=self._tokenizer.decode(rest), tokens=rest))
        return new

    def _text(self, ending: Ending) -> list[int]:
        """Returns the tokens of the text of a phrase, without timestamps, which nothing forbids."""
        tokens = [] if ending.segment is None else ending.segment.tokens
        return [token for token in tokens if token < self._manifest.tokens.eot]

    def _answer(self, request: Request[Answer]) -> Answer:
        (answer,) = self._scheduler.ask([request], self._caller)
        return answer

    def _outcome(self, steps: Generator[Request[Any], Any, Result]) -> Result:
        """Answers the requests of a generator, and returns its result."""
        try:
            request = next(steps)
            while True:
                request = steps.send(self._answer(request))
        except StopIteration as ended:
            result: Result = ended.value
            return result


def _most_credible(results: Sequence[DecodingResult], options: TranscribeOptions) -> DecodingResult:
    """Returns the most probable of texts that were all refused; one that repeats itself only where all do.

    The last one, which openai/whisper takes, has the highest temperature: it makes sentences of a cough.
    """
    return max(results, key=lambda result: (not is_repetitive(result, options), result.avg_logprob))


def _takes_drafts(options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> bool:
    """Returns whether the model can verify drafts, with these options."""
    try:
        check_decoding(replace(options, draft=(0,)), manifest, tokenizer)
    except OptionError:
        return False
    return True


def _timed(word: Timing, offset: float) -> Word:
    """Returns a word with its times in seconds of the stream. offset: when the window begins."""
    return Word(word.word, round(offset + word.start, 2), round(offset + word.end, 2), word.probability)


def _later(segment: Segment, seconds: float) -> Segment:
    """Returns a segment whose times are so many seconds later."""

    def later(time: float) -> float:
        return round(time + seconds, 2)

    words = [replace(word, start=later(word.start), end=later(word.end)) for word in segment.words or ()]
    return replace(segment, start=later(segment.start), end=later(segment.end), words=words)
