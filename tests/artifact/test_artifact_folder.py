"""The folder of a build: what is replaced, with several builds at once, killed ones, and without locks."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from max_whisper.artifact import folder as module
from max_whisper.artifact.folder import new_folder
from max_whisper.artifact.manifest import MANIFEST_FILE
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.files import expanded

WRITE = """
import sys, time
from pathlib import Path
from max_whisper.artifact.folder import new_folder
with new_folder(Path(sys.argv[1]), replace=True) as new:
    (new / "manifest.json").write_text(sys.argv[2])
    print(new, flush=True)
    sys.stdin.readline()
"""


def start(place: Path, content: str, *before: str) -> subprocess.Popen[str]:
    """Starts a process that writes an artifact to `place` and waits, and returns it once it has begun."""
    command = [*before, sys.executable, "-c", WRITE, str(place), content]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline()
    return process


def write(place: Path, content: str, *, replace: bool = True) -> None:
    with new_folder(place, replace=replace) as new:
        (new / MANIFEST_FILE).write_text(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_that_is_written_to_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "a"
    process = start(place, "first")
    write(place, "second")
    assert len(names(tmp_path)) == 2  # the place, and what the process still writes
    process.communicate("\n")
    assert process.returncode == 0
    assert (place / MANIFEST_FILE).read_text() == "first"
    assert names(tmp_path) == ["a"]


def test_a_killed_build_is_cleaned_up_whatever_its_number(tmp_path: Path) -> None:
    place = tmp_path / "a"
    process = start(place, "first")
    process.kill()
    process.communicate()
    assert len(names(tmp_path)) == 1
    (tmp_path / f".a.new-{os.getpid()}").mkdir()  # as an older version named it, in another container
    write(place, "second")
    assert names(tmp_path) == ["a"] and (place / MANIFEST_FILE).read_text() == "second"


def can_unshare() -> bool:
    done = subprocess.run(["unshare", "-p", "-f", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(shutil.which("unshare") is None or not can_unshare(), reason="may not make a PID namespace")
def test_a_build_in_another_container_is_left_alone(tmp_path: Path) -> None:
    """The killed build ran in another container, whose process ids do not exist here."""
    place = tmp_path / "a"
    process = start(place, "first", "unshare", "-p", "-f", "--kill-child")
    write(place, "second")
    process.communicate("\n")
    assert process.returncode == 0 and (place / MANIFEST_FILE).read_text() == "first"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("force", [True, False])
def test_several_at_once_end_in_order(tmp_path: Path, force: bool) -> None:
    """One after the other takes the place, or raises the error that it is taken."""
    place, refused, written = tmp_path / "a", [], []

    def one(number: int) -> None:
        for _ in range(10):
            try:
                with new_folder(place, replace=force) as new:
                    (new / MANIFEST_FILE).write_text(f"{number}")
                    time.sleep(0.001)
                written.append(number)
            except MaxWhisperError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) + len(refused) == 60 and (place / MANIFEST_FILE).read_text() in {*map(str, written)}
    assert names(tmp_path) == ["a"]
    if force:
        assert not refused
    else:
        assert len(written) == 1 and all("is there already" in said for said in refused)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EBADF, errno.ENOTSUP])
def test_without_locks_nothing_of_others_is_removed(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / ".a.new-0123456789abcdef").mkdir()
    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    write(tmp_path / "a", "first")
    write(tmp_path / "a", "second")
    assert names(tmp_path) == [".a.new-0123456789abcdef", "a"]
    assert (tmp_path / "a" / MANIFEST_FILE).read_text() == "second"


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("a\0b", "x" * 300):
        with pytest.raises(UserError, match="choose another place with --out"):
            write(tmp_path / name, "x")
    assert names(tmp_path) == []


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x" and expanded("~") == tmp_path
    assert expanded(Path("~/x")) == tmp_path / "x"
    assert expanded("a/~/x") == Path("a/~/x")
    assert expanded("~no-such-user/x") == Path("~no-such-user/x")
    for wrong in (None, 3, b"x", ["x"]):
        with pytest.raises(UserError, match="expected a path as text"):
            expanded(wrong)  # type: ignore[arg-type]
