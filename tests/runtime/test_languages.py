"""Languages are understood by code, locale, English name and the name that their speakers use."""

from __future__ import annotations

import pytest
from max_whisper.errors import UserError
from max_whisper.runtime.decoding.language_names import OWN_NAMES
from max_whisper.runtime.decoding.languages import ALIASES, language_code
from max_whisper.tokens import LANGUAGES


@pytest.mark.parametrize(
    ("name", "code"),
    [("Deutsch", "de"), ("Français", "fr"), ("FRANCAIS", "fr"), ("español", "es"), ("日本語", "ja"), ("русский", "ru"),
     (" Tiếng Việt ", "vi"), ("bahasa Indonesia", "id"), ("Dutch", "nl"), ("Nederlands", "nl"), ("de-AT", "de")],
)  # fmt: skip
def test_names_in_the_language_itself(name: str, code: str) -> None:
    assert language_code(name, LANGUAGES) == code


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("Deutch", "Deutsch"), ("Schwedisch", "swedish"), ("espagnol", "español"), ("grman", "german"),
     ("русски", "русский")],
)  # fmt: skip
def test_the_nearest_name_is_suggested(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"unknown language '{name}': .*; did you mean '{nearest}'\\?$"):
        language_code(name, LANGUAGES)


def test_every_language_has_a_name_of_its_own_that_means_no_other() -> None:
    assert OWN_NAMES.keys() == LANGUAGES.keys()
    for code, names in OWN_NAMES.items():
        assert names and {language_code(name, LANGUAGES) for name in names} == {code}
    for code, name in (*LANGUAGES.items(), *((code, name) for name, code in ALIASES.items())):
        assert language_code(name, LANGUAGES) == language_code(code, LANGUAGES) == code


@pytest.mark.parametrize("code", ["deu", "ger", "eng", "fra"])
def test_a_code_of_three_letters_is_no_misspelled_one_of_two(code: str) -> None:
    with pytest.raises(UserError, match=f"unknown language '{code}': ") as told:
        language_code(code, LANGUAGES)
    suggested = str(told.value).partition("did you mean '")[2].rstrip("'?")
    assert not suggested or len(suggested) > 2


def test_a_long_name_is_cut() -> None:
    with pytest.raises(UserError) as told:
        language_code("x" * 20_000, LANGUAGES)
    assert len(str(told.value)) < 200
