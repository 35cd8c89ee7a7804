"""Finds the text of a phrase with the compiled graphs: a hypothesis while it is said, and the final text."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.errors import Cancelled
from max_whisper.mel_filters import N_FFT
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
from max_whisper.runtime.transcription.quality import is_silence
from max_whisper.runtime.transcription.requests import Align, Answer, Decode, DetectLanguage, Encode, Request
from max_whisper.runtime.transcription.retries import with_retries
from max_whisper.runtime.transcription.scheduler import Caller, Scheduler
from max_whisper.runtime.transcription.text_before import TextBefore
from max_whisper.runtime.transcription.transcriber import RESET_TEMPERATURE
from max_whisper.runtime.transcription.warnings import KEPT_TEXTS, Hearing, with_warnings
from max_whisper.runtime.transcription.words import Timing, assign_words, merge_punctuation

Result = TypeVar("Result")

TOKENS_PER_SECOND = 10
"""The most tokens of a hypothesis for each second of sound that is not confirmed; fast speech has six."""
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
        self._earlier: list[str] = []  # the texts of the last phrases
        self._last_speech = 0.0  # when the last word of the last phrase ended

    def cancel(self) -> None:
        """Makes all requests raise Cancelled from now on. May be called from any thread."""
        self._scheduler.cancel(self._caller)

    def check(self) -> None:
        """Raises Cancelled where it was cancelled."""
        if self._caller.cancelled:
            raise Cancelled

    def has_room(self, phrase: Phrase) -> bool:
        """Returns whether the text of a phrase may become longer."""
        return self._room(phrase) > SPARE_TOKENS

    def hear(self, phrase: Phrase, samples: Waveform) -> Found:
        """Returns what is found in the sound of a phrase so far, and notes it in the phrase.

        The confirmed words are given to the decoder, which goes on from there.
        """
        features, heard = self._encoded(samples)
        language, is_certain = self._language_of(features, phrase)
        unconfirmed = phrase.first / SAMPLE_RATE + heard - phrase.confirmed_until
        most = min(self._room(phrase), SPARE_TOKENS + int(TOKENS_PER_SECOND * unconfirmed))
        options = replace(
            self._at(0.0, language, draft=phrase.tail), prefix=phrase.confirmed or None, max_new_tokens=most
        )
        result = self._answer(Decode(features, options))
        words = self._new_words(self._aligned(features, [*phrase.confirmed, *result.tokens], language, heard), phrase)
        complete = words[:-1]  # the last word may go on: it waits for the next one
        count = phrase.policy.confirmed(complete, heard)
        phrase.language, phrase.is_certain = language, is_certain
        phrase.confirmed += [token for word in words[:count] for token in word.tokens]
        phrase.tail = [token for word in words[count:] for token in word.tokens]
        timed = [self._timed(word, phrase) for word in words]
        if count:
            phrase.confirmed_until = timed[count - 1].end
        return Found(timed[:count], timed[count:])

    def end(self, phrase: Phrase, samples: Waveform) -> Ending:
        """Returns a whole phrase, whose text is that of `Model.decode` for the same window and text before it."""
        last = phrase.first + len(samples)
        features, heard = self._encoded(samples)
        language, is_certain = self._language_of(features, phrase)
        draft = [*phrase.confirmed, *phrase.tail]
        steps = with_retries(features, self._options, lambda t: self._at(t, language, draft=draft))
        result, _ = self._outcome(steps)
        segment = None
        if result.text and not is_silence(result, self._options):
            segment = self._segment(phrase, samples, features, result)
        return Ending(last, segment, language, is_certain)

    def keep(self, ending: Ending) -> None:
        """Takes the text of a phrase as what was said before the next one."""
        if ending.is_certain:
            self.language = ending.language
        if (segment := ending.segment) is None:
            return
        unseen = not self._options.condition_on_previous_text or segment.temperature > RESET_TEMPERATURE
        self._before.add(segment.tokens, unseen=unseen)
        self._earlier = [*self._earlier, segment.text.strip()][-KEPT_TEXTS:]
        self._last_speech = segment.end

    def _segment(self, phrase: Phrase, samples: Waveform, features: WindowFeatures, result: DecodingResult) -> Segment:
        """Returns the text of a phrase with the times of its words and its warnings."""
        start, heard = phrase.first / SAMPLE_RATE, len(samples) / SAMPLE_RATE
        measures = (result.temperature, result.avg_logprob, result.compression_ratio, result.no_speech_prob)
        text = self._tokenizer.decode(result.tokens)
        segment = Segment(phrase.first // HOP, 0.0, heard, text, result.tokens, *measures)
        (times,) = assign_words(
            [segment],
            self._aligned(features, result.tokens, result.language, heard),
            eot=self._manifest.tokens.eot,
            offset=0.0,
            last_speech=self._last_speech - start,
            prepended=self._options.prepend_punctuations,
            appended=self._options.append_punctuations,
        )
        timed = replace(segment, start=times.start, end=min(times.end, heard), words=times.words)
        mel = LogMel(samples, self._manifest.dims["n_mels"], padding=N_FFT)
        (warned,) = with_warnings([timed], self._earlier, Hearing(mel, self._options), heard)
        return _later(warned, start)

    def _encoded(self, samples: Waveform) -> tuple[WindowFeatures, float]:
        """Returns the features of a window that begins with the samples, and how many seconds these are."""
        n_frames = self._manifest.dims["n_frames"]
        mel = LogMel(samples, self._manifest.dims["n_mels"], padding=n_frames * HOP)
        return self._answer(Encode(mel.part(0, n_frames))), len(samples) / SAMPLE_RATE

    def _language_of(self, features: WindowFeatures, phrase: Phrase) -> tuple[str, bool]:
        """Returns the language of a phrase, and whether it is certain. Words that are confirmed keep theirs."""
        if self.language:
            return self.language, True
        if phrase.confirmed:
            return phrase.language, phrase.is_certain
        language, probability = next(iter(self._answer(DetectLanguage(features)).items()))
        return language, probability > self._options.language_detection_threshold

    def _at(self, temperature: float, language: str, *, draft: Sequence[int]) -> DecodingOptions:
        """Returns the options of an attempt to decode a phrase. draft: tokens that it is likely to have."""
        options = replace(
            self._decoding,
            language=language,
            prompt=self._before.tokens or None,
            draft=draft if draft and self._takes_drafts else None,
        )
        return options.at(temperature)

    def _room(self, phrase: Phrase) -> int:
        """Returns the most tokens that may follow the confirmed ones."""
        return self._decoding.limit(self._manifest) - len(phrase.confirmed)

    def _aligned(self, features: WindowFeatures, tokens: Sequence[int], language: str, heard: float) -> list[Timing]:
        """Returns the words of a text, in seconds of the phrase."""
        text = [token for token in tokens if token < self._manifest.tokens.eot]
        if not text:
            return []
        n_frames = min(round(heard * FRAMES_PER_SECOND), self._manifest.dims["n_frames"])
        return self._answer(Align(features, text, language, self._decoding.task, n_frames))

    def _new_words(self, words: Sequence[Timing], phrase: Phrase) -> list[Timing]:
        """Returns the words that are not confirmed, with their punctuation."""
        known, new = len(phrase.confirmed), []
        for word in words:
            rest = word.tokens[max(0, known) :]
            known -= len(word.tokens)
            if len(rest) == len(word.tokens):
                new.append(word)
            elif rest:  # it goes on behind what is confirmed of it
                new.append(replace(word, word=self._tokenizer.decode(rest), tokens=rest))
        merge_punctuation(new, self._options.prepend_punctuations, self._options.append_punctuations)
        return [word for word in new if word.word]

    def _timed(self, word: Timing, phrase: Phrase) -> Word:
        """Returns a word with its times in seconds of the stream."""
        offset = phrase.first / SAMPLE_RATE
        return Word(word.word, round(offset + word.start, 2), round(offset + word.end, 2), word.probability)

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


def _takes_drafts(options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> bool:
    """Returns whether the model can verify drafts, with these options."""
    try:
        check_decoding(replace(options, draft=(0,)), manifest, tokenizer)
    except OptionError:
        return False
    return True


def _later(segment: Segment, seconds: float) -> Segment:
    """Returns a segment whose times are so many seconds later."""

    def later(time: float) -> float:
        return round(time + seconds, 2)

    words = [replace(word, start=later(word.start), end=later(word.end)) for word in segment.words or ()]
    return replace(segment, start=later(segment.start), end=later(segment.end), words=words)
