"""What a session is set to, and the updates of that by its client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from max_whisper.runtime.streaming.options import StreamKeywords
from max_whisper.serve.live.formats import FORMATS, G711_RATE, HIGHEST_RATE, LOWEST_RATE, PCM, PCM_RATE, SoundFormat
from max_whisper.serve.realtime.fields import Fields, unsupported, wrong_value

HYPOTHESIS = "max_whisper.hypothesis"
"""What a client includes to get events of this type: the words that may follow those of the deltas. They are no part
of OpenAI's protocol."""
LOGPROBS = "item.input_audio_transcription.logprobs"
OPENAI_NAMES = ("whisper-1", "gpt-realtime-whisper")
"""The names of OpenAI's own Whispers, which stand for the first model."""
OPTION_FIELDS = {
    "language": "session.audio.input.transcription.language",
    "initial_prompt": "session.audio.input.transcription.prompt",
    "hotwords": "session.audio.input.transcription.keywords",
    "vad_threshold": "session.audio.input.turn_detection.threshold",
    "vad_speech_pad_ms": "session.audio.input.turn_detection.prefix_padding_ms",
    "vad_min_silence_duration_ms": "session.audio.input.turn_detection.silence_duration_ms",
    "endpoints": "session.audio.input.turn_detection",
}
"""The fields of sessions for options of `Model.stream`."""


@dataclass(frozen=True)
class ServerVad:
    """When a phrase begins and ends by itself.

    Attributes:
        threshold: The probability from which on sound is speech.
        prefix_padding_ms: The sound before the speech that the model hears as well.
        silence_duration_ms: The pause that ends a phrase.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500

    def json(self) -> dict[str, object]:
        """Returns it as sessions have it."""
        return {"type": "server_vad", **vars(self)}


@dataclass(frozen=True)
class Config:
    """What a session is set to.

    Attributes:
        model: The name of the model.
        language: What is spoken; None where it is to be detected.
        prompt: Text that the model reads before the first phrase; None for none.
        keywords: Names and terms that may be said.
        format: The format of the sound.
        turns: When phrases end; None where the client says it.
        include: What events have besides, or which others are sent: HYPOTHESIS.
    """

    model: str
    language: str | None = None
    prompt: str | None = None
    keywords: tuple[str, ...] = ()
    format: SoundFormat = field(default_factory=SoundFormat)
    turns: ServerVad | None = field(default_factory=ServerVad)
    include: tuple[str, ...] = ()

    @property
    def sound(self) -> Config:
        """What says how sound is heard: all but what events have besides."""
        return replace(self, include=())

    def options(self) -> StreamKeywords:
        """Returns the options of `Model.stream`."""
        options: StreamKeywords = {"endpoints": "none" if self.turns is None else "silero"}
        if self.turns is not None:
            options["vad_threshold"] = self.turns.threshold
            options["vad_speech_pad_ms"] = self.turns.prefix_padding_ms
            options["vad_min_silence_duration_ms"] = self.turns.silence_duration_ms
        if self.language:
            options["language"] = self.language
        if self.prompt:
            options["initial_prompt"] = self.prompt
        if self.keywords:
            options["hotwords"] = ", ".join(self.keywords)
        return options

    def json(self) -> dict[str, object]:
        """Returns the session as its events have it."""
        words = {"keywords": [*self.keywords]} if self.keywords else {}
        transcription = {"model": self.model, "language": self.language, "prompt": self.prompt, **words}
        sound = {
            "format": self.format.json(),
            "noise_reduction": None,
            "transcription": transcription,
            "turn_detection": None if self.turns is None else self.turns.json(),
        }
        return {"type": "transcription", "audio": {"input": sound}, "include": [*self.include]}

    def updated(self, session: Any) -> Config:
        """Returns this with what `session.update` changes; fields that are not given stay as they are.

        Raises RequestError, which names the field, for one that is unknown or wrong, or cannot be had.
        """
        fields = Fields("session", session, ("type", "audio", "include"))
        fields.word("type", ("transcription",), "this server has no sessions that answer")
        new = self._with_sound(fields.object("audio", ("input",)))
        if fields.has("include"):
            included = fields.texts("include")
            if LOGPROBS in included:
                raise unsupported("session.include", f"streams have no {LOGPROBS}; leave it out")
            for name in included:
                if name != HYPOTHESIS:
                    raise fields.wrong("include", f"{HYPOTHESIS}, or nothing", name)
            new = replace(new, include=tuple(dict.fromkeys(included)))
        return new

    def _with_sound(self, audio: Fields) -> Config:
        fields = audio.object("input", ("format", "noise_reduction", "transcription", "turn_detection"))
        if fields.value("noise_reduction") is not None:
            raise unsupported(f"{fields.path}.noise_reduction", "this server changes no sound; give null")
        new = self
        if fields.has("format"):
            new = replace(new, format=_format(fields.object("format", ("type", "rate"))))
        if fields.has("turn_detection"):
            new = replace(new, turns=_turns(fields, new.turns))
        if fields.has("transcription"):
            new = new._with_transcription(fields)
        return new

    def _with_transcription(self, fields: Fields) -> Config:
        if fields.value("transcription") is None:
            raise unsupported(f"{fields.path}.transcription", "this server does nothing else; leave it out")
        asked = fields.object("transcription", ("model", "language", "prompt", "keywords", "languages", "delay"))
        for name, why in {
            "delay": "the server says a word as soon as it is sure of it",
            "languages": "give one as language, or none to have it detected",
        }.items():
            if asked.value(name) is not None:
                raise unsupported(f"{asked.path}.{name}", f"{why}; leave it out")
        changes: dict[str, Any] = {}
        if asked.value("model") is not None:
            changes["model"] = asked.text("model")
        for name in ("language", "prompt"):
            if asked.has(name):
                changes[name] = asked.text(name)
        if asked.has("keywords"):
            changes["keywords"] = tuple(asked.texts("keywords"))
        return replace(self, **changes)


def _format(fields: Fields) -> SoundFormat:
    kind = fields.word("type", FORMATS) or PCM
    if kind != PCM:
        if fields.value("rate") not in (None, G711_RATE):
            raise fields.wrong("rate", f"{G711_RATE} for {kind}", fields.value("rate"))
        return SoundFormat(kind, G711_RATE)
    return SoundFormat(kind, fields.integer("rate", LOWEST_RATE, HIGHEST_RATE, PCM_RATE))


def _turns(fields: Fields, before: ServerVad | None) -> ServerVad | None:
    if fields.value("turn_detection") is None:
        return None
    others = ("create_response", "interrupt_response", "idle_timeout_ms")
    asked = fields.object("turn_detection", ("type", *vars(ServerVad()), *others))
    if asked.value("type") == "semantic_vad":
        raise unsupported(f"{asked.path}.type", "semantic_vad needs a model that this server has not; give server_vad")
    asked.word("type", ("server_vad",))
    for name in others:
        if asked.value(name):
            raise unsupported(f"{asked.path}.{name}", "there are no responses in a session that transcribes")
    old = before or ServerVad()
    return ServerVad(
        asked.number("threshold", 0, 1, old.threshold),
        asked.integer("prefix_padding_ms", 0, 1000, old.prefix_padding_ms),
        asked.integer("silence_duration_ms", 50, 28_000, old.silence_duration_ms),
    )


def first_config(default: str, query: Mapping[str, str]) -> Config:
    """Returns what a session is set to at first.

    default: the name of the first model. query: what stands behind the address. Raises RequestError for an intent that
    is not "transcription".
    """
    intent = query.get("intent", "transcription")
    if intent != "transcription":
        raise wrong_value("intent", "transcription (this server has no sessions that answer)", intent)
    return Config(query.get("model") or default)
