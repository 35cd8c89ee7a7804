"""A build that is killed at any moment leaves the old artifact or the new one, and no process that runs on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from max_whisper.artifact.load import check_artifact
from max_whisper.artifact.manifest import MANIFEST_FILE
from support.artifacts import copy
from support.models.checkpoint import write_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

BUILD = """
import sys
import max_whisper
spec, weights, out = sys.argv[1:]
print("started", flush=True)
say = lambda progress: print(progress.message, flush=True)
max_whisper.build(spec, weights=weights, dtype="float32", out=out, force=True, progress=say)
print("done", flush=True)
"""
MARK = "MAX_WHISPER_TEST_BUILD"  # environment variable by which the processes of a build are known

# (lines of output to wait for, seconds after the last of them)
MOMENTS = [
    (1, 0.0),
    (1, 0.1),
    (2, 0.0),
    (3, 0.0),
    (3, 0.3),
    (3, 1.0),
    (4, 0.0),
    (5, 0.0),
    (5, 0.01),
    (5, 0.04),
    (6, 0.0),
]


@pytest.fixture(scope="module")
def other(home: Path) -> Path:
    """Returns a checkpoint for the small spec that is not the artifact's."""
    return write_checkpoint(home / "killed-checkpoint", seed=11)


class Build:
    """A process that builds, and the compile workers that it starts."""

    def __init__(self, *arguments: Path, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-c", BUILD, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {MARK: self.mark} | environment,
        )

    def wait_for(self, lines: int) -> list[str]:
        assert self.process.stdout
        return [self.process.stdout.readline() for _ in range(lines)]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def alive(self) -> list[int]:
        """Returns the processes of this build, including its compile workers."""
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and self._is_ours(path)]

    def _is_ours(self, path: Path) -> bool:
        try:
            zombie = ") Z" in (path / "stat").read_text()
            return not zombie and f"{MARK}={self.mark}".encode() in (path / "environ").read_bytes()
        except OSError:  # it has ended, or is another user's
            return False


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(("lines", "delay"), MOMENTS)
def test_killed(artifact: Path, spec: Path, other: Path, tmp_path: Path, lines: int, delay: float) -> None:
    folder = copy(artifact, tmp_path / "small")
    old = (folder / MANIFEST_FILE).read_bytes()
    build = Build(spec, other, folder)
    said = build.wait_for(lines)
    assert all(said)
    time.sleep(delay)
    build.kill()
    check_artifact(folder)
    found = (folder / MANIFEST_FILE).read_bytes()
    assert found == old or lines >= 5 or delay >= 1.0  # where all comes from the cache, a second may be enough
    wait_until(lambda: not build.alive(), 20)

    again = Build(spec, other, folder)
    again.process.communicate()
    assert again.process.returncode == 0
    check_artifact(folder)
    assert (folder / MANIFEST_FILE).read_bytes() != old
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize("lines", [2, 3, 5])
def test_killed_where_nothing_was(spec: Path, checkpoint: Path, tmp_path: Path, lines: int) -> None:
    build = Build(spec, checkpoint, tmp_path / "small")
    assert all(build.wait_for(lines))
    build.kill()
    if (tmp_path / "small").exists():
        check_artifact(tmp_path / "small")


@pytest.mark.parametrize("delay", [0.0, 4.0])
def test_the_compiler_does_not_go_on(spec: Path, checkpoint: Path, tmp_path: Path, delay: float) -> None:
    """With an empty cache the workers would be busy for a minute.

    Without delay they have not yet asked to be ended together with the process that started them.
    """
    build = Build(spec, checkpoint, tmp_path / "small", MODULAR_CACHE_DIR=str(tmp_path / "cache"))
    try:
        assert all(build.wait_for(3))
        wait_until(lambda: len(build.alive()) == 3, 20)
        time.sleep(delay)
    finally:
        build.kill()
    wait_until(lambda: not build.alive(), 30)
    assert not (tmp_path / "small").exists()
