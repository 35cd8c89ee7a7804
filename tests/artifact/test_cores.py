"""MAX's threads run on the claimed cores, and results do not depend on that; tried in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from max_whisper.artifact import cores
from max_whisper.artifact.cores import least_busy, usable_cores

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the locks are Linux's"),
    pytest.mark.skipif(len(usable_cores()) < 2, reason="a single core is not shared"),
]

START = """
    import os, sys, time
    from pathlib import Path
    from max_whisper.artifact import core_claims, cores
    cores.claim_path = lambda: Path(sys.argv[1])
    def threads():
        return {frozenset(os.sched_getaffinity(thread)) for thread in cores.max_threads()}
"""


def start(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    program = textwrap.dedent(START) + textwrap.dedent(program)
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return said


def test_a_model_leaves_others_their_cores_and_gives_the_same(artifact: Path, tmp_path: Path) -> None:
    program = """
        import numpy as np
        import max_whisper
        model = max_whisper.load(sys.argv[2])
        everything = {frozenset(cores.usable_cores())}
        mel = np.random.default_rng(0).standard_normal((1, 80, 200)).astype(np.float32)
        def work():
            features = model.encode(mel)
            return np.asarray(features).tobytes(), model.decode(features, language="en", max_new_tokens=30)
        alone = work()
        assert threads() == everything, threads()
        other = core_claims.CoreClaims(core_claims.ClaimFile(Path(sys.argv[1])), cores.usable_cores())
        assert cores.core_sharing._claims.active is False
        with cores.core_sharing:
            other.claim()
            time.sleep(2 * cores.CHECK_INTERVAL)
            assert work() == alone
            (shared,) = threads()
            assert shared == frozenset(cores.usable_cores() - other.cores_to_use()), shared
            other.release()
            work()
            assert threads() == {shared}
            time.sleep(core_claims.SETTLING_TIME + 2 * cores.CHECK_INTERVAL)
            work()
            time.sleep(core_claims.SETTLING_TIME + 2 * cores.CHECK_INTERVAL)
            assert work() == alone
            assert threads() == everything, threads()
    """
    if len(usable_cores()) > 2:
        program = "    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])\n" + program
    assert output(start(program, tmp_path / "claims", artifact)) == ""


def test_two_with_a_thread_each_work_on_different_cores(tmp_path: Path) -> None:
    program = """
        core, = cores.core_sharing.reserve(1)
        print(core, flush=True)
        time.sleep(60)
    """
    processes = [start(program, tmp_path / "claims") for _ in range(2)]
    try:
        chosen = [process.stdout.readline() for process in processes]  # type: ignore[union-attr]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert len({*chosen}) == 2


def test_the_command_works_on_the_cores_it_claims(artifact: Path, tmp_path: Path) -> None:
    program = """
        from max_whisper.cli import main
        from max_whisper.cli.commands import transcribe
        seen = []
        bound = lambda: (sorted(os.sched_getaffinity(0)), cores.core_sharing._claims.active)
        transcribe.load_model = lambda *_: sys.exit(repr(bound()))
        other = core_claims.CoreClaims(core_claims.ClaimFile(Path(sys.argv[1])), cores.usable_cores())
        other.claim_fixed(1, [min(cores.usable_cores())])
        try:
            main.main(["transcribe", *sys.argv[2:], "--model", "tiny"])
        except SystemExit as e:
            print(e)
        cores.core_sharing._claims and print(cores.core_sharing._claims.active)
    """
    every = sorted(usable_cores())
    arguments = (tmp_path / "claims", "x.wav")
    assert output(start(program, *arguments)) == f"({every}, True)\nFalse\n"
    assert output(start(program, *arguments, "--threads", str(len(every)))) == f"({every}, True)\nFalse\n"
    (core,), taken = eval(output(start(program, *arguments, "--threads", "1")).splitlines()[0])
    assert core != every[0] and taken


def test_a_command_that_waits_for_stdin_claims_no_core(tmp_path: Path) -> None:
    program = """
        from max_whisper.cli import main
        from max_whisper.cli.commands import transcribe
        transcribe.load_model = lambda *_: sys.exit(str(cores.core_sharing._claims))
        main.main(["transcribe", "-", "--model", "tiny"])
    """
    process = start(program, tmp_path / "claims")
    process.communicate()
    assert not (tmp_path / "claims").exists()


def test_a_fork_has_claims_of_its_own(tmp_path: Path) -> None:
    program = """
        with cores.core_sharing:
            child = os.fork()
            if child == 0:
                assert cores.core_sharing._claims is None
                with cores.core_sharing:
                    others = cores.core_sharing._file.claimed_by_others(0, sorted(cores.usable_cores()))
                os._exit(len(others))
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status))
    """
    assert output(start(program, tmp_path / "claims")) == "1\n"


def test_the_least_busy_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([{0: (0, 0), 1: (0, 0), 2: (0, 0), 3: (0, 0)}, {0: (1, 5), 1: (5, 5), 2: (4, 5), 3: (5, 5)}])
    monkeypatch.setattr(cores, "_ticks", lambda: next(ticks))
    assert least_busy([0, 1, 2, 3, 9]) == [1, 3, 9, 2, 0]


def test_where_the_load_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_ticks", dict)
    assert least_busy([3, 1]) == [1, 3]


def test_the_load_is_read() -> None:
    assert {*cores._ticks()} >= usable_cores()
