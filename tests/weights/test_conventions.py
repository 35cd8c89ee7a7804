from __future__ import annotations

from pathlib import Path

import pytest
from max_whisper.errors import WeightsError
from max_whisper.tokens import LANGUAGES
from max_whisper.weights.conventions import whisper_tokens
from max_whisper.weights.vocabulary import Vocabulary, read_vocabulary
from support.models.checkpoint import write_checkpoint
from support.models.small import dims_of

HUB = Path(__file__).resolve().parents[3] / "shared" / "hub"
REAL = {"whisper-tiny": 51865, "whisper-tiny.en": 51864, "whisper-large-v3": 51866}
needs_hub = pytest.mark.skipif(not HUB.is_dir(), reason="the files of official checkpoints are not here")


def vocabulary(folder: Path, n_vocab: int) -> Vocabulary:
    return read_vocabulary(lambda name: path if (path := folder / name).exists() else None, n_vocab)


@needs_hub
@pytest.mark.parametrize(("name", "n_vocab"), REAL.items())
def test_tokens_are_those_of_the_hub(name: str, n_vocab: int) -> None:
    """All of them: special ids, languages, both lists of what is not chosen, and the thresholds."""
    ranks, tokens = (v := vocabulary(HUB / name, n_vocab)).ranks, v.tokens
    assert whisper_tokens(ranks, n_vocab) == tokens
    assert len(tokens.suppress) in (88, 90)


@pytest.mark.parametrize("family", ["multilingual", "english"])
def test_tokens_are_those_of_a_small_checkpoint(tmp_path: Path, family: str) -> None:
    n_vocab = dims_of(family)["n_vocab"]
    ranks, expected = (v := vocabulary(write_checkpoint(tmp_path, family=family), n_vocab)).ranks, v.tokens
    tokens = whisper_tokens(ranks, n_vocab)
    assert tokens.in_order == expected.in_order
    assert tokens.languages == expected.languages
    assert tokens.begin_suppress == expected.begin_suppress
    # The first tokens of " -" and " '", and of notes, are words of the real vocabulary, and bytes of the small one.
    assert {*tokens.suppress} - {*expected.suppress} == {220, ranks.index("♪".encode()[:1])}
    assert {*expected.suppress} <= {*tokens.suppress}


def test_symbols_of_several_bytes_are_suppressed_where_they_are_one_token() -> None:
    bytes_in_order = [bytes([byte]) for byte in range(256)]
    ranks = [*bytes_in_order, b"((", b"ab", b" (("]
    tokens = whisper_tokens(ranks, len(ranks) + 8 + 1501 + 1)
    assert {256, 258} <= {*tokens.suppress} and 257 not in tokens.suppress


@pytest.mark.parametrize(("languages", "fits"), [(0, False), (1, True), (100, True), (101, False), (-2000, False)])
def test_a_vocabulary_of_another_size_is_refused(languages: int, fits: bool) -> None:
    ranks = [*(bytes([byte]) for byte in range(256)), b""]
    n_vocab = len(ranks) + 8 + 1501 + languages
    if fits:
        assert list(whisper_tokens(ranks, n_vocab).languages) == list(LANGUAGES)[:languages]
        return
    with pytest.raises(WeightsError, match=f"257 text tokens .* a model of {n_vocab} tokens.* {languages} languages"):
        whisper_tokens(ranks, n_vocab)
