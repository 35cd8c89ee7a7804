"""The languages Whisper was trained on, and the names people call them by."""

from __future__ import annotations

import difflib
import re
from collections.abc import Container

from max_whisper.errors import UserError

# In the order of their token ids; table and aliases are those of openai/whisper (whisper/tokenizer.py).
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
"""Code -> English name, of the 100 languages of large-v3; models before it know the first 99."""

ALIASES = {
    "burmese": "my", "valencian": "ca", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "pushto": "ps",
    "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "sinhalese": "si", "castilian": "es", "mandarin": "zh",
    "nb": "no", "fil": "tl", "iw": "he", "jv": "jw",
}
"""Other English names -> code; the last four are what locales call Norwegian, Tagalog, Hebrew and Javanese."""
# fmt: on

AUTO = "auto"
"""Stands for no language given: it is detected."""

_LOCALE = re.compile(r"([a-z]{2,3})[-_.@]")
_CODES = {**{name: code for code, name in LANGUAGES.items()}, **ALIASES}


def asked_language(text: str | None) -> str | None:
    """The language that was asked for, as it was given; None, as where none was given, for "auto"."""
    return None if text is not None and text.strip().lower() == AUTO else text


def language_code(text: str, known: Container[str]) -> str:
    """The code of a language given as a code or an English name, in any case: "de", "German", "castilian".

    Of a locale ("en-US", "pt_BR.UTF-8") the language counts.
    known: the codes that the model has (`Tokens.languages`); empty for an English-only model.
    Raises UserError for an unknown language, with the nearest one, or for one that the model does not have.
    """
    language = text.strip().lower()
    code = _CODES.get(language, language)
    if code not in known and (locale := _LOCALE.match(language)):
        code = _CODES.get(locale[1], locale[1])
    if code in known:
        return code
    if code in LANGUAGES:
        raise UserError(
            f"this model does not know the language '{code}' ({LANGUAGES[code].title()}): use a model that does, or "
            "leave the language out"
        )
    near = _nearest(language)
    hint = f"; did you mean '{near}'?" if near else ""
    raise UserError(
        f"unknown language '{text}': expected a code such as 'en' or an English name such as 'german'{hint}"
    )


def _nearest(language: str) -> str | None:
    """The code or name that was probably meant: "grman" -> "german"."""
    near = difflib.get_close_matches(language, [*LANGUAGES, *_CODES], n=1)
    return near[0] if near else None
