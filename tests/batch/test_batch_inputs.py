"""What is found in folders, by patterns, in lists and behind URLs, and what is said of those that are wrong."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import fsspec
import pyarrow as pa
import pytest
from max_whisper.batch import watching
from max_whisper.batch.inputs import remote
from max_whisper.batch.inputs.find import find_all
from max_whisper.batch.inputs.source import Source
from max_whisper.batch.prepare import Job, Preparer
from max_whisper.errors import AudioError, Cancelled, MaxWhisperError, UserError
from pyarrow import parquet


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"sound")


def found(tmp_path: Path, *inputs: object) -> list[str]:
    """Returns what is found, relative to the folder of the test."""
    sources = find_all([os.fspath(one) for one in inputs], tmp_path / "out")  # type: ignore[arg-type]
    return [os.path.relpath(source.place, tmp_path) for source in sources]


def test_a_folder_gives_its_recordings_and_those_below(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav", "a.MP3", "sub/deep/c.flac", "notes.txt", ".hidden.wav", ".git/d.wav", "out/e.wav", "f")
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    assert found(tmp_path, tmp_path) == ["a.MP3", "b.wav", "sub/deep/c.flac"]
    sources = find_all([str(tmp_path), str(tmp_path / "b.wav")], tmp_path / "out")
    assert [source.relative for source in sources] == ["a.MP3", "b.wav", "sub/deep/c.flac"]
    assert all(source.size == 5 and source.stamp for source in sources)


def test_a_pattern_gives_what_fits_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.wav", "b.wav", "c.mp3", "sub/d.wav", "out/e.wav")
    (tmp_path / "folder.wav").mkdir()
    assert found(tmp_path, tmp_path / "*.wav") == ["a.wav", "b.wav"]
    monkeypatch.chdir(tmp_path)
    assert found(tmp_path, "**/d.*") == ["sub/d.wav"]
    assert find_all(["sub/*"], tmp_path / "out")[0].relative == "d.wav"


def test_a_pattern_does_not_follow_links_to_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "sub/b.wav", ".git/c.wav")
    for number in range(3):  # each way through them would be a path of its own
        (tmp_path / f"again{number}").symlink_to(tmp_path)
    assert found(tmp_path, tmp_path / "**" / "*.wav") == ["a.wav", "sub/b.wav"]


@pytest.mark.parametrize(
    "line",
    [
        "simplecache::file:///etc/passwd",
        "zip://a.wav::/tmp/z.zip",
        "x::y.wav",
        "/a.wav",
        "~/a.wav",
        "file:///a",
        "git://x/a",
    ],
)
def test_a_list_from_elsewhere_names_no_file_of_this_machine(line: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/lists/bad.txt", line.encode())
    with pytest.raises(UserError, match=r"bad\.txt:1: expected a path relative to the list, or a URL"):
        find_all(["memory://lists/bad.txt"], tmp_path / "out")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"sch\xf6n.wav")
    touch(tmp_path, name)
    (tmp_path / "list.txt").write_bytes(b"sch\xf6n.wav\n")
    (tmp_path / "list.csv").write_bytes(b"path\nsch\xf6n.wav\n")
    assert found(tmp_path, tmp_path) == found(tmp_path, tmp_path / "list.txt") == [name]
    assert found(tmp_path, tmp_path / "list.csv") == [name]


LISTS = {
    "list.txt": b"\xef\xbb\xbfa.wav\r\n\nsub/b.wav\n",
    "list.tsv": b"language\tfile\nen\ta.wav\nde\tsub/b.wav\n",
    "list.csv": b'path,text\na.wav,"one, two"\nsub/b.wav,\n',
    "list.jsonl": b'{"path": "a.wav", "more": [1]}\n{"path": "sub/b.wav"}\n',
}


@pytest.mark.parametrize("name", [*LISTS, "list.parquet"])
def test_a_list_gives_paths_relative_to_itself(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.wav", "sub/b.wav")
    if name in LISTS:
        (tmp_path / name).write_bytes(LISTS[name])
    else:
        parquet.write_table(pa.table({"url": ["a.wav", "sub/b.wav"], "hours": [1, 2]}), tmp_path / name)
    sources = find_all([str(tmp_path / name)], tmp_path / "out")
    assert [source.place for source in sources] == [str(tmp_path / "a.wav"), str(tmp_path / "sub" / "b.wav")]
    assert [source.relative for source in sources] == ["a.wav", "sub/b.wav"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.tsv", b"lang\tname\nen\ta.wav\n", "l.tsv:1: the header has no column path, file or url"),
        ("l.tsv", b"fil\nx\n", "l.tsv:1: the header has no column path, file or url; did you mean 'fil'?"),
        ("l.tsv", b"path\turl\nx\ty\n", "l.tsv:1: each of the columns path, url may have the recordings"),
        ("l.tsv", b"path\tx\na.wav\n", "l.tsv:2: expected 2 cells, as the header has, got 1"),
        ("l.csv", b"x,path\n1,\n", "l.csv:2: it names no recording"),
        ("l.csv", b'path\n"a.wav\n', "l.csv:2: unexpected end of data"),
        (
            "l.jsonl",
            b'{"path": "a"}\n{"path": 3}\n',
            "l.jsonl:2: expected one field of path, file, url with text in it",
        ),
        ("l.jsonl", b"[]\n", "l.jsonl:1: expected an object, got a list"),
        ("l.txt", b"a\nb\0c\n", "l.txt:2: the name has a NUL in it"),
        ("l.txt", b"", "there is no recording in it"),
        ("l.txt", b"x" * (2 << 20), "l.txt:1: the line has more than 1048576 bytes"),
        ("l.parquet", b"no table", "l.parquet cannot be read as Parquet"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        find_all([str(tmp_path / name)], tmp_path / "out")
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_an_input_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name, message in [("x.wav", "there is no file or folder"), ("*.mp3", "there is no recording in it")]:
        with pytest.raises(UserError, match=message):
            find_all([str(tmp_path / name)], tmp_path / "out")


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    system.pipe({"/talks/a.wav": b"one", "/talks/sub/b.mp3": b"three", "/talks/notes.md": b"", "/talks/.c.wav": b"x"})
    yield system
    system.rm("/talks", recursive=True)


def test_urls_of_folders_patterns_lists_and_recordings(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    sources = find_all(["memory://talks"], tmp_path)
    assert [(source.place, source.relative, source.size) for source in sources] == [
        ("memory:///talks/a.wav", "a.wav", 3),
        ("memory:///talks/sub/b.mp3", "sub/b.mp3", 5),
    ]
    assert all(source.stamp for source in sources)
    assert [source.relative for source in find_all(["memory://talks/**/*.mp3"], tmp_path)] == ["sub/b.mp3"]
    memory.pipe("/talks/list.tsv", b"path\nsub/b.mp3\nmemory://talks/a.wav\n")
    listed = find_all(["memory://talks/list.tsv"], tmp_path)
    assert [source.place for source in listed] == ["memory://talks/sub/b.mp3", "memory://talks/a.wav"]
    memory.pipe("/talks/bad.txt", b"sub/b.mp3\n/etc/passwd\n")
    with pytest.raises(UserError, match=r"bad.txt:2: expected a path relative to the list, or a URL"):
        find_all(["memory://talks/bad.txt"], tmp_path)


def test_a_recording_is_fetched_within_bounds(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.fetch("memory://talks/a.wav", tmp_path / "1", lambda: False)
    assert (tmp_path / "1").read_bytes() == b"one"
    with pytest.raises(AudioError, match=r"memory://talks/x.wav cannot be fetched"):
        remote.fetch("memory://talks/x.wav", tmp_path / "2", lambda: False)
    with pytest.raises(Cancelled):
        remote.fetch("memory://talks/a.wav", tmp_path / "3", lambda: True)
    monkeypatch.setattr(remote, "MAX_BYTES", 4)
    with pytest.raises(AudioError, match="expected at most that"):
        remote.fetch("memory://talks/sub/b.mp3", tmp_path / "4", lambda: False)


def test_a_url_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nonsense://x cannot be opened"):
        find_all(["nonsense://x"], tmp_path)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serves the folder of the test at 127.0.0.1."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_recordings_of_the_web(web: str, tmp_path: Path) -> None:
    touch(tmp_path, "a b.wav")
    (tmp_path / "list.txt").write_text("a%20b.wav\n")
    (source,) = find_all([f"{web}/list.txt"], tmp_path / "out")
    assert source.place == f"{web}/a%20b.wav"
    known = remote.examined(source)
    assert known.size == 5 and known.stamp  # by its time of change
    remote.fetch(source.place, tmp_path / "copy", lambda: False)
    assert (tmp_path / "copy").read_bytes() == b"sound"
    with pytest.raises(AudioError, match="cannot be fetched"):
        remote.fetch(f"{web}/x.wav", tmp_path / "none", lambda: False)
    with pytest.raises(AudioError, match="404"):
        remote.examined(Source(f"{web}/x.wav", "x.wav"))


def test_a_recording_of_the_web_may_come_slowly(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of it has no limit of time; the silence of a server has."""
    write, slow = shutil.copyfileobj, 0.6
    monkeypatch.setattr(
        http.server.SimpleHTTPRequestHandler,
        "copyfile",
        lambda self, file, to: [to.flush(), time.sleep(slow), write(file, to)],
    )
    monkeypatch.setattr(aiohttp.client, "DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=slow / 2))
    touch(tmp_path, "a.wav")
    fsspec.get_filesystem_class("http").clear_instance_cache()
    remote.fetch(f"{web}/a.wav", tmp_path / "copy", lambda: False)
    assert (tmp_path / "copy").read_bytes() == b"sound"
    monkeypatch.setattr(remote, "SILENCE", slow / 2)
    with pytest.raises(AudioError, match="cannot be fetched"):
        remote.fetch(f"{web}/a.wav", tmp_path / "none", lambda: False)


@pytest.mark.parametrize("call", ["examined", "fetch"])
def test_a_server_that_says_nothing_does_not_keep_a_run_from_stopping(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = threading.Event(), threading.Event()
    monkeypatch.setattr(remote, call, lambda *more: [asked.set(), answer.wait()])
    preparer = Preparer(tmp_path / "downloads", asked.is_set)
    stamp = "" if call == "examined" else "1"
    try:
        job = preparer.submit(Job(0, Source("memory://a.wav", "a.wav", 1, stamp), 1.0)).result(timeout=30)
        assert not job.content and not job.error
    finally:
        answer.set()
        preparer.close()


def test_a_watched_folder_that_goes_away_is_no_mistake_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code for a mistake says that nothing was begun."""
    monkeypatch.setattr(watching, "INTERVAL", 0.0)
    (tmp_path / "in").mkdir()
    watch = watching.Watch([str(tmp_path / "in")], tmp_path / "out")
    assert not watch.look()
    (tmp_path / "in").rmdir()
    with pytest.raises(MaxWhisperError, match="cannot be read") as error:
        watch.look()
    assert not isinstance(error.value, UserError)
