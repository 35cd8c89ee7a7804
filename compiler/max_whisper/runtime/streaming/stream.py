"""The class `Stream`: sound goes in chunk by chunk, and what was said comes out while it is said."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from numpy.typing import NDArray

from max_whisper.errors import UserError
from max_whisper.runtime.audio.waveform import SAMPLE_RATE, Waveform
from max_whisper.runtime.results import Word
from max_whisper.runtime.streaming.endpoints import Endpoints
from max_whisper.runtime.streaming.events import EventKind, StreamEvent
from max_whisper.runtime.streaming.options import StreamOptions
from max_whisper.runtime.streaming.phrase import Context, Ending, Phrase
from max_whisper.runtime.streaming.policies import policy_of
from max_whisper.runtime.streaming.recognizer import Recognizer
from max_whisper.runtime.streaming.sound import ChunkReader, Sound
from max_whisper.runtime.vad.detector import VoiceDetector

BEHIND_MS = 100
"""The silence behind the speech of a phrase that the model hears as well."""
BUSY = 0.5
"""The largest part of the time in which a phrase is listened to again."""
CONTEXT = 0.5
"""The part of a window that phrases before the one that is said may fill: the model hears them as well."""
SPARE_SECONDS = 2.0
"""How much shorter than a window the longest phrase is, with the sound before it: it ends some time after that."""
SHORTEST_SECONDS = 0.1
"""The sound that a phrase has at least: models invent words for less."""
PIECE = SAMPLE_RATE
"""The samples that are taken at once, so that the memory for a long chunk is bounded."""


class Stream:
    """Transcribes sound while it is said; `Model.stream` makes it. Its methods are for one thread at a time.

    The sizes of the chunks do not change a final text, as long as its phrase and those before it fit into a window.

    Attributes:
        finished: Whether `finish` was called: no sound is taken any more.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        detector: VoiceDetector | None,
        options: StreamOptions,
        sample_rate: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts with no sound. detector: hears where phrases end; None where the caller says it. clock: for costs."""
        self.finished = False
        self._recognizer = recognizer
        self._options = options
        self._clock = clock
        self._reader = ChunkReader(sample_rate)
        self._sound = Sound()
        self._voice = None if detector is None else detector.stream()
        self._chunk = PIECE if detector is None else detector.n_samples
        self._probed = 0  # the number of the first sample whose chunk was not heard by the detector
        self._longest = max(recognizer.window_seconds - SPARE_SECONDS, recognizer.window_seconds / 2)
        self._context = CONTEXT * recognizer.window_seconds
        self._endpoints = Endpoints(options.speech, self._longest)
        self._untaken: deque[Waveform] = deque()  # samples that have come and were not heard
        self._untold: list[StreamEvent] = []
        self._phrase: Phrase | None = None
        self._phrases = 0
        self._free_from = 0  # the sample behind the last phrase
        self._next_look = 0  # the sample from which on the phrase is listened to again
        self._behind_ms = min(BEHIND_MS, options.vad_min_silence_duration_ms)

    @property
    def seconds(self) -> float:
        """The duration of the sound so far, in seconds."""
        return (self._sound.end + sum(map(len, self._untaken))) / SAMPLE_RATE

    @property
    def language(self) -> str:
        """The code of the language; "" until a phrase tells it with certainty."""
        return self._recognizer.language

    def feed(self, chunk: NDArray[Any] | bytes) -> list[StreamEvent]:
        """Takes the next chunk of sound, and returns what it tells.

        Feed all sound that has come in since the last call: the phrase is listened to at most once.

        Args:
            chunk: Samples of any number, mono: an array [samples] of float32 or float64 of full scale 1.0, or of int16;
                or the bytes of s16le, which may end within a sample.

        Raises:
            AudioError: The chunk is no sound. It is left out, and the stream can go on.
            UserError: The stream was finished.
            Cancelled: The stream was cancelled.
        """
        if self.finished:
            raise UserError("the stream was finished: begin another one")
        self._recognizer.check()
        self._untaken.append(self._reader.read(chunk))
        return self._told(chain(self._hear(), self._look()))

    def commit(self) -> list[StreamEvent]:
        """Ends the phrase that is being said, if there is one, and returns what that tells."""
        return self._told(self._end_now())

    def finish(self) -> list[StreamEvent]:
        """Takes no more sound, ends the phrase that is being said, and returns what that tells.

        After an error it can be called again, and goes on.
        """
        if not self.finished:
            self._untaken.append(self._reader.rest())
            self.finished = True
        return self._told(chain(self._hear(), self._end_now()))

    def told(self) -> list[StreamEvent]:
        """Returns what no call has returned: the events before an error, where no other call is to follow it."""
        told, self._untold = self._untold, []
        return told

    def cancel(self) -> None:
        """Stops the stream: whoever feeds it gets Cancelled, now or with the next chunk.

        It may be called from any thread.
        """
        self._recognizer.cancel()

    def _told(self, events: Iterable[StreamEvent]) -> list[StreamEvent]:
        """Returns events. Those before an error are kept, and returned by the next call."""
        for event in events:
            self._untold.append(event)
        return self.told()

    def _end_now(self) -> Iterator[StreamEvent]:
        """Ends the phrase that is being said, if there is one."""
        yield from self._end_phrase(self._end_of_speech)

    def _hear(self) -> Iterator[StreamEvent]:
        """Takes the samples that have come, and yields the beginnings and the ends of phrases in them.

        After an error, the next call goes on behind it.
        """
        while self._untaken:
            samples = self._untaken.popleft()
            if len(samples) > PIECE:
                self._untaken.appendleft(samples[PIECE:])
            self._sound.append(samples[:PIECE])
            while self._sound.end - self._probed >= self._chunk:
                yield from self._probe(self._probed + self._chunk)
            if self._voice is None and self._probed < self._sound.end:
                yield from self._probe(self._sound.end)

    def _probe(self, now: int) -> Iterator[StreamEvent]:
        """Hears whether somebody speaks up to the sample `now`, and yields the beginning or the end of a phrase."""
        first, self._probed = self._probed, now
        endpoints, settings = self._endpoints, self._options.speech
        endpoints.hear(1.0 if self._voice is None else self._voice.step(self._sound.part(first, now)), first)
        if endpoints.began is None:
            self._sound.forget(now - settings.pad - round(self._context * SAMPLE_RATE))
        elif self._phrase is None:
            if self._voice is None or endpoints.spoken(now) > settings.min_speech_duration_ms:
                yield self._begin_phrase(endpoints.began)
            elif endpoints.ended(now):  # a click, or a cough
                endpoints.reset()
        elif endpoints.ended(now):
            yield from self._end_phrase(self._end_of_speech)
        elif self._is_too_long(self._phrase.heard, now) or not self._recognizer.has_room(self._phrase):
            if self._phrase.heard.first < self._phrase.first:
                self._phrase.heard = self._recognizer.alone(self._phrase)
            else:
                yield from self._cut_phrase(self._phrase, now)

    def _look(self) -> Iterator[StreamEvent]:
        """Listens to the phrase again if that is due, and yields what is found."""
        phrase, now = self._phrase, self._probed
        if phrase is None:
            return
        began = self._clock()
        if self._endpoints.silence(now) >= self._behind_ms:
            if phrase.ending is not None and phrase.ending.last == self._end_of_speech:
                return
            # The phrase may be over: then its text is there when the pause is long enough.
            phrase.ending = self._ending(phrase, self._end_of_speech)
        elif now >= self._next_look:
            yield from self._hear_again(phrase, now)
        else:
            return
        pause = max(self._options.step, (self._clock() - began) / BUSY)
        self._next_look = now + round(pause * SAMPLE_RATE)

    @property
    def _end_of_speech(self) -> int:
        """The number of the sample behind the speech so far, and behind a little silence after it."""
        if (silent_since := self._endpoints.silent_since) is None:
            return self._sound.end
        return min(silent_since + self._behind_ms * SAMPLE_RATE // 1000, self._probed)

    def _begin_phrase(self, began: int) -> StreamEvent:
        options = self._options
        first = max(began - options.speech.pad, self._free_from)
        policy = policy_of(options.policy, options.hold_back)
        context = self._recognizer.begin(first, self._context)
        self._phrase = Phrase(self._phrases, first, context, context, policy, confirmed_until=first / SAMPLE_RATE)
        self._phrases += 1
        self._next_look = first + round(options.step * SAMPLE_RATE)
        self._sound.forget(context.first)
        return StreamEvent("speech_started", self._phrase.number, began / SAMPLE_RATE, began / SAMPLE_RATE)

    def _hear_again(self, phrase: Phrase, now: int) -> Iterator[StreamEvent]:
        """Listens to what is there of a phrase, and yields the words that are found."""
        found = self._recognizer.hear(phrase, self._sound.part(phrase.heard.first, now))
        if found.confirmed:
            yield _words("confirmed", phrase, found.confirmed)
        text = "".join(word.word for word in found.hypothesis)
        if text != phrase.shown:
            phrase.shown = text
            yield _words("hypothesis", phrase, found.hypothesis)

    def _cut_phrase(self, phrase: Phrase, now: int) -> Iterator[StreamEvent]:
        """Ends a phrase that is too long behind its last confirmed word, where the next one begins."""
        if self._recognizer.has_room(phrase):
            yield from self._hear_again(phrase, now)
        cut = round(phrase.confirmed_until * SAMPLE_RATE)
        if cut < (phrase.first + now) // 2:  # what is left would be cut again soon
            cut = now
        cut = min(max(cut, phrase.first + 1), now)
        silent_since = self._endpoints.silent_since
        yield from self._end_phrase(cut)
        if cut < now:
            self._endpoints.silent_since = silent_since
            self._endpoints.cut(cut)
            yield self._begin_phrase(cut)

    def _end_phrase(self, last: int) -> Iterator[StreamEvent]:
        """Ends the phrase before the sample `last`, if one is being said."""
        phrase = self._phrase
        if phrase is None:
            return
        ending = phrase.ending
        if ending is None or ending.last != last:
            ending = self._ending(phrase, last)
        self._recognizer.keep(ending)
        self._phrase, self._free_from = None, last
        self._endpoints.reset()
        start, end, segment = phrase.first / SAMPLE_RATE, last / SAMPLE_RATE, ending.segment
        yield StreamEvent("speech_stopped", phrase.number, start, end)
        text, words = ("", []) if segment is None else (segment.text, segment.words or [])
        yield StreamEvent("final", phrase.number, start, end, text, words, segment, ending.language)

    def _ending(self, phrase: Phrase, last: int) -> Ending:
        """Returns what a phrase is if it ends before the sample `last`; what is too short has no text."""
        context = phrase.context
        if last - phrase.first < SHORTEST_SECONDS * SAMPLE_RATE:
            return Ending(phrase.first, last, context.first, None, phrase.language, is_certain=False)
        if self._is_too_long(context, last):
            context = self._recognizer.alone(phrase)
        return self._recognizer.end(phrase, context, self._sound.part(context.first, last))

    def _is_too_long(self, context: Context, last: int) -> bool:
        """Returns whether a window up to the sample `last` is as long as the model can hear."""
        return last - context.first >= self._longest * SAMPLE_RATE


def _words(kind: EventKind, phrase: Phrase, words: list[Word]) -> StreamEvent:
    """Returns the event that tells some words of a phrase; where there are none, they take no time."""
    start, end = (words[0].start, words[-1].end) if words else (phrase.confirmed_until, phrase.confirmed_until)
    return StreamEvent(kind, phrase.number, start, end, "".join(w.word for w in words), words, None, phrase.language)
