"""`max-whisper batch` as a user runs it: what it says, its exit codes, and what lies in the folder then."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import fsspec
import max_whisper
import pytest
from max_whisper.batch import batch as batches
from max_whisper.batch import journal as journals
from max_whisper.batch.pool import Pool
from max_whisper.batch.prepare import Job, Preparer
from max_whisper.batch.run import WAIT
from max_whisper.batch.summary import Status
from max_whisper.errors import UserError
from support.archives import AUDIO, by_key, rows_of, write_clips
from support.command import Outcome, error, run, spawn
from support.terminals import ANSI, terminal

COMMANDS = "hello open door stop go left thanks"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(AUDIO / "commands.flac", folder / "a.flac")
    shutil.copy(AUDIO / "countdown.flac", folder / "sub" / "b.flac")
    return folder


@pytest.fixture
def batch(nano_artifact: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Returns a function that runs the command with one worker, for the folder `out`."""
    return lambda *more: run("batch", "--model", nano_artifact, "--out", tmp_path / "out", "--workers", "1", *more)


def test_an_archive_is_transcribed_once(
    archive: Path, batch: Callable[..., Outcome], nano: max_whisper.Model, tmp_path: Path
) -> None:
    first = batch(archive)
    assert first.code == 0 and first.stdout == ""
    said = first.stderr.splitlines()
    assert re.fullmatch(
        r"2 recordings transcribed: 17 s of audio in \d+ s, \d+ audio hours per machine hour \(1 worker\)", said[0]
    )
    assert said[1:] == [f"{tmp_path / 'out'}: part-00001.parquet"]
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "out")}
    assert rows["a.flac"]["text"].split() == COMMANDS.split()
    result = nano.transcribe(archive / "a.flac", best_of=5)
    assert rows["a.flac"]["text"] == result.text and rows["a.flac"]["duration"] == result.duration
    assert [(one["start"], one["end"], one["text"]) for one in rows["a.flac"]["segments"]] == [
        (one.start, one.end, one.text) for one in result.segments
    ]
    second = batch(archive)
    assert second.code == 0
    assert second.stderr.splitlines() == [
        "2 recordings had a text already: done before, or the content of another",
        f"{tmp_path / 'out'}: nothing new",
    ]
    shutil.copy(AUDIO / "spelling.flac", archive / "c.flac")
    assert "1 recording transcribed" in batch(archive).stderr
    assert len(by_key(tmp_path / "out")) == 3
    assert "1 recording transcribed" in batch(archive / "a.flac", "--language", "en").stderr  # another key


def test_bad_recordings_are_rows_with_errors(archive: Path, batch: Callable[..., Outcome], tmp_path: Path) -> None:
    (archive / "empty.wav").touch()
    (archive / "text.mp3").write_text("this is no sound\n" * 100)
    (archive / "cut.flac").write_bytes((AUDIO / "spelling.flac").read_bytes()[:100_000])
    (archive / "folder.wav").mkdir()
    (archive / "list.txt").write_text("a.flac\nempty.wav\ntext.mp3\ncut.flac\nfolder.wav\nmissing.wav\n")
    (archive / "gone.wav").symlink_to("nothing")
    outcome = batch(archive / "list.txt", archive)
    assert outcome.code == 1
    rows = {Path(row["path"]).name: row for row in by_key(tmp_path / "out").values()}
    assert {*rows} == {"a.flac", "b.flac", "empty.wav", "text.mp3", "cut.flac", "folder.wav", "missing.wav", "gone.wav"}
    errors = {name: row["error"] for name, row in rows.items() if row["error"] is not None}
    assert "is empty (0 bytes), expected sound" in errors["empty.wav"]
    assert "is not an audio or video file that can be read" in errors["text.mp3"]
    assert "it is a folder, expected a file" in errors["folder.wav"]
    assert "No such file" in errors["missing.wav"] and "which is not there" in errors["gone.wav"]
    assert rows["cut.flac"]["error"] is None and "is damaged or cut off" in rows["cut.flac"]["warnings"][0]
    assert all(rows[name]["text"] is None and rows[name]["segments"] == [] for name in errors)
    *told, last = [text for text in outcome.stderr.splitlines() if text.startswith("error: ")]
    assert sorted(text.removeprefix("error: ") for text in told) == sorted(errors.values())
    assert last == ("error: 5 of 8 recordings have no text: their rows say why, and --retry-failed tries them again")


def test_failures_are_tried_again_when_asked(archive: Path, batch: Callable[..., Outcome], tmp_path: Path) -> None:
    (archive / "bad.wav").write_text("no sound")
    lists = tmp_path / "list.txt"
    lists.write_text(f"{archive / 'bad.wav'}\n{archive / 'late.flac'}\n{archive / 'a.flac'}\n")
    assert batch(lists).code == 1
    assert batch(lists).code == 1 and len(by_key(tmp_path / "out")) == 3
    shutil.copy(AUDIO / "spelling.flac", archive / "late.flac")
    outcome = batch(lists)  # what could not be read is another recording now
    assert outcome.code == 1 and "1 recording transcribed" in outcome.stderr
    assert {Path(row["path"]).name: row["error"] is None for row in by_key(tmp_path / "out").values()} == {
        "bad.wav": False,
        "late.flac": True,
        "a.flac": True,
    }
    before = [row for row in rows_of(tmp_path / "out") if row["error"] is None]
    again = batch(lists, "--retry-failed")
    assert again.code == 1 and "bad.wav is not an audio or video file" in again.stderr
    assert len(by_key(tmp_path / "out")) == 3
    assert [row for row in rows_of(tmp_path / "out") if row["error"] is None] == before
    shutil.copy(AUDIO / "countdown.flac", archive / "bad.wav")  # the row of what it was before goes
    assert batch(lists).code == 0
    assert [row["error"] for row in by_key(tmp_path / "out").values()] == [None] * 3


def test_a_copy_of_a_recording_that_changes_is_transcribed(
    archive: Path, nano_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the text of another one with the same content, which becomes another recording meanwhile."""
    shutil.rmtree(archive / "sub")
    twin = archive / "twin.flac"
    shutil.copy(archive / "a.flac", twin)
    changed: list[Path] = []

    def change_once(job: Job) -> bool:
        if changed or Path(job.source.place).read_bytes() != twin.read_bytes():
            return False
        changed.append(Path(job.source.place))
        shutil.copy(AUDIO / "spelling.flac", changed[0])
        return True

    monkeypatch.setattr("max_whisper.batch.run.is_changed", change_once)
    summary = max_whisper.transcribe_archive([archive], model=nano_artifact, out=tmp_path / "out", workers=2)
    assert (summary.left, summary.failed) == (0, 0) and changed
    paths = {row["path"] for row in rows_of(tmp_path / "out")}
    assert paths == {str(archive / "a.flac"), str(twin)}


def test_copies_have_one_row(archive: Path, batch: Callable[..., Outcome], tmp_path: Path) -> None:
    shutil.copy(archive / "a.flac", archive / "z.flac")
    outcome = batch(archive, "--subtitles", "srt", "--subtitles", "txt")
    assert outcome.code == 0 and "2 recordings transcribed" in outcome.stderr
    assert "1 recording had a text already: done before, or the content of another" in outcome.stderr
    rows = {row["path"]: key for key, row in by_key(tmp_path / "out").items()}
    copies = [json.loads(text) for text in (tmp_path / "out" / "_copies.jsonl").read_text().splitlines()]
    (one,) = {str(archive / "a.flac"), str(archive / "z.flac")} & {*rows}
    (other,) = {str(archive / "a.flac"), str(archive / "z.flac")} - {one}
    assert copies == [{"path": other, "key": rows[one]}]
    files = {path.relative_to(tmp_path / "out" / "subtitles").as_posix() for path in (tmp_path / "out").rglob("*.srt")}
    assert files == {"a.srt", "z.srt", "sub/b.srt"}
    assert (tmp_path / "out" / "subtitles" / "z.txt").read_text().split() == COMMANDS.split()


def test_copies_do_not_wait_for_each_other(
    archive: Path, batch: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run waits long only while workers are busy: an archive may have many copies, and a worker idles meanwhile."""
    waits: list[float] = []
    poll = Pool.poll

    def told(pool: Pool, seconds: float) -> object:
        if pool.is_ready and pool.is_idle:
            waits.append(seconds)
        return poll(pool, seconds)

    def ready_at_once(preparer: Preparer, job: Job) -> Future[Job]:
        future: Future[Job] = Future()
        future.set_result(preparer._prepare(job))
        return future

    monkeypatch.setattr(Pool, "poll", told)
    monkeypatch.setattr(Preparer, "submit", ready_at_once)
    for number in range(40):
        shutil.copy(archive / "a.flac", archive / f"copy-{number}.flac")
    assert "40 recordings had a text already" in batch(archive).stderr
    assert waits and max(waits[:-1]) < WAIT  # in the last one, nothing is left


@pytest.mark.parametrize("rows", ["recording", "segment"])
@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_subtitles_are_those_of_transcribe_and_are_written_again(
    format: str, rows: str, archive: Path, batch: Callable[..., Outcome], nano_artifact: Path, tmp_path: Path
) -> None:
    shutil.copy(AUDIO / "spelling.flac", archive / "a.mka")
    options = ("--format", format, "--rows", rows, "--subtitles", "srt", "--word-timestamps", "--max-line-width", "20")
    options += ("--max-line-count", "2", "--highlight-words")
    assert batch(archive, *options).code == 0
    made = {path.name: path.read_text() for path in (tmp_path / "out" / "subtitles").rglob("*.srt")}
    assert {*made} == {"a.flac.srt", "a.mka.srt", "b.srt"}
    run("transcribe", archive / "sub" / "b.flac", "--model", nano_artifact, "--output-dir", tmp_path / "t",
        "--output-format", "srt", *options[6:])  # fmt: skip
    assert made["b.srt"] == (tmp_path / "t" / "b.srt").read_text()
    (tmp_path / "out" / "subtitles" / "a.flac.srt").unlink()
    outcome = batch(archive, *options)
    assert outcome.code == 0 and "3 recordings had a text already" in outcome.stderr
    assert {path.name: path.read_text() for path in (tmp_path / "out" / "subtitles").rglob("*.srt")} == made
    if rows == "segment":
        assert all(row["index"] is not None for row in rows_of(tmp_path / "out"))


def test_a_name_that_is_no_text(archive: Path, batch: Callable[..., Outcome], tmp_path: Path) -> None:
    shutil.copy(AUDIO / "commands.flac", archive / os.fsdecode(b"sch\xf6n.flac"))
    (archive / "a.flac").unlink()
    (archive / os.fsdecode(b"b\xf6se.wav")).write_text("no sound")
    assert batch(archive, "--subtitles", "txt").code == 1
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "out")}
    assert rows["sch\\xf6n.flac"]["text"].split() == COMMANDS.split() and rows["b\\xf6se.wav"]["error"]
    assert (tmp_path / "out" / "subtitles" / os.fsdecode(b"sch\xf6n.txt")).exists()
    assert "2 recordings had a text already: done before, or the content of another" in batch(archive).stderr


def test_urls(archive: Path, batch: Callable[..., Outcome], tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.pipe({f"/in/{path.name}": path.read_bytes() for path in AUDIO.glob("*.flac")})
    try:
        assert "3 recordings transcribed" in batch("memory://in").stderr
        assert "3 recordings had a text already" in batch("memory://in").stderr
        assert {row["path"] for row in rows_of(tmp_path / "out")} == {
            f"memory:///in/{path.name}" for path in AUDIO.glob("*.flac")
        }
        system.pipe("/in/list.txt", b"none.wav\n")
        outcome = batch("memory://in/list.txt")
        assert outcome.code == 1 and "memory://in/none.wav cannot be fetched" in outcome.stderr
        assert not (tmp_path / "out" / ".batch" / "downloads").exists() or not [
            *(tmp_path / "out" / ".batch" / "downloads").iterdir()
        ]
    finally:
        system.rm("/in", recursive=True)


def test_failures_of_a_list_of_urls_are_tried_again_at_once(
    archive: Path, batch: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fsspec.filesystem("memory")
    system.pipe({f"/bad/{number}.wav": f"no sound {number}".encode() for number in range(6)})
    system.pipe("/bad/list.txt", "\n".join(f"{number}.wav" for number in range(7)).encode())
    written: list[Path] = []
    put = journals.put
    monkeypatch.setattr(journals, "put", lambda path, *more: written.append(path) or put(path, *more))
    try:
        assert "7 of 8 recordings have no text" in batch("memory://bad/list.txt", archive / "a.flac").stderr
        system.pipe("/bad/0.wav", (AUDIO / "spelling.flac").read_bytes())
        written.clear()
        outcome = batch("memory://bad/list.txt", archive / "a.flac", "--retry-failed")
    finally:
        system.rm("/bad", recursive=True)
    assert "1 recording transcribed" in outcome.stderr and "6 of 8 recordings have no text" in outcome.stderr
    assert [path.name for path in written] == ["part-00001.parquet", "part-00002.parquet"]


def test_files_that_cannot_be_written_are_told_in_every_run(
    archive: Path, batch: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "out" / "subtitles" / "a.srt").mkdir(parents=True)
    for _ in range(2):
        outcome = batch(archive, "--subtitles", "srt")
        assert outcome.code == 1 and outcome.stderr.count("a.srt is a folder, expected the name of a file") == 1
        assert outcome.stderr.splitlines()[-1].startswith("error: 1 of the recordings have no files with subtitles")
    assert len(by_key(tmp_path / "out")) == 2


MISTAKES: list[tuple[list[str], str]] = [
    (["nowhere"], "there is no file or folder nowhere: give a folder, a pattern, a list of recordings"),
    (["{in}", "--beam-size", "x"], "--beam-size: expected an integer, 1 to 100"),
    (["{in}", "--workers", "many"], "--workers: expected an integer, 1 to 4096, or auto, got 'many'"),
    (["{in}", "--format", "csv"], "--format: expected parquet or jsonl, got 'csv'"),
    (["{in}", "--subtitles", "json"], "expected one of srt, tsv, txt, vtt, got 'json'"),
    (["{in}", "--threads", "4000"], "--threads 4000: this process may use"),
    (["{in}", "--language", "xx"], "unknown language 'xx'"),
    (["{in}", "--highlight-words"], "give --word-timestamps too"),
    (["{in}/a.flac", "--watch"], "--watch: expected folders"),
    (["{in}", "--out", "{in}/a.flac"], "there is a file in its place; give a folder for the results"),
    (["{in}", "--model", "{in}"], "is no artifact (it has no manifest.json)"),
    (["{in}", "{in}/../other", "--subtitles", "srt"], "would have the same file"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_one_sentence_and_nothing_is_begun(
    arguments: list[str], message: str, archive: Path, batch: Callable[..., Outcome], tmp_path: Path
) -> None:
    shutil.copytree(archive, tmp_path / "other")
    outcome = batch(*(argument.format(**{"in": archive}) for argument in arguments))
    assert message in error(outcome)
    assert not rows_of(tmp_path / "out")


def test_results_of_another_kind_are_not_mixed(archive: Path, batch: Callable[..., Outcome]) -> None:
    assert batch(archive).code == 0
    assert "it has results of --format parquet --rows recording" in error(batch(archive, "--rows", "segment"))


def test_a_full_disk_ends_the_run_and_loses_nothing(archive: Path, nano_artifact: Path, tmp_path: Path) -> None:
    write_clips(archive, [8.0] * 12)
    arguments = ("batch", archive, "--model", nano_artifact, "--out", tmp_path / "out", "--format", "jsonl")

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))

    outcome = spawn(*arguments, "--workers", "1", preexec_fn=small_files)
    assert outcome.code == 1
    assert outcome.stderr.splitlines()[-1].endswith(
        "cannot be written, there is no space left (File too large): free some"
    )
    assert run(*arguments, "--workers", "1").code == 0
    assert len(by_key(tmp_path / "out")) == 14


def test_ctrl_c_keeps_all_and_says_how_to_go_on(nano_artifact: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "in", [5.0, 6.0, 900.0])
    arguments = ["batch", tmp_path / "in", "--model", nano_artifact, "--out", tmp_path / "out", "--workers", "1"]
    ours, theirs = terminal(80)
    process = subprocess.Popen(
        [sys.executable, "-m", "max_whisper", *map(str, arguments)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 1 << 16):
                seen.extend(data)
        except OSError:  # so a terminal says that nobody writes any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    end = time.monotonic() + 60
    while not [*(tmp_path / "out" / ".batch").glob("*.windows")]:
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    reader.join()
    os.close(ours)
    lines = [text for text in re.split(r"[\r\n]+", ANSI.sub(b"", bytes(seen)).decode()) if text.strip()]
    assert lines[-1] == "error: stopped by Ctrl-C"
    assert "3 recordings left: the same command goes on with them" in lines, lines[-8:]
    assert all(len(text) <= 80 for text in lines if "━" in text)
    outcome = run(*arguments)
    assert outcome.code == 0 and "3 recordings transcribed: " in outcome.stderr
    assert len(by_key(tmp_path / "out")) == 3


def test_a_watched_folder(nano_artifact: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_whisper.batch.watching.INTERVAL", 0.2)
    monkeypatch.setattr(batches, "PUBLISH_AFTER", 0.0)
    out = tmp_path / "out"
    idle: set[float] = set()  # how long recordings were transcribed, while there were none

    def told(self: object, status: Status) -> None:
        if status.done == 2 and status.started is None:
            idle.add(status.elapsed)

    monkeypatch.setattr("max_whisper.batch.api._Caller.progress", told)
    stages = follow(out, archive)
    summary = max_whisper.transcribe_archive(
        archive, model=nano_artifact, out=out, workers=1, watch=True, stop=lambda: next(stages)
    )
    assert summary.done == 3 and summary.left == 0 and summary.failed == 0
    assert len(by_key(out)) == 3 and len(idle) == 1


def test_a_watch_goes_on_where_two_recordings_would_have_one_file(
    nano_artifact: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_whisper.batch.watching.INTERVAL", 0.1)
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    shutil.copy(AUDIO / "spelling.flac", other / "a.flac")
    failed: list[str] = []
    ended: list[max_whisper.Progress] = []
    end = time.monotonic() + 60

    def told(progress: max_whisper.Progress) -> None:
        if progress.message.startswith("3 of 3 "):
            ended.append(progress)

    summary = max_whisper.transcribe_archive(
        [archive, other], model=nano_artifact, out=out, workers=1, watch=True, subtitles=["txt"],
        progress=told, failed=failed.append, stop=lambda: bool(ended) or time.monotonic() > end,
    )  # fmt: skip
    assert (summary.done, summary.unwritten, len(by_key(out))) == (3, 1, 3)
    assert len(failed) == 1 and f"{other}/a.flac and {archive}/a.flac would have the same file" in failed[0]
    assert {path.relative_to(out / "subtitles").as_posix() for path in out.rglob("*.txt")} == {
        "a.flac.txt",
        "sub/b.txt",
    }
    assert (out / "subtitles" / "a.flac.txt").read_text().split() == COMMANDS.split()


def follow(out: Path, archive: Path) -> Iterator[bool]:
    """Yields whether to stop: when a third recording that comes later, slowly, has its row."""
    end = time.monotonic() + 60
    sound = (AUDIO / "spelling.flac").read_bytes()
    while len(by_key(out)) < 2:
        assert time.monotonic() < end
        yield False
    with (archive / "late.flac").open("wb") as file:
        for begin in range(0, len(sound), len(sound) // 5 + 1):
            file.write(sound[begin : begin + len(sound) // 5 + 1])
            file.flush()
            time.sleep(0.1)
            yield False
    while len(by_key(out)) < 3:
        assert time.monotonic() < end
        yield False
    while True:
        yield True


def test_a_watch_ends_with_ctrl_c_and_0(nano_artifact: Path, archive: Path, tmp_path: Path) -> None:
    arguments = ["batch", archive, "--model", nano_artifact, "--out", tmp_path / "out", "--watch", "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "max_whisper", *map(str, arguments)], stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not [*(tmp_path / "out" / ".batch").glob("part-*.jsonl")]:
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and b"error" not in said


def test_workers_start_before_headers_are_read_and_not_in_vain(
    nano_artifact: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    pool, durations = batches.Pool, batches.durations
    monkeypatch.setattr(batches, "Pool", lambda *given: begun.append("workers") or pool(*given))
    monkeypatch.setattr(batches, "durations", lambda *given: begun.append("headers") or durations(*given))
    arguments = {"model": nano_artifact, "out": tmp_path / "out", "threads": 1}
    assert max_whisper.transcribe_archive(archive, workers=2, **arguments).done == 2
    assert begun == ["workers", "headers"]
    assert max_whisper.transcribe_archive(archive, workers=2, **arguments).skipped == 2
    assert len(begun) == 2
    shutil.copy(AUDIO / "spelling.flac", archive / "c.flac")
    assert max_whisper.transcribe_archive(archive, **arguments).done == 1  # one core has one worker
    assert begun[2:] == ["workers", "headers"]


def test_programs_get_a_summary_and_progress(nano_artifact: Path, archive: Path, tmp_path: Path) -> None:
    told: list[max_whisper.Progress] = []
    failed: list[str] = []
    (archive / "bad.wav").touch()
    summary = max_whisper.transcribe_archive(
        [archive], model=nano_artifact, out=tmp_path / "out", workers=2, progress=told.append, failed=failed.append
    )
    assert (summary.done, summary.failed, summary.skipped, summary.left, summary.workers) == (2, 1, 0, 0, 2)
    assert summary.audio_seconds == pytest.approx(17.2, abs=0.1) and summary.parts == [
        tmp_path / "out" / "part-00001.parquet"
    ]
    assert told[-1].unit == "seconds" and told[-1].done == pytest.approx(told[-1].total)
    assert re.match(r"3 of 3 recordings, 0.0 of 0.0 hours, \d+ x real time, 0 s left, 1 failed", told[-1].message)
    assert len(failed) == 1 and "bad.wav is empty" in failed[0]
    with pytest.raises(UserError, match="initial_prompt"):
        max_whisper.transcribe_archive([archive], model=nano_artifact, out=tmp_path / "o", prompt="x")  # type: ignore[call-arg]
