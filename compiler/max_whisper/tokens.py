"""The special tokens of a vocabulary, and the decoding rules that come with it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from max_whisper.records import Dim, Id, Name, Natural, Record

N_BOUNDS = 4
"""The number of token ids that bound the tokens that may come next.

They are the first and the end of the text tokens, and the first and the end of the timestamps; an end is not included.
"""
TIME_PRECISION = 0.02
"""Seconds from one timestamp token to the next."""

# fmt: off
LANGUAGES = {
    "en": "english", "zh": "chinese", "de": "german", "es": "spanish", "ru": "russian", "ko": "korean",
    "fr": "french", "ja": "japanese", "pt": "portuguese", "tr": "turkish", "pl": "polish", "ca": "catalan",
    "nl": "dutch", "ar": "arabic", "sv": "swedish", "it": "italian", "id": "indonesian", "hi": "hindi",
    "fi": "finnish", "vi": "vietnamese", "he": "hebrew", "uk": "ukrainian", "el": "greek", "ms": "malay",
    "cs": "czech", "ro": "romanian", "da": "danish", "hu": "hungarian", "ta": "tamil", "no": "norwegian",
    "th": "thai", "ur": "urdu", "hr": "croatian", "bg": "bulgarian", "lt": "lithuanian", "la": "latin", "mi": "maori",
    "ml": "malayalam", "cy": "welsh", "sk": "slovak", "te": "telugu", "fa": "persian", "lv": "latvian",
    "bn": "bengali", "sr": "serbian", "az": "azerbaijani", "sl": "slovenian", "kn": "kannada", "et": "estonian",
    "mk": "macedonian", "br": "breton", "eu": "basque", "is": "icelandic", "hy": "armenian", "ne": "nepali",
    "mn": "mongolian", "bs": "bosnian", "kk": "kazakh", "sq": "albanian", "sw": "swahili", "gl": "galician",
    "mr": "marathi", "pa": "punjabi", "si": "sinhala", "km": "khmer", "sn": "shona", "yo": "yoruba", "so": "somali",
    "af": "afrikaans", "oc": "occitan", "ka": "georgian", "be": "belarusian", "tg": "tajik", "sd": "sindhi",
    "gu": "gujarati", "am": "amharic", "yi": "yiddish", "lo": "lao", "uz": "uzbek", "fo": "faroese",
    "ht": "haitian creole", "ps": "pashto", "tk": "turkmen", "nn": "nynorsk", "mt": "maltese", "sa": "sanskrit",
    "lb": "luxembourgish", "my": "myanmar", "bo": "tibetan", "tl": "tagalog", "mg": "malagasy", "as": "assamese",
    "tt": "tatar", "haw": "hawaiian", "ln": "lingala", "ha": "hausa", "ba": "bashkir", "jw": "javanese",
    "su": "sundanese", "yue": "cantonese",
}
"""Code -> English name of the 100 languages of large-v3, in the order of their ids (openai/whisper, tokenizer.py).

Models before it know the first 99.
"""
# fmt: on


class Tokens(Record, frozen=True):
    """The ids of the special tokens of a vocabulary, and its decoding rules, all read from the checkpoint's files.

    Attributes:
        eot: The end of the text (<|endoftext|>).
        sot: The start of the transcript (<|startoftranscript|>).
        translate: The task of translating to English.
        transcribe: The task of transcribing.
        startoflm: The start of text without audio.
        startofprev: The start of the previous text, which is given as context.
        nospeech: The token whose probability says that there is no speech.
        notimestamps: The token that asks for text without timestamps.
        timestamp_begin: The first timestamp, 0.00 s.
        n_timestamps: The number of timestamps, one for every 20 ms.
        max_initial_timestamp: The latest timestamp that may come first, counted from `timestamp_begin`.
        languages: The token of each language, by its code, in the order of ids; empty for an English-only model.
        suppress: The tokens that are never chosen.
        begin_suppress: The tokens that are not chosen first.
        logprob_threshold: The average log-probability below which decoding counts as failed.
    """

    eot: Id
    sot: Id
    translate: Id
    transcribe: Id
    startoflm: Id
    startofprev: Id
    nospeech: Id
    notimestamps: Id
    timestamp_begin: Id
    n_timestamps: Dim
    max_initial_timestamp: Natural
    languages: dict[Name, Id]
    suppress: list[Id]
    begin_suppress: list[Id]
    logprob_threshold: Annotated[float, msgspec.Meta(ge=-1e6, le=0)]

    @property
    def in_order(self) -> list[int]:
        """The special tokens in Whisper's order, on which decoding relies: their ids ascend, and timestamps follow.

        That order is end of text, start, languages, the other control tokens.
        """
        controls = [self.translate, self.transcribe, self.startoflm, self.startofprev, self.nospeech]
        return [self.eot, self.sot, *self.languages.values(), *controls, self.notimestamps]
