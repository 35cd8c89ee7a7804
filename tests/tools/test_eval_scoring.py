"""How texts are normalized, aligned and counted: by hand, and beside jiwer on whole sets of texts."""

from __future__ import annotations

import random
import sys

import jiwer
import pytest
from max_whisper.errors import UserError
from max_whisper.tokens import LANGUAGES
from max_whisper.tools.eval import scoring
from max_whisper.tools.eval.scoring import Chunk, Counts, in_characters, normalized, score_texts
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

WORDS = (
    "the a cat dog sat sits on mat colour color twenty two 22 Mr. isn't is not [noise] (um) hm. ¡hola! O'Neil".split()
)


@pytest.mark.parametrize(
    ("language", "said", "recognized", "counts"),
    [
        ("en", "a cat sat", "the cat sat down", (3, 1, 0, 1)),
        ("en", "the cat sat on the mat", "cat sat on mat", (6, 0, 2, 0)),
        ("en", "one two", "", (1, 0, 1, 0)),  # numbers are joined: 12
        ("en", "", "thank you", (0, 0, 0, 2)),
        ("en", "", "", (0, 0, 0, 0)),
        ("en", "The COLOUR isn't grey!", "the color is not gray", (5, 0, 0, 0)),
        ("en", "twenty-two dollars (laughs) um", "$22", (1, 0, 0, 0)),
        ("de", "Straße, schön: 22!", "straße schon 22", (3, 1, 0, 0)),  # accents count, in German as in OpenAI's paper
        ("de", "zwei", "2", (1, 1, 0, 0)),  # the spelling of numbers counts, but for English
        ("fr", "l'été", "l ete", (2, 1, 0, 0)),
        ("zh", "你好，世界。", "你好是界", (4, 1, 0, 0)),
        ("ja", "猫 が 寝る", "猫が寝", (4, 0, 1, 0)),
        ("ko", "안녕 하세요", "안녕하세요", (5, 0, 0, 0)),
        ("en", "wait", "Wait...", (1, 0, 0, 0)),
        ("zxx", "", "[Music] ♪ Thank you.", (0, 0, 0, 2)),
    ],
)
def test_counts(language: str, said: str, recognized: str, counts: tuple[int, ...]) -> None:
    (score,) = score_texts([said], [recognized], language)
    assert score.counts == Counts(*counts)
    assert score.counts.errors == sum(counts[1:])
    assert score.counts.rate == (sum(counts[1:]) / counts[0] if counts[0] else None)


def test_an_alignment() -> None:
    (score,) = score_texts(["so the cat sat there"], ["the bat sat there now"], "en")
    assert score.chunks == (
        Chunk("deletion", ("so",), ()),
        Chunk("equal", ("the",), ("the",)),
        Chunk("substitution", ("cat",), ("bat",)),
        Chunk("equal", ("sat", "there"), ("sat", "there")),
        Chunk("insertion", (), ("now",)),
    )


@pytest.mark.parametrize("language", ["en", "de", "ja"])
def test_a_set_of_texts_has_the_rate_that_jiwer_finds(language: str) -> None:
    """Jiwer counts all texts in one call, after a normalizer that is called here."""
    choice = random.Random(0)
    said, recognized = ([" ".join(choice.choices(WORDS, k=choice.randint(1, 12))) for _ in range(200)] for _ in "ab")
    normalize = EnglishTextNormalizer() if language == "en" else BasicTextNormalizer(split_letters=language == "ja")
    pairs = [(normalize(a).strip(), normalize(b).strip()) for a, b in zip(said, recognized, strict=True)]
    jiwers = jiwer.process_words([a for a, _ in pairs], [b for _, b in pairs])
    total = Counts.total(score.counts for score in score_texts(said, recognized, language))
    assert total.rate == pytest.approx(jiwers.wer)
    assert (total.substitutions, total.deletions, total.insertions) == (
        jiwers.substitutions,
        jiwers.deletions,
        jiwers.insertions,
    )
    assert total.length > 200 and total.errors > 100


def test_both_texts_are_in_the_alignment() -> None:
    choice = random.Random(1)
    for _ in range(100):
        said, recognized = (" ".join(choice.choices("a b c d".split(), k=choice.randint(0, 9))) for _ in "ab")
        (score,) = score_texts([said], [recognized], "de")
        assert [word for chunk in score.chunks for word in chunk.reference] == said.split()
        assert [word for chunk in score.chunks for word in chunk.hypothesis] == recognized.split()
        for chunk in score.chunks:
            assert (chunk.reference == chunk.hypothesis) == (chunk.kind == "equal")


def test_languages_in_characters() -> None:
    counted = {language for language in LANGUAGES if in_characters(language)}
    assert counted == scoring.IN_CHARACTERS == {"zh", "ja", "ko", "yue", "th", "lo", "my", "km", "bo"}
    assert normalized("ภาษาไทย", "th") == normalized("ภาษา ไทย", "th") == list("ภาษาไทย")
    assert normalized("straße und", "de") == ["straße", "und"]


@pytest.mark.parametrize("text", ["", " ", "...", "(laughter)", "[music] ♪"])
def test_nothing_is_left(text: str) -> None:
    assert normalized(text, "en") == normalized(text, "fr") == []


def test_totals() -> None:
    assert Counts.total([]) == Counts() and Counts().rate is None
    assert Counts.total([Counts(10, 1, 2, 3), Counts(2, 0, 1, 0)]) == Counts(12, 1, 3, 3)


def test_unequal_numbers_of_texts() -> None:
    with pytest.raises(ValueError):
        score_texts(["a", "b"], ["a"], "en")


@pytest.mark.parametrize("missing", ["jiwer", "whisper_normalizer.english"])
def test_a_missing_library(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    scoring._normalizer.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'max-whisper\[eval\]'"):
        score_texts(["a"], ["a"], "en")


@pytest.mark.parametrize("text", ["1" * 5000, "1," * 5000 + "1", "0." + "1" * 5000])
def test_numbers_of_more_digits_than_python_reads(text: str) -> None:
    """A model that repeats itself may write such a number after hours of work."""
    (score,) = score_texts([f"hello {text}"], ["hello"], "en")
    assert score.counts.errors >= 1 and score.chunks[0].reference == ("hello",)


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("text", ["<", "[", "(", " ", "<(["])
def test_brackets_that_nothing_closes_take_no_minutes(text: str, language: str) -> None:
    """Normalizing 20,000 of them took 7 seconds, and ten times as many would take a hundred times as long."""
    many = text * (300_000 // len(text))
    assert normalized(f"a (b) [c] d {many} e", language) == ["a", "d", "e"]
