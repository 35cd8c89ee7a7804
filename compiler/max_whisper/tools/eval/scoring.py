"""Counts how a recognized text differs from the text that was said, as the Whisper paper does (appendix C).

Both texts are normalized: case, punctuation and text in brackets do not count, and in English neither do spelling,
contractions and how numbers are written. The normalizers are OpenAI's. Then the words are aligned with the fewest
substitutions, deletions and insertions. In languages that are written without spaces between words, and in Korean,
whose spaces are a matter of taste, characters are counted in place of words.

Any engine's texts can be scored:

    scores = score_texts(["a cat sat"], ["the cat sat down"], "en")
    total = Counts.total(score.counts for score in scores)
    total.errors, total.length, total.rate   # 2, 3, 0.67

Needs jiwer and whisper-normalizer, which the extra `eval` installs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from max_whisper.errors import UserError

IN_CHARACTERS = frozenset({"bo", "ja", "km", "ko", "lo", "my", "th", "yue", "zh"})
"""The languages whose characters are counted: Burmese, Cantonese, Chinese, Japanese, Khmer, Korean, Lao, Thai, Tibetan.

The paper counts the characters of Burmese, Chinese, Japanese, Lao and Thai; Cantonese, Khmer and Tibetan have no spaces
between words either.
"""

Kind = Literal["equal", "substitution", "deletion", "insertion"]


@dataclass(frozen=True)
class Counts:
    """The errors of one text, or of several together, in words or in characters.

    Attributes:
        length: The words or characters that were said.
        substitutions: Those in whose place another one was recognized.
        deletions: Those that are missing in the recognized text.
        insertions: Those that are in the recognized text alone.
    """

    length: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        """The substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """The error rate: errors per word or character that was said, 1 for 100 %; None where nothing was said."""
        return self.errors / self.length if self.length else None

    @staticmethod
    def total(counts: Iterable[Counts]) -> Counts:
        """Returns the errors of several texts together; their rate weights each text by its length."""
        columns = [(one.length, one.substitutions, one.deletions, one.insertions) for one in counts]
        return Counts(*map(sum, zip(*columns, strict=True))) if columns else Counts()


@dataclass(frozen=True)
class Chunk:
    """Words or characters that follow each other in an alignment and are of one kind.

    Attributes:
        kind: What they are: equal in both texts, or the kind of error.
        reference: Those that were said; empty for an insertion.
        hypothesis: Those that were recognized in their place, as many for a substitution; empty for a deletion.
    """

    kind: Kind
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """The alignment of a recognized text with what was said, both normalized.

    Attributes:
        chunks: The parts of the alignment, in order.
    """

    chunks: tuple[Chunk, ...]

    @property
    def counts(self) -> Counts:
        """The number of words or characters that were said, and of the errors of each kind."""
        length = sum(len(chunk.reference) for chunk in self.chunks)
        return Counts(length, *(self._number(kind) for kind in ("substitution", "deletion", "insertion")))

    def _number(self, kind: Kind) -> int:
        """Returns the number of errors of a kind; a side of a chunk that has none is empty."""
        return sum(max(len(chunk.reference), len(chunk.hypothesis)) for chunk in self.chunks if chunk.kind == kind)


def in_characters(language: str) -> bool:
    """Returns whether characters are counted in a language, by its code, in place of words."""
    return language in IN_CHARACTERS


def check_libraries() -> None:
    """Raises UserError where jiwer or whisper-normalizer are missing."""
    try:
        import jiwer  # noqa: F401
        import whisper_normalizer.english  # noqa: F401
    except ImportError as e:
        raise UserError(f"eval needs jiwer and whisper-normalizer: pip install 'max-whisper[eval]' ({e})") from e


def score_texts(references: Sequence[str], hypotheses: Sequence[str], language: str) -> list[Score]:
    """Returns how each recognized text differs from what was said.

    Args:
        references: What was said in each recording.
        hypotheses: What was recognized in it, as many texts.
        language: The code of the language of all of them, such as "en".

    Raises:
        ValueError: There are more texts of one kind than of the other.
        UserError: jiwer or whisper-normalizer are missing.
    """
    return [
        align(normalized(reference, language), normalized(hypothesis, language))
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]


def normalized(text: str, language: str) -> list[str]:
    """Returns the words of a text, or its characters in a language of IN_CHARACTERS, as they are compared.

    Args:
        text: The text, as it was published or recognized.
        language: The code of its language; a language that Whisper does not know is normalized as most are.

    Raises:
        UserError: whisper-normalizer is missing.
    """
    prepared = " ".join(_without_unclosed(text).split())
    try:
        words = _normalizer(language)(prepared).split()
    except (AssertionError, ValueError):  # the English one fails at numbers of more digits than Python reads (4300)
        words = _normalizer("")(prepared).split()
    # OpenAI's English normalizer leaves a full stop of "..." at the end of a text.
    return [word for word in words if word != "."]


def _without_unclosed(text: str) -> str:
    """Returns a text with spaces in place of brackets that nothing closes, as normalizing would put there.

    The normalizers look for the end of each from there to the end of the text, which takes minutes for thousands.
    """
    for opening, closing in (("<[", ">]"), ("(", ")")):
        end = max(map(text.rfind, closing)) + 1
        text = text[:end] + text[end:].translate(dict.fromkeys(map(ord, opening), " "))
    return text


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Score:
    """Returns an alignment of normalized words or characters with the fewest errors.

    Args:
        reference: What was said.
        hypothesis: What was recognized.

    Raises:
        UserError: jiwer is missing.
    """
    check_libraries()
    import jiwer

    words = jiwer.ReduceToListOfListOfWords()
    output = jiwer.process_words(" ".join(reference), " ".join(hypothesis), words, words)
    return Score(
        tuple(
            Chunk(
                _KINDS[chunk.type],
                tuple(reference[chunk.ref_start_idx : chunk.ref_end_idx]),
                tuple(hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]),
            )
            for chunk in output.alignments[0]
        )
    )


_KINDS: dict[str, Kind] = {
    "equal": "equal",
    "substitute": "substitution",
    "delete": "deletion",
    "insert": "insertion",
}


@cache
def _normalizer(language: str) -> Callable[[str], str]:
    """Returns OpenAI's normalizer of a language, made once: the English one reads a table of spellings."""
    check_libraries()
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    normalizer: Callable[[str], str] = (
        EnglishTextNormalizer() if language == "en" else BasicTextNormalizer(split_letters=in_characters(language))
    )
    return normalizer
