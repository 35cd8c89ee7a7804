"""The manifest of an evaluation: what is read, and the sentences about what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from max_whisper.errors import UserError
from max_whisper.tools.eval.manifest import Recording, chosen, read_manifest

HEADER = "file\tlanguage\ttext"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with two recordings to work in."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.flac", "b.flac"):
        Path(name).touch()


def written(text: str | bytes, name: str = "speech.tsv") -> Path:
    """Returns a manifest with this text."""
    file = Path(name)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def refused(text: str | bytes) -> str:
    """Returns the sentence about a manifest."""
    with pytest.raises(UserError) as caught:
        read_manifest(written(text))
    return str(caught.value)


def test_what_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "else"
    folder.mkdir()
    lines = ["\ufeffseconds\tkind\tlanguage\tfile\ttext", "1.5\tnoisy\ten\t../a.flac\tHe said \"no\".\u2028'Yes'", ""]
    lines += [f"2\t\tde-AT\t{tmp_path}/b.flac\t  Grüß Gott  ", "   "]
    recordings = read_manifest(written("\r\n".join(lines), "else/speech.tsv"))
    assert recordings == [
        Recording("../a.flac", folder / "../a.flac", "en", "He said \"no\".\u2028'Yes'", "noisy"),
        Recording(f"{tmp_path}/b.flac", tmp_path / "b.flac", "de", "Grüß Gott", ""),
    ]


def test_no_speech_and_no_text() -> None:
    silent, unknown = read_manifest(written(f"{HEADER}\na.flac\tzxx\t\nb.flac\tja\t\n"))
    assert (silent.language, silent.text) == ("zxx", "") and (unknown.language, unknown.text) == ("ja", "")


def test_a_recording_named_like_standard_input() -> None:
    Path("-").touch()
    (recording,) = read_manifest(written(f"{HEADER}\n-\ten\thello\n"))
    assert str(recording.path) != "-" and recording.path.samefile("-")


def test_the_home_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (recording,) = read_manifest(written(f"{HEADER}\n~/a.flac\ten\thello\n"))
    assert recording.path == tmp_path / "a.flac"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "speech.tsv:1: the header has no column 'file'; it needs file, language and text"),
        ("file\tlanguage\ttexts\n", "speech.tsv:1: the header has no column 'text'; did you mean 'texts'?"),
        ("\n\nfile,language,text\n", "speech.tsv:3: the header has no column 'file'"),
        (f"{HEADER}\ttext\n", "speech.tsv:1: the header has the column 'text' 2 times: remove all but one"),
        (f"{HEADER}\n", "speech.tsv lists no recordings: add a line for each"),
        (f"{HEADER}\na.flac\ten\n", "speech.tsv:2: expected 3 cells with tabs between them, as the header has, got 2"),
        (f"{HEADER}\na.flac\ten\thi\tmore\n", "speech.tsv:2: expected 3 cells"),
        (f"{HEADER}\n\n\ten\thi\n", "speech.tsv:3: the cell of the file is empty"),
        (f"{HEADER}\na.flac\tgrman\thallo\n", "speech.tsv:2: unknown language 'grman'"),
        (f"{HEADER}\na.flac\tgrman\thallo\n", "did you mean 'german'?; zxx stands for no speech"),
        (f"{HEADER}\na.flac\t\thallo\n", "speech.tsv:2: unknown language ''"),
        (f"{HEADER}\na.flac\tzxx\thallo\n", "speech.tsv:2: zxx means that nobody speaks, but there is a text"),
        (f"{HEADER}\nc.flac\ten\thi\n", "c.flac; correct the name, or remove the line"),
        (f"{HEADER}\na\0.flac\ten\thi\n", "speech.tsv:2: there is no file"),
        (f"{HEADER}\n{'a' * 5000}\ten\thi\n", "speech.tsv:2: there is no file"),
        (f"{HEADER}\na.flac\ten\thi\nb.flac\ten\tho\na.flac\ten\thi\n", "speech.tsv:4: 'a.flac' is in line 2 already"),
        (f"{HEADER}\na.flac\ten\thi\n./a.flac\ten\thi\n", "speech.tsv:3: './a.flac' is in line 2 already"),
        (b"file\tlanguage\ttext\na.flac\ten\t\xff\n", "speech.tsv:2: it is not text in UTF-8"),
        (b"\x1f\x8b\x08\0", "speech.tsv:1: it is not text in UTF-8"),
    ],
)
def test_what_is_wrong(text: str | bytes, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, os.mkfifo], ids=["nothing", "folder", "pipe"])
def test_no_manifest(make) -> None:
    make(Path("speech.tsv"))
    with pytest.raises(UserError, match=r"speech\.tsv cannot be read \(.*\); give a manifest, which is a TSV file"):
        read_manifest("speech.tsv")


RECORDINGS = [
    Recording("1", Path("1"), "en", "a", "clean"),
    Recording("2", Path("2"), "fr", "b", "noisy"),
    Recording("3", Path("3"), "zxx", "", "noisy"),
]


@pytest.mark.parametrize(
    ("languages", "kinds", "names"),
    [
        (None, None, "123"),
        ("en", None, "1"),
        ("fr, zxx", None, "23"),
        (None, "noisy", "23"),
        ("fr", "noisy,clean", "2"),
    ],
)
def test_chosen(languages: str | None, kinds: str | None, names: str) -> None:
    assert "".join(one.name for one in chosen(RECORDINGS, languages=languages, kinds=kinds)) == names


@pytest.mark.parametrize(
    ("languages", "kinds", "said"),
    [
        ("de", None, "--languages: no recording of the manifest has 'de'; there are en, fr, zxx"),
        (None, "nosy", "--kinds: no recording of the manifest has 'nosy'; did you mean 'noisy'?"),
        (",", None, "--languages: no recording of the manifest has ''"),
        ("en", "noisy", "no recording is both of --languages en and of --kinds noisy"),
    ],
)
def test_none_is_chosen(languages: str | None, kinds: str | None, said: str) -> None:
    with pytest.raises(UserError) as caught:
        chosen(RECORDINGS, languages=languages, kinds=kinds)
    assert said in str(caught.value)
