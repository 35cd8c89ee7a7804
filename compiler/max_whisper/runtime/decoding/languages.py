"""The languages that Whisper was trained on, and their names."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Container
from functools import cache

from max_whisper.errors import UserError
from max_whisper.messages import quote
from max_whisper.runtime.decoding.language_names import OWN_NAMES
from max_whisper.tokens import LANGUAGES

# The aliases are those of openai/whisper (whisper/tokenizer.py).
# fmt: off
ALIASES = {
    "burmese": "my", "valencian": "ca", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "pushto": "ps",
    "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "sinhalese": "si", "castilian": "es", "mandarin": "zh",
    "nb": "no", "fil": "tl", "iw": "he", "jv": "jw",
}
"""Other English names -> code; the last four are the codes of Norwegian, Tagalog, Hebrew and Javanese in locales."""
# fmt: on

AUTO = "auto"
"""The value that asks for the language to be detected."""

TASKS = ("transcribe", "translate")
"""The tasks of a multilingual model: to write in the language that is spoken, or in English."""

_LOCALE = re.compile(r"([a-z]{2,3})[-_.@]")


def asked_language(text: str | None) -> str | None:
    """Returns the text unchanged, but None for "auto"."""
    return None if text is not None and text.strip().lower() == AUTO else text


def language_code(text: str, known: Container[str]) -> str:
    """Returns the code of a language.

    Args:
        text: A code, a locale, or a name in English or in the language itself, in any case and with or without accents:
            "de", "de-AT", "pt_BR.UTF-8", "German", "Deutsch", "francais".
        known: The codes that the model has (`Tokens.languages`); empty for an English-only model.

    Raises:
        UserError: The language is unknown, or the model does not have it.
    """
    language, codes = _folded(text), _codes()
    code = codes.get(language, language)
    if code not in known and (locale := _LOCALE.match(language)):
        code = codes.get(locale[1], locale[1])
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
        f"unknown language {quote(text)}: expected a code such as 'de', or a name such as 'german' or 'Deutsch'{hint}"
    )


@cache
def _codes() -> dict[str, str]:
    """Returns the codes of all languages by their names."""
    own = {_folded(name): code for code, names in OWN_NAMES.items() for name in names}
    return own | {name: code for code, name in LANGUAGES.items()} | ALIASES


def _folded(name: str) -> str:
    """Returns a name without differences of case and accents: "Français" -> "francais"."""
    letters = unicodedata.normalize("NFKD", name.strip().casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _nearest(language: str) -> str | None:
    """Returns the code or name that was probably meant: "grman" -> "german"."""
    names = {code: code for code in LANGUAGES} | {name: name for name in _codes()}
    if len(language) == 3:  # "deu" is no "eu" with a letter too many, but a code of ISO 639-2
        names = {name: name for name in names if len(name) > 2}
    names |= {
        _folded(name): name for own in OWN_NAMES.values() for name in own if _folded(name) not in LANGUAGES.values()
    }
    near = difflib.get_close_matches(language, names, n=1)
    return names[near[0]] if near else None
