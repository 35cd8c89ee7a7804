"""Reads the fields of a transcription request as OpenAI's clients send them, and refuses what cannot be done."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from max_whisper.messages import quote
from max_whisper.runtime.transcription.options import TranscribeKeywords
from max_whisper.serve.errors import RequestError, unknown_field, wrong_field
from max_whisper.serve.fields import Fields, one_of_words

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
"""The forms of an answer, the first of which is the default."""
RISING_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""The temperatures that are tried in turn where a request asks for 0, as OpenAI's API describes it."""
LISTS = ("languages", "keywords", "timestamp_granularities", "include")
"""The fields that may have several values; clients write them with [] behind their names."""
TRANSCRIPTION_FIELDS = (
    "model",
    "language",
    "languages",
    "prompt",
    "keywords",
    "response_format",
    "temperature",
    "timestamp_granularities",
    "include",
    "chunking_strategy",
    "stream",
)
TRANSLATION_FIELDS = ("model", "prompt", "response_format", "temperature")
KNOWN_SPEAKERS = ("known_speaker_names", "known_speaker_references")


@dataclass(frozen=True)
class TranscriptionRequest:
    """What a request asks for.

    Attributes:
        model: The name of the model; None where it names none.
        options: Those of `Model.transcribe`.
        languages: The languages that may be spoken, of which the most probable is taken; empty for any.
        response_format: One of FORMATS.
        segments: Whether verbose_json lists segments.
        words: Whether verbose_json lists words.
        logprobs: Whether the log-probability of each token is listed.
        stream: Whether the text is sent as it comes.
    """

    model: str | None
    options: TranscribeKeywords
    languages: tuple[str, ...]
    response_format: str
    segments: bool
    words: bool
    logprobs: bool
    stream: bool


def read_fields(sent: Mapping[str, list[str]], known: Collection[str], task: str) -> TranscriptionRequest:
    """Returns what the fields of a form ask for.

    Args:
        sent: The values of each field.
        known: The fields that this address takes: TRANSCRIPTION_FIELDS or TRANSLATION_FIELDS.
        task: "transcribe" or "translate".

    Raises:
        RequestError: A field is unknown, or its value is wrong, cannot be had, or conflicts with another.
    """
    fields = _Fields(sent, known)
    response_format = fields.choice("response_format", FORMATS)
    granularities = fields.choices("timestamp_granularities", ("word", "segment"))
    if granularities and response_format != "verbose_json":
        raise wrong_field("timestamp_granularities", "needs response_format verbose_json")
    logprobs = bool(fields.choices("include", ("logprobs",)))
    if logprobs and response_format != "json":
        raise wrong_field("include", "logprobs needs response_format json")
    stream = fields.flag("stream")
    if stream and response_format not in ("json", "text"):
        raise wrong_field("stream", f"needs response_format json or text, got {response_format}")
    language, languages = fields.text("language"), fields.list("languages")
    if language and languages:
        raise wrong_field("languages", "give either language or languages")
    options: TranscribeKeywords = {"task": task, "temperature": fields.temperature()}
    if language:
        options["language"] = language
    if prompt := fields.text("prompt"):
        options["initial_prompt"] = prompt
    if keywords := fields.list("keywords"):
        options["hotwords"] = ", ".join(keywords)
    if "word" in granularities:
        options["word_timestamps"] = True
    options.update(fields.chunking())
    return TranscriptionRequest(
        model=fields.text("model"),
        options=options,
        languages=tuple(languages),
        response_format=response_format,
        segments=not granularities or "segment" in granularities,
        words="word" in granularities,
        logprobs=logprobs,
        stream=stream,
    )


class _Fields(Fields):
    """The values of known fields, of which some are lists."""

    def __init__(self, sent: Mapping[str, list[str]], known: Collection[str]) -> None:
        super().__init__()
        self._lists: dict[str, list[str]] = {}
        self._chunking: dict[str, str] = {}
        for name, values in sent.items():
            plain, bracket, key = name.partition("[")
            key = key.removesuffix("]")
            if plain in KNOWN_SPEAKERS or (plain == "response_format" and "diarized_json" in values):
                raise RequestError(
                    400, f"{name}: who speaks cannot be told by Whisper; leave it out", param=name, code="unsupported"
                )
            if plain not in known or (bracket and not (plain in LISTS or plain == "chunking_strategy")):
                raise unknown_field(name, ["file", *known])
            if plain == "chunking_strategy" and key:
                self._chunking[key] = values[-1]
            elif plain in LISTS:
                self._lists.setdefault(plain, []).extend(value for value in values if value)
            elif len(values) > 1:
                raise wrong_field(name, f"expected one value, got {len(values)}")
            else:
                self._values[plain] = values[0]

    def list(self, name: str) -> list[str]:
        """Returns all values of a field."""
        return self._lists.get(name, [])

    def choices(self, name: str, words: Collection[str]) -> set[str]:
        """Returns several words of several."""
        for word in self.list(name):
            one_of_words(name, word, words)
        return {*self.list(name)}

    def temperature(self) -> float | tuple[float, ...]:
        """Returns the temperature, or several that are tried in turn where it is 0 or not given."""
        number = _number("temperature", self.text("temperature") or "0", 0, 1)
        return number if number > 0 else RISING_TEMPERATURES

    def chunking(self) -> TranscribeKeywords:
        """Returns the options for `chunking_strategy`: "auto", or an object for the detector of speech."""
        name = "chunking_strategy"
        given, text = {**self._chunking}, self.text(name)
        if text == "auto" and not given:
            return {"vad_filter": True}
        if text and text != "auto":
            given |= _json_object(name, text)
        if not given and text is None:
            return {}
        unknown = given.keys() - {"type", "threshold", "prefix_padding_ms", "silence_duration_ms"}
        if given.get("type") != "server_vad" or unknown:
            kind = f"type {quote(str(given['type']))}" if "type" in given else "no type"
            odd = f"the key {quote(min(unknown))}" if unknown else kind
            raise wrong_field(
                name,
                "expected auto, or an object with type server_vad and threshold, prefix_padding_ms or "
                f"silence_duration_ms, got {odd}",
            )
        options: TranscribeKeywords = {"vad_filter": True}
        if "threshold" in given:
            options["vad_threshold"] = _number(f"{name}.threshold", given["threshold"], 0, 1)
        if "prefix_padding_ms" in given:
            options["vad_speech_pad_ms"] = int(_number(f"{name}.prefix_padding_ms", given["prefix_padding_ms"], 0, 1e6))
        if "silence_duration_ms" in given:
            silence = _number(f"{name}.silence_duration_ms", given["silence_duration_ms"], 0, 1e6)
            options["vad_min_silence_duration_ms"] = int(silence)
        return options


def _number(name: str, text: Any, low: float, high: float) -> float:
    try:
        number = float(text)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not low <= number <= high:  # not true of NaN either
        raise wrong_field(name, f"expected a number, {low:g} to {high:g}, got {quote(str(text))}")
    return number


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise wrong_field(name, f"expected auto, or an object as JSON, got {quote(text)}")
    return value
