import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from max_whisper.errors import ArtifactError, UserError
from max_whisper.runtime.decoding.languages import language_code
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.tokens import LANGUAGES, Tokens

HUB = Path(__file__).resolve().parents[3] / "shared" / "hub"

# Every byte, then merges in order of rank; the empty token stands at the end, as in the multilingual vocabulary.
SMALL = [bytes([b]) for b in range(256)] + [b"he", b"ll", b"hell", b"hello", b" w", b" wo", "ä".encode(), b"or", b""]


def make_tokens(eot, languages=()):
    sot = eot + 1
    after = sot + 1 + len(languages)
    return Tokens(
        eot=eot, sot=sot, translate=after, transcribe=after + 1, startoflm=after + 2, startofprev=after + 3,
        nospeech=after + 4, notimestamps=after + 5, timestamp_begin=after + 6,
        n_timestamps=1501, max_initial_timestamp=50, logprob_threshold=-1.0,
        languages={code: sot + 1 + i for i, code in enumerate(languages)}, suppress=[], begin_suppress=[],
    )  # fmt: skip


def write_ranks(path, vocabulary):
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(vocabulary)))
    return path


@pytest.fixture
def multilingual(tmp_path):
    return Tokenizer(write_ranks(tmp_path / "a.tiktoken", SMALL), make_tokens(len(SMALL), ["en", "de", "ca"]))


@pytest.fixture
def english(tmp_path):
    return Tokenizer(write_ranks(tmp_path / "a.tiktoken", SMALL), make_tokens(len(SMALL)))


def test_encodes_by_rank(multilingual):
    assert multilingual.encode("hello wor") == [259, 261, ord("r")]
    assert multilingual.encode("ä he's") == [262, ord(" "), 256, ord("'"), ord("s")]
    assert multilingual.encode("") == []


@pytest.mark.parametrize(
    "text", ["hello world", " ä ö 日本語 👍🏽", "a\n\n b\t", "<|endoftext|><|en|><|0.00|>", "it's 1,5"]
)
def test_decodes_what_it_encoded(multilingual, text):
    ids = multilingual.encode(text)
    assert max(ids) < multilingual.tokens.eot
    assert multilingual.decode(ids) == text


def test_decode_leaves_out_special_tokens(multilingual):
    tokens = multilingual.tokens
    special = [
        tokens.sot,
        tokens.languages["de"],
        tokens.transcribe,
        tokens.timestamp_begin,
        tokens.timestamp_begin + 99,
    ]
    assert multilingual.decode([*special, 259, len(SMALL) - 1, tokens.eot]) == "hello"
    assert multilingual.decode([]) == ""


def test_decode_replaces_broken_bytes(multilingual):
    assert multilingual.decode([ord("a"), 0xC3, ord("b")]) == "a\ufffdb"
    assert multilingual.decode([0xC3, 0xA4]) == "ä"


def test_openai_writes_the_empty_token_as_an_equals_sign(tmp_path):
    file = write_ranks(tmp_path / "a.tiktoken", SMALL)
    file.write_bytes(file.read_bytes().replace(b"\n 264", b"\n= 264"))
    tokenizer = Tokenizer(file, make_tokens(len(SMALL)))
    assert tokenizer.decode([259, 264]) == "hello"
    assert tokenizer.encode("hello") == [259]


def test_special_tokens_in_the_file_have_no_text(tmp_path):
    tokenizer = Tokenizer(write_ranks(tmp_path / "a.tiktoken", [*SMALL, b"<|endoftext|>"]), make_tokens(len(SMALL)))
    assert tokenizer.decode([259, len(SMALL)]) == "hello"
    assert len(tokenizer.encode("<|endoftext|>")) > 1


def test_threads_share_a_tokenizer(multilingual):
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: multilingual.decode(multilingual.encode("hello ä")), range(64))) == {"hello ä"}


def test_damaged_vocabulary(tmp_path):
    with pytest.raises(ArtifactError, match=r"no\.tiktoken cannot be read"):
        Tokenizer(tmp_path / "no.tiktoken", make_tokens(10))
    (tmp_path / "bad.tiktoken").write_text("aGU= 0\nnonsense\n")
    tokenizer = Tokenizer(tmp_path / "bad.tiktoken", make_tokens(2))
    assert tokenizer.decode([0]) == "he"
    for use in (lambda: tokenizer.decode([0, 1]), lambda: tokenizer.encode("he")):
        with pytest.raises(ArtifactError, match=r"bad\.tiktoken:2: expected 'base64 id', found b'nonsense'"):
            use()
    with pytest.raises(ArtifactError, match=r"bad\.tiktoken: expected 10 tokens, found 2"):
        Tokenizer(tmp_path / "bad.tiktoken", make_tokens(10)).decode([0])


@pytest.mark.parametrize("vocabulary", [[*SMALL, b"he"], SMALL[1:]])
def test_an_encoder_needs_each_token_once_and_all_bytes(tmp_path, vocabulary):
    tokenizer = Tokenizer(write_ranks(tmp_path / "bad.tiktoken", vocabulary), make_tokens(len(vocabulary)))
    with pytest.raises(ArtifactError, match="expected each token once and all 256 bytes"):
        tokenizer.encode("he")


def test_multilingual_prompt(multilingual):
    t = multilingual.tokens
    assert multilingual.multilingual
    assert multilingual.prompt("de") == [t.sot, t.languages["de"], t.transcribe]
    assert multilingual.prompt("German", "translate") == [t.sot, t.languages["de"], t.translate]
    expected = [t.sot, t.languages["ca"], t.transcribe, t.notimestamps]
    assert multilingual.prompt("valencian", "transcribe", True) == expected
    with pytest.raises(UserError, match="no language given"):
        multilingual.prompt(None)
    with pytest.raises(UserError, match=r"does not know the language 'ja' \(Japanese\)"):
        multilingual.prompt("ja")


def test_english_prompt(english):
    t = english.tokens
    assert not english.multilingual
    assert english.prompt(None) == [t.sot]
    assert english.prompt(None, without_timestamps=True) == [t.sot, t.notimestamps]
    assert english.prompt("english") == english.prompt("en") == [t.sot]
    with pytest.raises(UserError, match=r"does not know the language 'de' \(German\): .* leave the language out"):
        english.prompt("de")
    with pytest.raises(UserError, match="unknown language 'klingon'"):
        english.prompt("klingon")
    with pytest.raises(UserError, match="cannot translate"):
        english.prompt(None, "translate")


def test_unknown_task(multilingual):
    with pytest.raises(UserError, match=r"unknown task 'translation'.*did you mean 'translate'"):
        multilingual.prompt("en", "translation")
    with pytest.raises(UserError, match=r"unknown task '7': expected 'transcribe' or 'translate'$"):
        multilingual.prompt("en", "7")


@pytest.mark.parametrize(
    ("text", "code"),
    [("en", "en"), ("EN", "en"), (" English ", "en"), ("castilian", "es"), ("Haitian Creole", "ht"), ("haw", "haw"),
     ("Mandarin", "zh"), ("cantonese", "yue"), ("xx", "xx"), ("en-US", "en"), ("pt_BR", "pt"), ("zh-Hant-TW", "zh"),
     ("de_DE.UTF-8", "de"), ("nb-NO", "no"), ("yue-HK", "yue"), ("iw", "he")],
)  # fmt: skip
def test_language_names(text, code):
    assert language_code(text, {*LANGUAGES, "xx"}) == code


@pytest.mark.parametrize(("text", "nearest"), [("grman", "german"), ("engish", "english"), ("haww", "haw")])
def test_unknown_language_gets_a_suggestion(text, nearest):
    with pytest.raises(UserError, match=re.escape(f"unknown language '{text}'") + f".*did you mean '{nearest}'"):
        language_code(text, LANGUAGES)


@pytest.mark.parametrize("text", ["", "12345", "zzzzzz", "qq-US"])
def test_unknown_language_without_a_neighbour(text):
    with pytest.raises(UserError, match=r"unknown language.*'Deutsch'$"):
        language_code(text, LANGUAGES)


def test_language_that_came_later():
    with pytest.raises(UserError, match=r"does not know the language 'yue' \(Cantonese\)"):
        language_code("cantonese", list(LANGUAGES)[:99])


# Text -> ids that openai/whisper's own tokenizer gives (20250625): multilingual, English-only.
GOLDEN = {
    "Hello, world!": ([15947, 11, 1002, 0], [15496, 11, 995, 0]),
    " And so my fellow Americans, ask not what your country can do for you.": (
        [400, 370, 452, 7177, 6280, 11, 1029, 406, 437, 428, 1941, 393, 360, 337, 291, 13],
        [843, 523, 616, 5891, 3399, 11, 1265, 407, 644, 534, 1499, 460, 466, 329, 345, 13],
    ),
    " Grüße aus Köln — 3 Äpfel für 2,50 €": (
        [38908, 11451, 3437, 591, 13072, 77, 3466, 805, 13700, 25302, 338, 2959, 568, 11, 2803, 17450],
        [1902, 9116, 39683, 68, 257, 385, 509, 9101, 18755, 851, 513, 6184, 226, 79, 69, 417, 277, 25151, 362, 11, 1120,
         10432],
    ),
    "こんにちは、世界。": (
        [38088, 1231, 24486, 1543],
        [46036, 22174, 28618, 2515, 94, 31676, 23513, 10310, 244, 45911, 234, 16764],
    ),
    "Привет, как дела?": (
        [43971, 31259, 11, 3014, 46157, 30],
        [140, 253, 21169, 18849, 38857, 16843, 20375, 11, 12466, 118, 16142, 31583, 12466, 112, 16843, 30143, 16142,
         30],
    ),
    "مرحبا بالعالم": (
        [29973, 5016, 3555, 995, 20666, 3615, 45340],
        [25405, 26897, 148, 255, 39848, 12919, 17550, 101, 23525, 44690, 23525, 25405],
    ),
    " नमस्ते": (
        [8485, 101, 48521, 45938, 27099, 36158, 21981],
        [28225, 101, 11976, 106, 11976, 116, 24231, 235, 11976, 97, 24231, 229],
    ),
    "  it's\n\n they'll\t♪ <|endoftext|>": (
        [220, 309, 311, 198, 198, 436, 603, 197, 3961, 2627, 91, 3999, 844, 3828, 91, 29],
        [220, 340, 338, 628, 484, 1183, 197, 17992, 103, 1279, 91, 437, 1659, 5239, 91, 29],
    ),
}  # fmt: skip


def read_vocabulary(folder):
    """The text tokens of a checkpoint's vocab.json, whose keys spell every byte as a visible character (GPT-2)."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    byte_of = {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(hidden)}
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    eot = vocabulary.pop("<|endoftext|>")
    by_rank = sorted(vocabulary, key=vocabulary.__getitem__)
    return [bytes(byte_of[character] for character in token) for token in by_rank], eot


@pytest.mark.skipif(not HUB.is_dir(), reason="needs the vocab.json of checkpoints")
@pytest.mark.parametrize(("model", "column"), [("whisper-tiny", 0), ("whisper-tiny.en", 1), ("whisper-large-v3", 0)])
def test_equals_openai_whisper(tmp_path, model, column):
    vocabulary, eot = read_vocabulary(HUB / model)
    assert eot == len(vocabulary)
    tokenizer = Tokenizer(write_ranks(tmp_path / "a.tiktoken", vocabulary), make_tokens(eot))
    for text, ids in GOLDEN.items():
        assert tokenizer.encode(text) == ids[column]
        assert tokenizer.decode(ids[column]) == text
