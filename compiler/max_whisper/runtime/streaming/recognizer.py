"""Finds the text of a phrase with the compiled graphs: a hypothesis while it is said, and the final text."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from copy import copy
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
from max_whisper.runtime.results import DecodingResult, Segment
from max_whisper.runtime.streaming.phrase import Context, Ending, Found, Phrase
from max_whisper.runtime.streaming.times import later_segment, stream_word
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.quality import is_silence
from max_whisper.runtime.transcription.requests import Align, Answer, Decode, DetectLanguage, Encode, Request
from max_whisper.runtime.transcription.retries import most_credible, with_retries
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

    def begin(self, first: int, longest: float) -> Context:
        """Returns what a phrase is heard with, so that the model knows what it is about; those after it have no more.

        first: the number of its first sample. longest: the seconds of sound of the phrases before it.
        """
        half = self._manifest.dims["n_text_ctx"] // 2
        while self._recent and (
            first - self._recent[0].first > longest * SAMPLE_RATE
            or sum(len(self._text(ending)) for ending in self._recent) > half // 2
        ):
            self._before.add(self._text(self._recent.pop(0)), unseen=False)
        prefix = [token for ending in self._recent for token in self._text(ending)]
        return Context(self._recent[0].first if self._recent else first, prefix, self._before.tokens)

    def alone(self, phrase: Phrase) -> Context:
        """Returns what a phrase is heard with alone: of those before it, the model reads the text."""
        before = copy(self._before)
        for ending in self._recent:
            before.add(self._text(ending), unseen=False)
        return Context(phrase.first, [], before.tokens)

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
        if not phrase.is_certain:
            return Found([], [])  # words in another language would be shown, and perhaps confirmed
        context = phrase.heard
        unconfirmed = context.offset + heard - phrase.confirmed_until
        most = min(self._room(phrase) - SPARE_TOKENS // 2, SPARE_TOKENS + int(TOKENS_PER_SECOND * unconfirmed))
        prefix = [*context.prefix, *phrase.confirmed] or None
        options = replace(self._at(0.0, phrase, context, draft=phrase.tail), prefix=prefix, max_new_tokens=most)
        result = self._answer(Decode(features, options))
        tokens, known = [*phrase.confirmed, *result.tokens], len(phrase.confirmed)
        words = self._new_words(features, heard, phrase, context, tokens, known)
        merge_punctuation(words, self._options.prepend_punctuations, self._options.append_punctuations)
        words = [word for word in words if word.word]
        if not words and context.offset + heard - phrase.first / SAMPLE_RATE > SILENT_SECONDS:
            phrase.heard = self.alone(phrase)  # perhaps it has nothing to add to the phrases before it
        complete = words[:-1]  # the last word may go on: it waits for the next one
        count = phrase.policy.confirmed(complete, heard)
        phrase.confirmed += [token for word in words[:count] for token in word.tokens]
        phrase.tail = [token for word in words[count:] for token in word.tokens]
        timed = [stream_word(word, context.offset) for word in words]
        if count:
            phrase.confirmed_until = timed[count - 1].end
        return Found(timed[:count], timed[count:])

    def end(self, phrase: Phrase, context: Context, samples: Waveform) -> Ending:
        """Returns a whole phrase, whose text is that of `Model.decode` for the same window and text before it.

        Where the model has nothing to add to the phrases before it, or the text of these leaves too little room, it
        hears the phrase once more, alone.

        context: that of the phrase, or `alone`. samples: those of the window.
        """
        ending, is_complete = self._end(phrase, context, samples)
        if context.first < phrase.first and (ending.segment is None or not is_complete):
            ending, _ = self._end(phrase, self.alone(phrase), samples[phrase.first - context.first :])
        return ending

    def _end(self, phrase: Phrase, context: Context, samples: Waveform) -> tuple[Ending, bool]:
        """Returns a whole phrase, and whether there was room for its text."""
        features, mel = self._encoded(samples)
        phrase.language, phrase.is_certain = self._language_of(features, phrase)
        draft = [*phrase.confirmed, *phrase.tail]
        steps = with_retries(features, self._options, lambda t: self._at(t, phrase, context, draft=draft))
        results, attempts = self._outcome(steps)
        result = most_credible(results, self._options) if attempts[-1].rejected else results[-1]
        segment = None
        if result.text and not is_silence(result, self._options):
            segment = self._segment(phrase, context, mel, features, result)
        last = context.first + len(samples)
        ending = Ending(phrase.first, last, context.first, segment, phrase.language, phrase.is_certain)
        return ending, len(result.tokens) < self._most(context)

    def keep(self, ending: Ending) -> None:
        """Takes the text of a phrase as what was said before the next one."""
        segment = ending.segment
        long_enough = min(CERTAIN_SECONDS, self.window_seconds / 4) * SAMPLE_RATE
        if ending.is_certain and segment is not None and ending.last - ending.first >= long_enough:
            self.language = ending.language
        if ending.window == ending.first:  # it was heard alone, and so are those that follow it
            self.begin(ending.first, 0.0)
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

    def _segment(
        self, phrase: Phrase, context: Context, mel: LogMel, features: WindowFeatures, result: DecodingResult
    ) -> Segment:
        """Returns the text of a phrase with the times of its words and its warnings."""
        begin, heard = (phrase.first - context.first) / SAMPLE_RATE, mel.seconds
        measures = (result.temperature, result.avg_logprob, result.compression_ratio, result.no_speech_prob)
        text = self._tokenizer.decode(result.tokens)
        segment = Segment(context.first // HOP, begin, heard, text, result.tokens, *measures)
        (times,) = assign_words(
            [segment],
            self._new_words(features, heard, phrase, context, result.tokens, 0),
            eot=self._manifest.tokens.eot,
            offset=0.0,
            last_speech=self._last_speech - context.offset,
            prepended=self._options.prepend_punctuations,
            appended=self._options.append_punctuations,
        )
        timed = replace(segment, start=times.start, end=min(times.end, heard), words=times.words)
        (warned,) = with_warnings([timed], self._earlier, Hearing(mel, self._options), heard)
        return later_segment(warned, context.offset)

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

    def _at(self, temperature: float, phrase: Phrase, context: Context, *, draft: Sequence[int]) -> DecodingOptions:
        """Returns the options of an attempt to decode a phrase. draft: tokens that it is likely to have."""
        options = replace(
            self._decoding,
            language=phrase.language,
            prompt=context.prompt or None,
            prefix=context.prefix or None,
            max_new_tokens=self._most(context),
            draft=draft if draft and self._takes_drafts else None,
        )
        return options.at(temperature)

    def _room(self, phrase: Phrase) -> int:
        """Returns the most tokens that may follow the text before a phrase and its confirmed words."""
        return self._most(phrase.heard) - len(phrase.confirmed)

    def _most(self, context: Context) -> int:
        """Returns the most tokens that the text of a phrase may have."""
        return self._manifest.dims["n_text_ctx"] // 2 - len(context.prefix)

    def _new_words(
        self,
        features: WindowFeatures,
        heard: float,
        phrase: Phrase,
        context: Context,
        tokens: Sequence[int],
        known: int,
    ) -> list[Timing]:
        """Returns the words of a phrase, in seconds of the window, without its first `known` tokens of text."""
        text = [token for token in [*context.prefix, *tokens] if token < self._manifest.tokens.eot]
        if not text:
            return []
        n_frames = min(round(heard * FRAMES_PER_SECOND), self._manifest.dims["n_frames"])
        begin = phrase.confirmed_until if known else phrase.first / SAMPLE_RATE
        known, begin = known + len(context.prefix), begin - context.offset
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


def _takes_drafts(options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> bool:
    """Returns whether the model can verify drafts, with these options."""
    try:
        check_decoding(replace(options, draft=(0,)), manifest, tokenizer)
    except OptionError:
        return False
    return True
