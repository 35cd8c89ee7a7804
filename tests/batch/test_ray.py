"""`max_whisper.ray.Transcriber`: on tables here, and on a Ray cluster of this machine whose actors are killed."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from max_whisper import Model, load_audio
from max_whisper.batch.keys import content_hash, key_of, run_hash
from max_whisper.batch.rows import Row, recording_row, schema
from max_whisper.errors import ArtifactError, UserError
from max_whisper.ray import Transcriber
from max_whisper.runtime.results import TranscriptionResult
from support.sounds import write_wav

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pa = pytest.importorskip("pyarrow")
ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

AUDIO = ROOT / "examples" / "audio"
RESULTS = schema("recording").names


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Returns the paths of ten recordings of different lengths, in no order of length."""
    folder = tmp_path_factory.mktemp("recordings")
    sound = np.concatenate([load_audio(AUDIO / f"{name}.flac") for name in ("spelling", "commands")])
    lengths = [3.0, 9.5, 1.2, 24.0, 4.4, 2.5, 14.0, 6.1, 0.8, 11.0]
    return [
        str(write_wav(folder / f"{i}.wav", sound[i * 8000 :][: round(16000 * seconds)]))
        for i, seconds in enumerate(lengths)
    ]


def expected(model: Model, folder: Path, paths: list[str], **options: Any) -> list[Row]:
    """Returns the rows that `Model.transcribe` gives."""
    run = run_hash(folder, options)
    return [recording_row(path, key_of(content_hash(path), run), model.transcribe(path, **options)) for path in paths]


def batch_of(columns: dict[str, list[Any]], form: str) -> Any:
    table = pa.table(columns)
    if form == "numpy":
        return {name: np.array(values, object) for name, values in columns.items()}
    return table.to_pandas() if form == "pandas" else table


@pytest.mark.parametrize("form", ["pyarrow", "pandas", "numpy"])
def test_a_table_of_paths(nano: Model, nano_artifact: Path, recordings: list[str], form: str) -> None:
    transcriber = Transcriber(nano_artifact)
    table = transcriber(batch_of({"speaker": [f"s{i}" for i in range(10)], "path": recordings}, form))
    assert table.column_names == ["speaker", *RESULTS]
    assert table.column("speaker").to_pylist() == [f"s{i}" for i in range(10)]
    assert table.select(RESULTS).schema == schema("recording")
    assert table.select(RESULTS).to_pylist() == expected(nano, nano_artifact, recordings)


@pytest.mark.parametrize("form", ["pyarrow", "pandas", "numpy"])
def test_a_table_of_bytes(nano: Model, nano_artifact: Path, recordings: list[str], form: str) -> None:
    contents = [Path(path).read_bytes() for path in recordings[:3]]
    transcriber = Transcriber(nano_artifact, bytes_column="bytes", word_timestamps=True, isolated=True)
    rows = expected(nano, nano_artifact, recordings[:3], word_timestamps=True)
    assert transcriber(batch_of({"bytes": contents, "path": recordings[:3]}, form)).to_pylist() == rows
    unnamed = transcriber(batch_of({"bytes": contents}, form)).to_pylist()
    assert unnamed == [{**row, "path": None} for row in rows]


def test_recordings_of_like_length_share_batches(batched: Model, recordings: list[str]) -> None:
    """The artifact has three rows, and takes the ten recordings by their length; the rows come in order."""
    folder = batched._artifact.folder
    options = {"language": "en", "temperature": 0, "max_new_tokens": 10, "condition_on_previous_text": False}
    transcriber = Transcriber(folder, **options)
    seen: list[int] = []
    row = transcriber._row
    transcriber._row = lambda recording: seen.append(recording.size) or row(recording)  # type: ignore[method-assign]
    table = transcriber(pa.table({"path": recordings}))
    assert seen == sorted((Path(path).stat().st_size for path in recordings), reverse=True)
    assert table.to_pylist() == expected(batched, folder, recordings, **options)


def test_bad_recordings_are_rows_with_an_error(
    nano: Model, nano_artifact: Path, recordings: list[str], tmp_path: Path
) -> None:
    (tmp_path / "broken.flac").write_text("no sound")
    (tmp_path / "folder.wav").mkdir()
    bad = [str(tmp_path / "broken.flac"), "missing.wav", "-", None, str(tmp_path / "folder.wav")]
    paths = [recordings[0], *bad, recordings[1]]
    rows = Transcriber(nano_artifact)(pa.table({"path": paths})).to_pylist()
    assert [row["path"] for row in rows] == paths
    assert [rows[0], rows[-1]] == expected(nano, nano_artifact, [recordings[0], recordings[1]])
    errors = [row["error"] for row in rows[1:-1]]
    assert "broken.flac" in errors[0] and "expected" in errors[0]
    assert errors[1:4] == [
        "missing.wav cannot be read: No such file or directory",
        "- cannot be read: No such file or directory",
        "expected the path of a recording, got NoneType",
    ]
    assert "folder.wav cannot be read: it is a folder" in errors[4]
    assert [row["key"] is None for row in rows] == [False, False, True, True, True, True, False]
    assert all(row["text"] is row["duration"] is None and row["segments"] == [] for row in rows[1:-1])
    content = Transcriber(nano_artifact, bytes_column="sound")(pa.table({"sound": [None, b"no sound"]})).to_pylist()
    assert content[0]["error"] == "expected the bytes of a recording, got NoneType"
    assert content[1]["error"].startswith("the recording ")


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_changes_meanwhile_is_tried_again(
    times: int, nano: Model, nano_artifact: Path, recordings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(recordings[0], tmp_path / "talk.wav"))
    later = [Path(recordings[number]).read_bytes() for number in (4, 5)][:times]
    transcriber = Transcriber(nano_artifact)
    transcribe = transcriber._model.transcribe

    def changing(*arguments: Any, **options: Any) -> TranscriptionResult:
        result = transcribe(*arguments, **options)
        if later:
            path.write_bytes(later.pop(0))
        return result

    monkeypatch.setattr(transcriber._model, "transcribe", changing)
    (row,) = transcriber(pa.table({"path": [str(path)]})).to_pylist()
    if times == 1:
        assert row == expected(nano, nano_artifact, [str(path)])[0]
    else:
        assert (row["path"], row["key"], row["text"]) == (str(path), None, None)
        assert row["error"] == f"{path} was changed while it was transcribed, 2 times: wait until it is done"


def test_a_file_that_goes_meanwhile_has_an_error(
    nano_artifact: Path, recordings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(recordings[0], tmp_path / "talk.wav"))
    transcriber = Transcriber(nano_artifact)
    monkeypatch.setattr(transcriber, "_transcribed", lambda recording: path.unlink())
    (row,) = transcriber(pa.table({"path": [str(path)]})).to_pylist()
    assert (row["path"], row["key"]) == (str(path), None)
    assert row["error"] == f"{path} cannot be read: No such file or directory"


def test_names_that_are_no_text(nano: Model, nano_artifact: Path, recordings: list[str], tmp_path: Path) -> None:
    path = shutil.copy(recordings[0], os.fsencode(tmp_path) + b"/\xff.wav")
    (row,) = Transcriber(nano_artifact, path_column="file")(pa.table({"file": [path]})).to_pylist()
    assert row.pop("file") == path
    (alone,) = expected(nano, nano_artifact, [recordings[0]])
    assert row == {**alone, "path": os.fsencode(tmp_path).decode() + "/\\xff.wav"}


def test_what_is_done_is_left_out(nano: Model, nano_artifact: Path, recordings: list[str]) -> None:
    rows = expected(nano, nano_artifact, recordings[:4])
    transcriber = Transcriber(nano_artifact, done=[rows[0]["key"], rows[2]["key"]])
    table = transcriber(pa.table({"path": recordings[:4], "number": [0, 1, 2, 3]}))
    assert table.column("number").to_pylist() == [1, 3]
    assert table.select(RESULTS).to_pylist() == [rows[1], rows[3]]
    nothing = Transcriber(nano_artifact, done=[row["key"] for row in rows])(pa.table({"path": recordings[:4]}))
    assert nothing.num_rows == 0 and nothing.schema == schema("recording")


def test_columns_of_several_dimensions_are_kept(nano_artifact: Path, recordings: list[str]) -> None:
    batch = {"path": np.array(recordings[:2]), "vector": np.arange(12.0).reshape(2, 2, 3)}
    assert Transcriber(nano_artifact)(batch).column("vector").to_pylist() == batch["vector"].tolist()


def test_mistakes(nano_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^unknown option 'beem_size'; did you mean 'beam_size'"):
        Transcriber(nano_artifact, beem_size=3)  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"^beam_size: expected"):
        Transcriber(nano_artifact, beam_size=0)
    with pytest.raises(ArtifactError):
        Transcriber(tmp_path / "nothing")
    transcriber = Transcriber(nano_artifact)
    with pytest.raises(UserError, match=r"^there is no column 'path' with recordings, but file, text: name it as"):
        transcriber(pa.table({"file": ["a"], "text": ["b"]}))
    with pytest.raises(UserError, match=r"^the input has a column 'text', and so have the results: rename it first"):
        transcriber(pa.table({"path": ["a"], "text": ["b"]}))
    with pytest.raises(UserError, match=r"^expected a pyarrow.Table, a pandas.DataFrame or a dict of arrays, got list"):
        transcriber(["a"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Starts a Ray cluster with two CPUs on this machine, which keeps little in memory."""
    folder = tempfile.mkdtemp(prefix="mw-ray-")  # short, because sockets lie in it
    quiet = {"include_dashboard": False, "log_to_driver": False}
    ray.init("local", num_cpus=2, object_store_memory=100 << 20, _temp_dir=folder, **quiet)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def rows_of(dataset: Any, paths: list[str]) -> list[Row]:
    """Returns the rows of a dataset in the order of their paths."""
    batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: paths.index(row["path"]))


def on_cluster(paths: list[str], actor: type[Transcriber], size: int = 2, **arguments: Any) -> list[Row]:
    """Returns the rows of recordings that actors with one CPU each transcribe, two recordings at a time."""
    dataset = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=max(1, len(paths) // 2))
    actors = ray.data.ActorPoolStrategy(size=size)
    done = dataset.map_batches(actor, fn_constructor_kwargs=arguments, compute=actors, num_cpus=1, batch_size=2)
    return rows_of(done, paths)


def deadly() -> type[Transcriber]:
    """Returns a class whose actors note their cores, and of which one is killed when it has transcribed a recording.

    It is made here, so that Ray sends it as a whole: actors cannot import this file.
    """

    class Deadly(Transcriber):
        def __init__(self, notes: str, victim: str, model: str) -> None:
            super().__init__(model)
            self._notes, self._victim = Path(notes), victim
            (self._notes / f"{os.getpid()}.cores").write_text(str(sorted(os.sched_getaffinity(0))))

        def _row(self, recording: Any) -> Row:
            row = super()._row(recording)
            killed = self._notes / "killed"
            if recording.name == self._victim and not killed.exists():
                killed.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return row

    return Deadly


def test_an_actor_is_killed_and_no_row_is_lost(
    cluster: None, nano: Model, nano_artifact: Path, recordings: list[str], tmp_path: Path
) -> None:
    arguments = {"notes": str(tmp_path), "victim": recordings[4], "model": str(nano_artifact)}
    rows = on_cluster(recordings, deadly(), **arguments)
    assert rows == expected(nano, nano_artifact, recordings)
    cores = {path.stem: path.read_text() for path in tmp_path.glob("*.cores")}
    assert len(cores) == 3 and (tmp_path / "killed").read_text() in cores  # two, and the one in the place of the killed
    assert all(len(text.split(",")) == 1 for text in cores.values())


def test_bytes_that_ray_has_read(cluster: None, nano: Model, nano_artifact: Path, recordings: list[str]) -> None:
    dataset = ray.data.read_binary_files(recordings[:3], include_paths=True)
    rows = expected(nano, nano_artifact, recordings[:3])
    arguments = {"model": str(nano_artifact), "bytes_column": "bytes", "done": [rows[1]["key"]]}
    actors = ray.data.ActorPoolStrategy(size=1)
    done = dataset.map_batches(Transcriber, fn_constructor_kwargs=arguments, compute=actors, batch_size=3)
    assert rows_of(done, recordings) == [rows[0], rows[2]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"model": "/nothing"},
            "/nothing/manifest.json: No such file or directory; expected the manifest of an artifact",
        ),
        ({"beam_size": 0}, "beam_size: expected 1 to 100, or none, got 0"),
        ({"path_column": "file"}, "there is no column 'file' with recordings, but path: name it as path_column"),
    ],
)
def test_mistakes_on_a_cluster(
    cluster: None, nano_artifact: Path, recordings: list[str], arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ray.exceptions.RayTaskError) as raised:
        on_cluster(recordings[:1], Transcriber, size=1, **{"model": str(nano_artifact), **arguments})
    assert sentence in str(raised.value)
    assert len(str(raised.value).splitlines()) < 25
