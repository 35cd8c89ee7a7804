"""Vocabularies: text gets the same ids as from the checkpoint's merges, and special tokens are Whisper's."""

from __future__ import annotations

import base64
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from max_whisper.errors import WeightsError
from max_whisper.weights.checkpoint import open_checkpoint
from max_whisper.weights.vocabulary import Vocabulary, read_vocabulary, write_tiktoken
from support.models.checkpoint import write_checkpoint
from support.models.vocabulary import N_MERGES, make_tokens, merge, printable_bytes

FAMILIES = ("multilingual", "english", "v3")
SMALL = {"d_model": 8, "n_heads": 1, "encoder_layers": 0, "decoder_layers": 0, "n_audio_ctx": 50, "n_text_ctx": 8}
HUB = Path(__file__).resolve().parents[3] / "shared" / "hub"
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabularies")
    for family in FAMILIES:
        write_checkpoint(folder / family, family=family, **SMALL)
    return folder


@pytest.fixture
def folders(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals, tmp_path / "copy"))


def read(folder: Path, n_vocab: int | None = None) -> Vocabulary:
    n_vocab = n_vocab or make_tokens(folder.name).n_vocab
    return read_vocabulary(open_checkpoint(folder).file, n_vocab)


def edit(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Rewrites a JSON file after `change` has changed its value in place."""
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens(originals: Path, family: str) -> None:
    vocabulary = read(originals / family)
    tokens, special = vocabulary.tokens, make_tokens(family).special
    assert len(vocabulary.ranks) == tokens.eot == special["<|endoftext|>"]
    assert tokens.eot == 256 + N_MERGES + (family != "english")
    assert tokens.sot == tokens.eot + 1
    spoken = "nospeech" if family == "v3" else "nocaptions"
    names = ["translate", "transcribe", "startoflm", "startofprev", spoken, "notimestamps"]
    fields = [tokens.translate, tokens.transcribe, tokens.startoflm, tokens.startofprev, tokens.nospeech]
    assert [*fields, tokens.notimestamps] == [special[f"<|{name}|>"] for name in names]
    assert tokens.timestamp_begin == special["<|0.00|>"]
    codes = {"english": [], "multilingual": ["en", "zh", "de", "es", "ru"], "v3": ["en", "zh", "de", "es", "ru", "yue"]}
    assert list(tokens.languages) == codes[family]
    assert list(tokens.languages.values()) == [tokens.sot + 1 + i for i in range(len(codes[family]))]
    assert tokens.begin_suppress == [220, tokens.eot]
    assert {1, 2, 7, tokens.sot, tokens.transcribe, tokens.nospeech} <= set(tokens.suppress)
    assert vocabulary.ranks[220] == b" "


@pytest.mark.parametrize("family", FAMILIES)
def test_either_format_gives_the_same(folders: Path, family: str) -> None:
    folder = folders / family
    both = read(folder)
    (folder / "tokenizer.json").rename(folder / "kept")
    assert read(folder) == both
    (folder / "kept").rename(folder / "tokenizer.json")
    (folder / "added_tokens.json").unlink()
    assert read(folder) == both
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()
    assert read(folder) == both
    # Newer libraries write merges as pairs, and put every token into the list of added ones.
    edit(folder, "tokenizer.json", lambda t: t["model"].update(merges=[m.split(" ") for m in t["model"]["merges"]]))
    edit(folder, "tokenizer.json", lambda t: t["model"]["vocab"].pop("<|endoftext|>"))
    assert read(folder) == both


def encode_by_merges(word: bytes, merges: list[tuple[str, str]], ids: dict[str, int]) -> list[int]:
    """Returns the tokens of a text by the definition of byte-pair encoding: every merge in turn."""
    alphabet = printable_bytes()
    parts = [alphabet[byte] for byte in word]
    for pair in merges:
        parts = list(merge(parts, pair))
    return [ids[part] for part in parts]


def encoding(ranks: list[bytes]) -> tiktoken.Encoding:
    named = {token: rank for rank, token in enumerate(ranks) if token}
    return tiktoken.Encoding("test", pat_str=PATTERN, mergeable_ranks=named, special_tokens={})


@pytest.mark.parametrize("family", FAMILIES)
def test_tiktoken_gives_the_ids_of_the_merges(originals: Path, family: str) -> None:
    made = make_tokens(family)
    encode = encoding(read(originals / family).ranks).encode_ordinary
    randomly = random.Random(0)
    for _ in range(500):
        word = " " + "".join(randomly.choices("theandrswocniø", k=randomly.randint(1, 9)))
        assert encode(word) == encode_by_merges(word.encode(), made.merges, made.vocab)


def test_the_tiktoken_file(originals: Path, tmp_path: Path) -> None:
    for family in FAMILIES:
        ranks = read(originals / family).ranks
        path = tmp_path / f"{family}.tiktoken"
        write_tiktoken(ranks, path)
        # As openai/whisper reads it (tokenizer.py).
        lines = (line.split() for line in path.read_text().splitlines())
        assert {base64.b64decode(token): int(rank) for token, rank in lines} == {t: i for i, t in enumerate(ranks)}
    assert (tmp_path / "v3.tiktoken").read_text().endswith("\n= 296\n")


def test_how_a_model_is_known_to_be_multilingual(folders: Path) -> None:
    for family in FAMILIES:
        before = read(folders / family).tokens.languages
        edit(folders / family, "generation_config.json", lambda g: g.pop("lang_to_id", None))
        assert read(folders / family).tokens.languages == before  # the languages are between sot and translate
        edit(folders / family, "generation_config.json", lambda g: g.pop("is_multilingual"))
        assert read(folders / family).tokens.languages == before  # the empty token tells
    edit(folders / "v3", "generation_config.json", lambda g: g.update(is_multilingual=False))
    assert read(folders / "v3").tokens.languages == {}


def test_where_the_suppressed_tokens_come_from(folders: Path) -> None:
    folder = folders / "multilingual"
    edit(folder, "generation_config.json", lambda g: g.update(suppress_tokens=[5], begin_suppress_tokens=[]))
    assert (read(folder).tokens.suppress, read(folder).tokens.begin_suppress) == ([5], [])
    edit(folder, "config.json", lambda c: c.update(suppress_tokens=[6]))
    edit(folder, "generation_config.json", lambda g: g.update(suppress_tokens=None))
    assert read(folder).tokens.suppress == [6]
    edit(folder, "generation_config.json", lambda g: g.pop("suppress_tokens"))
    assert read(folder).tokens.suppress == [6]
    edit(folder, "config.json", lambda c: c.update(suppress_tokens=None))
    assert read(folder).tokens.suppress == []
    edit(folder, "config.json", lambda c: c.pop("suppress_tokens"))
    with pytest.raises(WeightsError, match=r"neither generation_config.json nor config.json lists suppress_tokens"):
        read(folder)
    (folder / "generation_config.json").unlink()
    edit(folder, "config.json", lambda c: c.update(suppress_tokens=[6]))
    assert read(folder).tokens.suppress == [6]


def test_a_vocabulary_of_another_size(folders: Path) -> None:
    folder = folders / "multilingual"
    n_vocab = make_tokens("multilingual").n_vocab
    for wrong in (n_vocab - 1, n_vocab + 1):
        with pytest.raises(WeightsError, match=rf"has {n_vocab} tokens, but the model has {wrong}"):
            read(folder, wrong)
    edit(folder, "config.json", lambda c: c.update(vocab_size=n_vocab + 5))
    read(folder, n_vocab + 5)  # padded, and config.json says so


def swap(values: dict[str, int], one: str, other: str) -> None:
    values[one], values[other] = values[other], values[one]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("vocab.json", lambda v: swap(v, "Ġt", "Ġa"), "but merge 1 makes 'Ġt'"),
        ("vocab.json", lambda v: v.update({"Ġt": 1000}), "the ids of text tokens must be 0 to 296"),
        ("vocab.json", lambda v: v.update({"Ġt": 5}), "the ids of text tokens must be 0 to 296"),
        ("vocab.json", lambda v: v.update({"Ġt": "5"}), "has the id '5'"),
        ("vocab.json", lambda v: v.update({"Ġt": -1}), "has the id -1"),
        ("vocab.json", lambda v: v.update({"漢": v.pop("Ġt")}), "'漢' is not a character of a byte-level vocabulary"),
        ("vocab.json", lambda v: v.update({"Ġz": v.pop("!")}), "must be the 256 bytes"),
        ("vocab.json", lambda v: v.update({"Ġzz": v.pop("")}), "do not fit 256 bytes and 40 merges"),
        ("vocab.json", lambda v: v.pop("<|endoftext|>"), "no token <|endoftext|>"),
        ("added_tokens.json", lambda a: a.update({"<|endoftext|>": 7}), "has two ids, 297 and 7"),
        ("added_tokens.json", lambda a: a.pop("<|translate|>"), "no token <|translate|>"),
        ("added_tokens.json", lambda a: a.pop("<|nocaptions|>"), "no token <|nocaptions|>"),
        ("added_tokens.json", lambda a: swap(a, "<|translate|>", "<|transcribe|>"), "not in Whisper's order"),
        ("added_tokens.json", lambda a: swap(a, "<|0.00|>", "<|0.02|>"), "<|0.00|> has the id 311: expected 310"),
        ("added_tokens.json", lambda a: swap(a, "<|0.00|>", "<|30.00|>"), "<|0.00|> has the id 1810"),
        ("generation_config.json", lambda g: g["lang_to_id"].update({"<|en|>": 300}), "'<|en|>' has the id 300"),
        ("generation_config.json", lambda g: g["lang_to_id"].update({"<|xx|>": 300}), "no token <|xx|>"),
        ("generation_config.json", lambda g: g.update(lang_to_id=[1]), "lang_to_id: expected an object or null"),
        (
            "generation_config.json",
            lambda g: g.update(suppress_tokens=[1811]),
            "suppress_tokens: expected token ids below 1811 (the model's n_vocab), got 1811",
        ),
        ("generation_config.json", lambda g: g.update(suppress_tokens=[-1]), "_tokens[0]: expected an integer >= 0"),
        ("generation_config.json", lambda g: g.update(begin_suppress_tokens="220"), "expected a list or null, got "),
        (
            "generation_config.json",
            lambda g: g.update(suppress_tokens=[297]),
            "expected a list without <|endoftext|> (297)",
        ),
        ("generation_config.json", lambda g: g.update(no_timestamps_token_id=308), "no_timestamps_token_id is 308"),
        ("generation_config.json", lambda g: g.update(decoder_start_token_id=297), "decoder_start_token_id is 297"),
        ("generation_config.json", lambda g: g.update(eos_token_id=[1]), "eos_token_id is"),
    ],
)
def test_wrong_files(folders: Path, name: str, change: Callable[[Any], Any], words: str) -> None:
    edit(folders / "multilingual", name, change)
    with pytest.raises(WeightsError) as caught:
        read(folders / "multilingual")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ġ", "expected a merge of two tokens, got 'Ġ'"),
        ("a b c", "expected a merge of two tokens, got 'a b c'"),
        ("q z", "makes 'qz'"),
    ],
)
def test_wrong_merges(folders: Path, text: str, words: str) -> None:
    path = folders / "multilingual" / "merges.txt"
    path.write_text(path.read_text() + text + "\n")
    with pytest.raises(WeightsError, match=words):
        read(folders / "multilingual")
    path.write_bytes(b"\xff\xff")
    with pytest.raises(WeightsError, match="cannot be read"):
        read(folders / "multilingual")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["model"].update(type="Unigram"), "expected a model of type BPE"),
        (lambda t: t.pop("model"), "expected a model of type BPE"),
        (lambda t: t.update(added_tokens=[{"id": 3}]), r"added_tokens\[0\]: object missing required field 'content'"),
        (lambda t: t.update(added_tokens=3), "added_tokens: expected a list or null, got an integer"),
        (lambda t: t["model"].update(merges=None), "of type BPE with an object vocab and a list merges"),
        (lambda t: t["model"].update(merges=[["a"]]), "expected a merge of two tokens, got a list"),
    ],
)
def test_wrong_tokenizer_files(folders: Path, change: Callable[[Any], Any], words: str) -> None:
    folder = folders / "multilingual"
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (folder / name).unlink()
    edit(folder, "tokenizer.json", change)
    with pytest.raises(WeightsError, match=words):
        read(folder)


@pytest.mark.parametrize(
    ("text", "words"), [(b"[]", "must hold a JSON object"), (b"{", "no JSON"), (b"\xff", "no JSON")]
)
def test_files_that_are_no_json(folders: Path, text: bytes, words: str) -> None:
    (folders / "english" / "vocab.json").write_bytes(text)
    with pytest.raises(WeightsError, match=words):
        read(folders / "english")


def test_no_vocabulary_at_all(folders: Path) -> None:
    for name in ("vocab.json", "tokenizer.json"):
        (folders / "english" / name).unlink()
    with pytest.raises(WeightsError, match=r"expected vocab.json and merges.txt, or tokenizer.json"):
        read(folders / "english")


@pytest.mark.parametrize(
    ("name", "n_vocab", "eot", "languages", "suppressed"),
    [
        ("whisper-tiny", 51865, 50257, 99, 88),
        ("whisper-tiny.en", 51864, 50256, 0, 90),
        ("whisper-large-v3", 51866, 50257, 100, 88),
    ],
)
def test_the_official_vocabularies(name: str, n_vocab: int, eot: int, languages: int, suppressed: int) -> None:
    folder = HUB / name
    if not folder.is_dir():
        pytest.skip("the files of the official repositories are not here")
    vocabulary = read_vocabulary(lambda file: folder / file if (folder / file).is_file() else None, n_vocab)
    tokens = vocabulary.tokens
    assert len(vocabulary.ranks) == tokens.eot == eot
    offset = eot + 1 + max(99, languages) + 1  # .en vocabularies have the 99 language tokens, unused
    assert (tokens.translate, tokens.notimestamps) == (offset, offset + 5)
    assert tokens.timestamp_begin + 1501 == n_vocab
    assert (len(tokens.languages), len(tokens.suppress)) == (languages, suppressed)
    if languages:
        assert tokens.languages["en"] == tokens.sot + 1
    alone = read_vocabulary(
        lambda file: folder / file if file in ("tokenizer.json", "generation_config.json") else None, n_vocab
    )
    assert alone == vocabulary
    text = " And so my fellow Americans, ask not what your country can do for you: 日本語 ñandú"
    encoder = encoding(vocabulary.ranks)
    ids = encoder.encode_ordinary(text)
    assert encoder.decode(ids) == text
    assert ids[:5] == ([843, 523, 616, 5891, 3399] if name.endswith(".en") else [400, 370, 452, 7177, 6280])
