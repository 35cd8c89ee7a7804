"""Replays recordings to a stream in a time that is computed: each run of a graph takes what was measured before.

So the figures do not depend on what else the machine does, and an hour of sound takes less than an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from time import perf_counter
from typing import Any

import max_whisper
import numpy as np
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.streaming.opening import open_stream
from max_whisper.runtime.streaming.options import checked_stream_options
from max_whisper.runtime.streaming.stream import BEHIND_MS
from max_whisper.runtime.transcription.requests import Align, Decode, DetectLanguage, Encode, Request
from max_whisper.runtime.transcription.scheduler import Caller, Scheduler
from numpy.typing import NDArray

from benchmarks.common import SAMPLE_RATE

CHUNK = SAMPLE_RATE // 50
"""The samples that come at once: those of 20 ms, as microphones, browsers and telephones bring them."""
ROUNDS = 7


@dataclass(frozen=True)
class Costs:
    """What each part of the work takes, in seconds; medians of an idle machine.

    Attributes:
        encode: The features of a window, with its keys and values.
        prefill: The first token after a short prompt.
        prompt_token: Each further token of a prompt.
        step: Each further token of a text.
        drafted: Each token of a text whose draft was right.
        align: The times of the words of a short text.
        aligned_token: Each further token of that text.
        probe: The probability of speech in a chunk.
    """

    encode: float
    prefill: float
    prompt_token: float
    step: float
    drafted: float
    align: float
    aligned_token: float
    probe: float

    def of(self, request: Request[Any], answer: Any) -> float:
        """Returns what the answer to a request takes."""
        if isinstance(request, Encode):
            return self.encode
        if isinstance(request, Align):
            return self.align + self.aligned_token * len(request.tokens)
        if isinstance(request, DetectLanguage):
            return self.prefill
        if isinstance(request, Decode):
            given = len(request.options.prompt or ()) + len(request.options.prefix or ())
            right = _in_common(request.options.draft, answer.tokens)
            written = len(answer.tokens) + 1 - right
            return self.prefill + given * self.prompt_token + right * self.drafted + written * self.step
        raise TypeError(f"no cost of a {type(request).__name__}")


def measured(model: max_whisper.Model, detector: max_whisper.VoiceDetector, sound: NDArray[np.float32]) -> Costs:
    """Returns the costs of a model on this machine. sound: some seconds of speech, at most a window."""
    mel = model.log_mel(sound, padding=model.n_frames * 160)[:, : model.n_frames]
    (features,) = model.scheduler.ask([Encode(mel)])
    language = "en"
    options = DecodingOptions(language=language, without_timestamps=True, max_new_tokens=1)
    (first,) = model.scheduler.ask([Decode(features, replace(options, max_new_tokens=None))])
    tokens = first.tokens

    def seconds(request: Request[Any]) -> float:
        times = []
        for _ in range(ROUNDS):
            began = perf_counter()
            model.scheduler.ask([request])
            times.append(perf_counter() - began)
        return median(times)

    def decode(**changed: Any) -> float:
        return seconds(Decode(features, replace(options, **changed)))

    count = len(tokens)
    short, long = decode(), decode(prompt=tokens[:50] * 4)
    whole, drafted = decode(max_new_tokens=None), decode(max_new_tokens=None, draft=tokens)
    aligned = [seconds(Align(features, part, language, "transcribe", model.n_frames)) for part in (tokens[:4], tokens)]
    stream, chunk = detector.stream(), sound[: detector.n_samples]
    began = perf_counter()
    for _ in range(200):
        stream.step(chunk)
    probe = (perf_counter() - began) / 200
    token = (aligned[1] - aligned[0]) / (count - 4)
    return Costs(
        encode=median(_first_token(model, mel, options) for _ in range(ROUNDS)) - short,
        prefill=short,
        prompt_token=(long - short) / len(tokens[:50] * 4),
        step=(whole - short) / count,
        drafted=(drafted - short) / count,
        align=aligned[0] - 4 * token,
        aligned_token=token,
        probe=probe,
    )


def _first_token(model: max_whisper.Model, mel: NDArray[np.float32], options: DecodingOptions) -> float:
    """Returns the seconds from a spectrogram to the first token, with which keys and values are computed."""
    began = perf_counter()
    (features,) = model.scheduler.ask([Encode(mel)])
    model.scheduler.ask([Decode(features, options)])
    return perf_counter() - began


class Clock:
    """The time of a replay, in seconds since the recording began."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Charged:
    """A scheduler whose answers take what they cost, by a clock.

    Attributes:
        spent: The seconds that all answers took.
    """

    def __init__(self, scheduler: Scheduler, costs: Costs, clock: Clock) -> None:
        self._scheduler = scheduler
        self._costs = costs
        self._clock = clock
        self.spent = 0.0

    def ask(self, requests: Sequence[Request[Any]], caller: Caller | None = None) -> list[Any]:
        """Returns the answers to requests, and lets the clock go on."""
        answers = self._scheduler.ask(requests, caller)
        for request, answer in zip(requests, answers, strict=True):
            self.charge(self._costs.of(request, answer))
        return answers

    def charge(self, seconds: float) -> None:
        """Lets the clock go on."""
        self._clock.now += seconds
        self.spent += seconds

    def cancel(self, caller: Caller) -> None:
        """Cancels a caller."""
        self._scheduler.cancel(caller)


def replay(
    model: max_whisper.Model,
    detector: max_whisper.VoiceDetector,
    costs: Costs,
    sound: NDArray[np.float32],
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Yields the events of a recording, as workers/replay.py writes them; that at its end has the time of computing."""
    clock = Clock()
    charged = Charged(model.scheduler, costs, clock)
    checked = checked_stream_options(options, model.manifest, model.tokenizer)
    stream = open_stream(
        charged,
        model.manifest,
        model.tokenizer,
        detector,
        checked,
        SAMPLE_RATE,
        clock,  # type: ignore[arg-type]
    )
    texts: list[str] = []

    def told(events: list[max_whisper.StreamEvent]) -> Iterator[dict[str, Any]]:
        for event in events:
            if event.kind in ("confirmed", "hypothesis", "final"):
                texts.extend([event.text] if event.kind == "final" else [])
                yield {
                    "event": event.kind,
                    "at": clock.now,
                    "text": event.text,
                    "phrase_end": event.end - BEHIND_MS / 1000,
                }

    fed = 0
    while fed < len(sound):
        due = min(len(sound), max(fed + CHUNK, int(clock.now * SAMPLE_RATE) // CHUNK * CHUNK))
        clock.now = max(clock.now, due / SAMPLE_RATE)
        charged.charge(costs.probe * (due - fed) / detector.n_samples)
        yield from told(stream.feed(sound[fed:due]))
        fed = due
    yield from told(stream.finish())
    yield {"event": "end", "at": clock.now, "text": "".join(texts), "busy_seconds": charged.spent, **asdict(costs)}


def _in_common(draft: Any, tokens: Sequence[int]) -> int:
    """Returns how many tokens a text has in common with its draft, from the first on."""
    pairs = zip(draft or (), tokens, strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(draft or ()), len(tokens)))
