"""The parts of a run that need no model: order, cores, numbers of workers, what is told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event

import fsspec
import pytest
from max_whisper.batch import order, workers
from max_whisper.batch.inputs import remote
from max_whisper.batch.inputs.find import find_all
from max_whisper.batch.inputs.source import Source, local_source
from max_whisper.batch.order import durations
from max_whisper.batch.prepare import Job, Preparer
from max_whisper.batch.subtitles import Subtitles
from max_whisper.batch.summary import BatchSummary, Status, duration
from max_whisper.batch.workers import choose_workers, cores_of, fastest, known_workers
from max_whisper.cli.batch.display import report, short
from max_whisper.errors import UserError
from max_whisper.runtime.output.options import PLAIN
from support.sounds import encode, noise, write_wav


def test_durations_are_those_of_headers_or_of_sizes(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", noise(3))
    encode(tmp_path / "b.mp3", noise(5, 44100), codec="mp3")
    (tmp_path / "c.wav").write_bytes(b"x" * 32_000)
    sources = [local_source(str(tmp_path / name), name) for name in ("a.wav", "b.mp3", "c.wav", "none.wav")]
    sources.append(Source("s3://x/y.wav", "y.wav", 160_000))
    done: list[int] = []
    found = durations(sources, 2, done.append, lambda: False)
    assert found == pytest.approx([3.0, 5.0, 2.0, 0.0, 10.0], abs=0.1)
    assert done == [1, 2, 3, 4]
    assert durations(sources[:1], 1, done.append, lambda: True) == [96_044 / order.USUAL_RATE]


def test_a_header_that_ends_its_process_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wav(tmp_path / "a.wav", noise(3))
    source = local_source(str(tmp_path / "a.wav"), "a.wav")
    command = order.module_command
    calls = iter([["true"], command("max_whisper.batch.probe")])
    monkeypatch.setattr(order, "module_command", lambda module: next(calls))
    assert durations([source, source], 1, lambda done: None, lambda: False) == [96_044 / order.USUAL_RATE, 3.0]


def test_cores_are_shared_evenly() -> None:
    assert cores_of(1, [0, 1, 2]) == [[0, 1, 2]]
    assert cores_of(2, [0, 2, 4, 6, 8]) == [[0, 2], [4, 6, 8]]
    assert cores_of(3, [0, 1]) == [[0], [1], [0]]


def test_the_fastest_number_of_workers() -> None:
    assert fastest({1: 100.0, 2: 190.0, 4: 200.0}) == 4
    assert fastest({1: 100.0, 2: 198.0, 4: 200.0}) == 2  # nearly as fast, with less memory


def test_the_number_of_workers_is_measured_once(
    nano_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(workers, "MEASURED_FOR", 0.1)
    (tmp_path / "bad.wav").write_text("no sound")
    samples = [tmp_path / "bad.wav", write_wav(tmp_path / "a.wav", noise(5))]
    said: list[str] = []

    def choose(seconds: float, recordings: int) -> int:
        return choose_workers(nano_artifact, {}, [0, 0], samples, seconds, recordings, said.append, lambda: False)

    assert choose(60.0, 9) == 2 and not said  # it is not worth it
    assert choose(4000.0, 1) == 1 and not said
    assert known_workers(nano_artifact, [0, 0], 1) == 1 and known_workers(nano_artifact, [0, 0], 9) is None
    fast = choose(4000.0, 9)
    assert len(said) == 2 and "1 x: " in said[1] and "2 x: " in said[1]
    assert known_workers(nano_artifact, [0, 0], 9) == fast
    assert known_workers(nano_artifact, [0, 0], 1) == 1


def test_no_more_workers_than_there_is_memory_for(nano_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "free_memory", lambda: 2 * workers.MEMORY)
    assert choose_workers(nano_artifact, {}, [0] * 8, [], 60.0, 9, lambda said: None, lambda: False) == 3


def test_files_for_players_never_share_a_name(tmp_path: Path) -> None:
    files = Subtitles(tmp_path, ["srt"], PLAIN)
    files.take([Source("/a/x.wav", "x.wav"), Source("/a/x.mp3", "x.mp3"), Source("/a/sub/x.wav", "sub/x.wav")])
    files.take([Source("/a/sub/x.ogg", "sub/x.ogg")])  # which a watch has found later
    assert files._stems == {
        "/a/x.wav": "x.wav",
        "/a/x.mp3": "x.mp3",
        "/a/sub/x.wav": "sub/x",
        "/a/sub/x.ogg": "sub/x.ogg",
    }
    clash, _ = files.take([Source(f"/{folder}/x.wav", "x.wav") for folder in "bc"] + [Source("/b/y.wav", "y.wav")])
    assert "/b/x.wav and /a/x.wav would have the same file" in str(clash)
    assert not files.is_wanted(Source("/b/x.wav", "x.wav")) and files._stems["/b/y.wav"] == "y"
    several = Subtitles(tmp_path, ["srt"], PLAIN)
    assert not several.take([Source(f"/a/{name}", name) for name in ("x.wav.mp3", "x.wav", "x.mp3", "y", "z.wav")])
    assert [*several._stems.values()] == ["x.wav.mp3", "x.wav", "x.mp3", "y", "z"]
    with pytest.raises(UserError, match="expected one of srt, tsv, txt, vtt, got 'sr'; did you mean 'srt'"):
        Subtitles(tmp_path, ["sr"], PLAIN)


@pytest.mark.parametrize("place", ["memory://x/", "memory://x/..", "memory://x/.", "memory://x/./a/../..", "https://h"])
def test_files_for_players_stay_in_their_folder(place: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/lists/a.txt", f"{place}\n{place.partition('x/')[2] or 'b.wav'}\n".encode())
    (tmp_path / "a.txt").write_text(f"{place}\n.\n..\nsub/..\n../../b.wav\n")
    for given in ("memory://lists/a.txt", str(tmp_path / "a.txt")):
        files = Subtitles(tmp_path / "subtitles", ["srt"], PLAIN)
        for source in find_all([given], tmp_path / "out"):
            files.take([source])
            if files.is_wanted(source):
                path = os.path.normpath(files._path(files._stems[source.place], "srt"))
                assert Path(path).parent == tmp_path / "subtitles" and not Path(path).name.startswith(".")


def test_a_pattern_does_not_lead_files_for_players_out_of_their_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    write_wav(tmp_path / "x.wav", noise(1))
    (source,) = find_all([f"{tmp_path}/a/*/../../x.wav"], tmp_path / "out")
    assert source.relative == "x.wav"


def test_a_name_that_no_file_can_have_is_missing(tmp_path: Path) -> None:
    files = Subtitles(tmp_path, ["srt"], PLAIN)
    source = Source("https://h/x", "talk?signature=" + "x" * 300)
    files.take([source])
    assert files.missing(source)


def test_the_rate_is_that_of_the_time_in_which_there_was_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("max_whisper.batch.summary.time.monotonic", lambda: now)
    status = Status(recordings=2, audio_seconds=400.0)
    status.begin()
    now, status.done_seconds = 10.0, 100.0
    assert status.rate == 10.0
    status.pause()
    now = 1000.0
    assert (status.rate, status.elapsed) == (10.0, 10.0)
    status.begin()
    now, status.done_seconds = 1010.0, 300.0
    assert (status.rate, status.elapsed) == (15.0, 20.0)


def test_a_fetch_that_is_stopped_is_left_for_another_run(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/talk.wav", b"sound")
    with closing(Preparer(tmp_path, lambda: True)) as preparer:
        job = preparer.submit(Job(0, Source("memory://talk.wav", "talk.wav"), 0.0)).result()
    assert (job.content, job.error, job.file) == ("", "", None) and not [*tmp_path.iterdir()]


def test_a_fetch_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error has ended the run, which does not wait for the whole of a recording."""
    fsspec.filesystem("memory").pipe("/long.wav", bytes(3 << 20))
    begun = Event()

    def closed_soon(stop: Callable[[], bool]) -> bool:
        begun.set()
        end = time.monotonic() + 60
        while not stop() and time.monotonic() < end:
            time.sleep(0.01)
        return stop()

    fetch = remote.fetch
    monkeypatch.setattr(remote, "fetch", lambda url, to, stop: fetch(url, to, lambda: closed_soon(stop)))
    preparer = Preparer(tmp_path, lambda: False)
    job = preparer.submit(Job(0, Source("memory://long.wav", "long.wav"), 0.0))
    assert begun.wait(60)
    preparer.close()
    assert job.result().content == "" and not [*tmp_path.iterdir()]


def test_what_is_told_fits_a_terminal() -> None:
    status = Status(90_000, 40_000, 9, 12_345, 0, 3.6e8, 1.8e8, 0.0, 2, time.monotonic() - 1e6)
    assert short(status) == "50000 of 100000 h, 180 x real time, 11 d 13 h left, 12345 failed"
    assert len(short(status)) <= 80 - 13
    assert status.progress.message.startswith("52345 of 90000 recordings, 50000.0 of 100000.0 hours, 180 x real time")
    assert [*map(duration, (5.4, 90, 5000, 4e5))] == ["5 s", "2 min", "1 h 23 min", "4 d 15 h"]
    summary = BatchSummary(
        3, 2, 1, 0, 1, 7200.0, 60.0, 1, Path("out"), [Path("part-00001.jsonl"), Path("part-00003.jsonl")]
    )
    assert [*report(summary)] == [
        "3 recordings transcribed: 2 h 0 min of audio in 1 min, 120 audio hours per machine hour (1 worker)",
        "2 recordings had a text already: done before, or the content of another",
        "1 recording left: the same command goes on with them",
        "out: part-00001.jsonl to part-00003.jsonl",
    ]
