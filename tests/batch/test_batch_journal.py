"""The journal and what lies beside it: what is there after a run that ended anywhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import msgspec
import pyarrow as pa
import pytest
from max_whisper.batch import journal as journals
from max_whisper.batch import parts
from max_whisper.batch.archive import Archive
from max_whisper.batch.checkpoints import Checkpoints, read_windows
from max_whisper.batch.copies import Copies
from max_whisper.batch.folder import locked
from max_whisper.batch.frames import FrameError, FrameReader, encode, frame
from max_whisper.batch.index import Index, Known
from max_whisper.batch.inputs.source import Source
from max_whisper.batch.journal import Journal
from max_whisper.batch.options import BatchOptions, Format
from max_whisper.batch.parts import FORMATS
from max_whisper.batch.prepare import Job
from max_whisper.batch.rows import failed_row, recording_row
from max_whisper.batch.subtitles import Subtitles
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.output.options import PLAIN
from max_whisper.runtime.results import Attempt, DecodingResult, Segment, TranscriptionResult, Window
from pyarrow import parquet
from support.archives import rows_of

KINDS = [(format, rows) for format in get_args(Format) for rows in ("recording", "segment")]


def row(key: str, text: str = "hello") -> dict:
    segments = [Segment(0, 0.0, 1.0, f" {text}", [], 0.0, -0.1, 1.0, 0.0), Segment(0, 1.0, 2.0, " x", [], 0, 0, 0, 0)]
    return recording_row(f"{key}.wav", key, TranscriptionResult(f" {text} x", segments, "en", [], 2.0))


def line(key: str) -> bytes:
    return msgspec.json.encode(row(key))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def keys(out: Path) -> list[str]:
    return [*dict.fromkeys(one["key"] for one in rows_of(out))]


def test_every_format_is_there() -> None:
    assert {*FORMATS} == {*get_args(Format)}


@pytest.mark.parametrize(("format", "rows"), KINDS)
def test_rows_become_parts_and_are_read_again(
    format: Format, rows: str, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_ROWS", 2)
    journal = Journal(tmp_path, state, format, rows)
    for key in "abc":
        journal.add(line(key))
    journal.add(msgspec.json.encode(failed_row("d.wav", "d", "no sound")))
    journal.add(line("e"))
    assert [part.name for part in journal.published] == [f"part-0000{n}.{format}" for n in (1, 2)]
    assert [*journal.rows(dict.fromkeys("ae"))] == [row("a"), row("e")]  # one in a part, and one in the journal
    journal.close()
    again = Journal(tmp_path, state, format, rows)
    assert {key: (done.path, done.failed) for key, done in again.done.items()} == {
        key: (f"{key}.wav", key == "d") for key in "abcde"
    }
    again.publish()
    assert keys(tmp_path) == [*"abcde"] and not [*state.iterdir()]
    assert len(rows_of(tmp_path)) == (5 if rows == "recording" else 9)
    again.forget({"d", "e"})
    assert keys(tmp_path) == [*"abc"] and "d" not in again.done


def test_a_row_that_is_torn_is_cut_off(tmp_path: Path, state: Path) -> None:
    (state / "part-00001.jsonl").write_bytes(line("a") + b"\n" + line("b") + b"\n" + line("c")[:-20])
    journal = Journal(tmp_path, state, "jsonl", "recording")
    assert {*journal.done} == {"a", "b"}
    journal.add(line("c"))
    journal.publish()
    assert keys(tmp_path) == ["a", "b", "c"]


def test_zeros_of_a_power_cut_are_cut_off(tmp_path: Path, state: Path) -> None:
    (state / "part-00001.jsonl").write_bytes(line("a") + b"\n" + bytes(100) + b"\n" + line("b") + b"\n")
    assert {*Journal(tmp_path, state, "jsonl", "recording").done} == {"a"}


def test_a_journal_whose_part_is_there_is_removed(tmp_path: Path, state: Path) -> None:
    journal = Journal(tmp_path, state, "jsonl", "recording")
    journal.add(line("a"))
    journal.publish()
    (state / "part-00001.jsonl").write_bytes(line("a") + b"\n")
    (state / "part-00002.jsonl.tmp").write_bytes(line("b")[:10])
    again = Journal(tmp_path, state, "jsonl", "recording")
    again.add(line("b"))
    again.publish()
    assert keys(tmp_path) == ["a", "b"] and not [*state.iterdir()]


@pytest.mark.parametrize("format", get_args(Format))
def test_a_part_that_is_damaged_is_named(format: Format, tmp_path: Path, state: Path) -> None:
    (tmp_path / f"part-00001.{format}").write_bytes(b"nonsense\n")
    with pytest.raises(MaxWhisperError, match=rf"part-00001.{format} cannot be read .*move it away"):
        Journal(tmp_path, state, format, "recording")


def raising(error: Exception) -> Callable[..., None]:
    """Returns a function that raises an error, whatever it is given."""

    def refuse(*arguments: object, **options: object) -> None:
        raise error

    return refuse


ARROW_ERRORS = [pa.ArrowCapacityError, pa.ArrowInvalid, pa.ArrowMemoryError, pa.ArrowException]


@pytest.mark.parametrize("kind", ARROW_ERRORS)
def test_rows_that_parquet_cannot_hold_stay_in_the_journal(
    kind: type[Exception], tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, state, "parquet", "recording")
    journal.add(line("a"))
    with monkeypatch.context() as patch:
        full = kind("array cannot contain more than 2147483646 bytes")
        patch.setattr("pyarrow.parquet.ParquetWriter.write_table", raising(full))
        with pytest.raises(MaxWhisperError, match=r"part-00001.parquet cannot be written as parquet \(array cannot"):
            journal.publish()
    assert not rows_of(tmp_path) and [path.name for path in state.iterdir()] == ["part-00001.jsonl"]
    Journal(tmp_path, state, "parquet", "recording").publish()
    assert rows_of(tmp_path) == [row("a")]


@pytest.mark.parametrize("kind", ARROW_ERRORS)
def test_a_part_of_which_pyarrow_can_make_nothing_is_named(
    kind: type[Exception], tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, state, "parquet", "recording")
    journal.add(line("a"))
    journal.publish()
    monkeypatch.setattr("pyarrow.parquet.ParquetFile.iter_batches", raising(kind("")))
    with pytest.raises(MaxWhisperError, match=rf"part-00001.parquet cannot be read \({kind.__name__}\): put it back"):
        Journal(tmp_path, state, "parquet", "recording")


def test_what_segments_share_is_not_repeated_for_all_recordings_at_once(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parts._AT_ONCE, "segment", 3)
    journal = Journal(tmp_path, state, "parquet", "segment")
    for key in "abcd":
        journal.add(line(key))
    journal.publish()
    assert parquet.ParquetFile(tmp_path / "part-00001.parquet").num_row_groups == 3
    assert [*journal.rows(dict.fromkeys("abcd"))] == [row(key) for key in "abcd"]


@pytest.mark.parametrize("name", ["part-00003.parquet.tmp", "part-00001.jsonl"])
def test_a_file_that_cannot_be_removed_is_named(name: str, tmp_path: Path, state: Path) -> None:
    journal = Journal(tmp_path, state, "parquet", "recording")
    journal.add(line("a"))
    journal.publish()
    (state / name).mkdir()
    with pytest.raises(UserError, match=rf"{name} cannot be removed \(.*\): change its permissions"):
        Journal(tmp_path, state, "parquet", "recording")


@contextmanager
def without_rights() -> Iterator[Path]:
    """Yields a folder, and lets permissions count in it, which they do not for root."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "out" / ".batch").mkdir(parents=True)
        try:
            if user == 0:
                for path in (folder / "out", folder / "out" / ".batch"):
                    os.chown(path, 65534, -1)
                os.seteuid(65534)
            yield folder / "out"
        finally:
            os.seteuid(user)
            for path in (folder / "out", folder / "out" / ".batch"):
                path.chmod(0o755)


@pytest.mark.parametrize("mode", [0o500, 0o000])
@pytest.mark.parametrize("below", ["", ".batch"])
def test_a_folder_that_cannot_be_written_to_is_refused(below: str, mode: int) -> None:
    options = BatchOptions()
    with without_rights() as out:
        with locked(out, options):
            pass
        (out / below).chmod(mode)
        with (
            pytest.raises(UserError, match=r"--out .*: Permission denied; give a folder that can be written to"),
            locked(out, options),
        ):
            pass


@pytest.mark.parametrize("below", ["", ".batch"])
def test_parts_that_cannot_be_seen_are_not_replaced(below: str) -> None:
    with without_rights() as out:
        journal = Journal(out, out / ".batch", "jsonl", "recording")
        journal.add(line("a"))
        journal.publish()
        (out / below).chmod(0o300)
        with pytest.raises(UserError, match=r"cannot be read .*: change its permissions"):
            Journal(out, out / ".batch", "jsonl", "recording")


def window(start: float) -> Window:
    result = DecodingResult("en", [1], " a", -0.1, 0.0, 0.0, float("inf"))
    return Window(start, start + 30, 3000, [], [Attempt(0.0, "")], result, "", [])


def test_windows_survive_exactly_and_what_is_torn_does_not(state: Path) -> None:
    checkpoints = Checkpoints(state)
    assert checkpoints.begin("k") is None
    for start in (0.0, 30.0):
        checkpoints.add("k", encode(window(start)))
    checkpoints.close()
    file = state / "k.windows"
    with file.open("ab") as torn:
        torn.write(frame(encode(window(60.0)))[:-5])
    assert [asdict(one) for one in read_windows(file)] == [asdict(window(0.0)), asdict(window(30.0))]
    later = Checkpoints(state)
    assert later.keys() == ["k"] and later.begin("k") == file
    later.add("k", encode(window(60.0)))
    assert [one.start for one in read_windows(file)] == [0.0, 30.0, 60.0]
    later.remove("k")
    assert not [*state.iterdir()]


def test_a_file_of_windows_without_one_is_begun_anew(state: Path) -> None:
    (state / "k.windows").write_bytes(b"\x07\x00")
    assert Checkpoints(state).begin("k") is None


def test_the_index_knows_what_did_not_change(state: Path) -> None:
    index = Index(state / "index")
    index.add(Known(b"a\xff", "5 1", "hash", 2.0))
    index.add(Known(b"b", "", "hash", 2.0))  # what may change unseen is not kept
    index.close()
    with (state / "index").open("ab") as torn:
        torn.write(b"\x99")
    again = Index(state / "index")
    assert again.find(b"a\xff", "5 1") == Known(b"a\xff", "5 1", "hash", 2.0)
    assert again.find(b"a\xff", "5 2") is None and again.find(b"b", "") is None
    again.add(Known(b"c", "1 1", "other", 1.0))
    again.close()
    assert Index(state / "index").find(b"c", "1 1") is not None


def test_an_outdated_row_may_be_gone_at_the_end(tmp_path: Path, state: Path) -> None:
    """Its recording was replaced, and then another one with its content was to be tried again."""

    def archive() -> Archive:
        return Archive(
            tmp_path, state, "run", BatchOptions("jsonl"), Subtitles(tmp_path, [], PLAIN), lambda error: None
        )

    first = archive()
    first.journal.add(msgspec.json.encode(failed_row("/a.wav", "old", "no sound")))
    first.finish()
    second = archive()
    second.note_content(Job(0, Source("/a.wav", "a.wav"), 1.0, content="hash", key="new"))
    second.retry(["old"])
    second.finish()
    assert not rows_of(tmp_path)


def test_copies_are_told_once(tmp_path: Path) -> None:
    file = tmp_path / "_copies.jsonl"
    Copies(file).add("a", "k")
    with file.open("ab") as torn:
        torn.write(b'{"path": "b')
    copies = Copies(file)
    copies.add("a", "k")
    copies.add("b", "k")
    assert [msgspec.json.decode(text)["path"] for text in file.read_bytes().splitlines()] == ["a", "b"]


def test_what_is_no_utf_8_is_damage_like_any_other(tmp_path: Path, state: Path) -> None:
    """The library for JSON and msgpack has an error of Python for bytes that are no UTF-8, which is none of its own."""
    index = Index(state / "index")
    index.add(Known(b"a", "5 1", "hash", 2.0))
    index.close()
    (state / "index").write_bytes((state / "index").read_bytes().replace(b"hash", b"h\xffsh"))
    assert Index(state / "index").last(b"a") is None
    (state / "part-00001.jsonl").write_bytes(line("a") + b"\n" + line("b").replace(b'"b"', b'"\xff"') + b"\n")
    assert {*Journal(tmp_path, state, "jsonl", "recording").done} == {"a"}
    (tmp_path / "_copies.jsonl").write_bytes(b'{"path": "\xff", "key": "k"}\n')
    with pytest.raises(MaxWhisperError, match="put it back as it was"):
        Copies(tmp_path / "_copies.jsonl")
    (tmp_path / ".batch").mkdir()
    (tmp_path / ".batch" / "kind.json").write_bytes(b'{"format": "\xff", "rows": "recording"}')
    with locked(tmp_path, BatchOptions()) as folder:
        assert msgspec.json.decode((folder / "kind.json").read_bytes())["format"] == "parquet"


def test_frames_come_in_pieces_and_have_a_bound() -> None:
    reader = FrameReader()
    data = frame(b"one") + frame(b"") + frame(b"three")
    assert [content for byte in data for content in reader.feed(bytes([byte]))] == [b"one", b"", b"three"]
    with pytest.raises(FrameError):
        [*reader.feed(b"\xff\xff\xff\xff")]
