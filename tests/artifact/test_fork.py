"""Processes that are forked from one that loaded a model: they get an error at once, and never wait forever.

Each test is a program of its own, because MAX has threads in the tests' process, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SAID = "a model cannot be used or loaded in a process that was forked"

HEAD = """
import multiprocessing, os, sys
import numpy as np
import max_whisper
from max_whisper.errors import ForkError

FOLDER = sys.argv[1]
MEL = np.zeros((1, 80, 200), np.float32)

def transcribe(folder):
    "In a process of its own."
    return max_whisper.load(folder).transcribe(np.zeros(32000, np.float32), language="en").text

def refused(call):
    try:
        call()
    except ForkError as error:
        return str(error)
    raise AssertionError("not refused")

def child(run):
    "The exit code of a forked child, which ends as Python ends."
    number = os.fork()
    if number == 0:
        run()
        sys.exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])

"""


def program(text: str, artifact: Path, timeout: float = 60) -> str:
    """Returns the output of a program, which must end with 0 in time."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(text), str(artifact)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


def test_every_method_refuses_at_once(artifact: Path) -> None:
    printed = program(
        """
        from max_whisper.runtime.decoding.options import DecodingOptions
        model = max_whisper.load(FOLDER)
        from max_whisper.runtime.transcription.requests import Align, Explain
        features = model.encode(MEL)
        window = features.windows[0]
        result = model.decode(features, language="en", max_new_tokens=3)[0]
        wave = np.zeros(32000, np.float32)
        windows = iter(model.transcriber(np.zeros(96000, np.float32), language="en", max_new_tokens=3))
        next(windows)
        calls = {
            "encode": lambda: model.encode(MEL),
            "logits": lambda: model.logits(features, [[1]]),
            "logits of an array": lambda: model.logits(np.zeros((1, 100, 64), np.float32), [[1]]),
            "detect_language": lambda: model.detect_language(features),
            "decode": lambda: model.decode(features, language="en"),
            "align": lambda: model.scheduler.ask([Align(window, [1, 2], "en", "transcribe", 200)]),
            "explain": lambda: model.scheduler.ask([Explain(window, result, DecodingOptions(language="en"))]),
            "transcribe": lambda: model.transcribe(wave, language="en"),
            "transcribe stdin": lambda: model.transcribe("-", language="en"),
            "transcribe_batch": lambda: model.transcribe_batch([wave]),
            "transcriber": lambda: model.transcriber(wave),
            "a transcriber that began before": lambda: next(windows),
            "load": lambda: max_whisper.load(FOLDER),
        }
        def use():
            for name, call in calls.items():
                print(name, "|", refused(call), flush=True)
        print("code", child(use))
        print("parent", len(model.encode(MEL)))
        """,
        artifact,
    )
    lines = printed.splitlines()
    assert lines[-2:] == ["code 7", "parent 1"]
    assert len(lines) == 15 and all(SAID in line and "spawn" in line for line in lines[:-2])


@pytest.mark.parametrize(
    "before",
    [
        "kept = None",
        "kept = max_whisper.load(FOLDER)",
        "kept = max_whisper.load(FOLDER).encode(MEL)",
        "model = max_whisper.load(FOLDER); kept = model.encode(MEL)",
        "model = max_whisper.load(FOLDER); kept = model.encode(MEL); model.decode(kept, language='en')",
        "max_whisper.load(FOLDER).encode(MEL); kept = None",
    ],
)
@pytest.mark.parametrize("child", ["pass", "global kept; del kept"])
def test_a_child_ends_with_its_own_code(artifact: Path, before: str, child: str) -> None:
    """A child that never uses the model ends, too: MAX's destructors would abort it, or wait."""
    printed = program(
        f"""
        {before}
        def nothing():
            {child}
            print("in the child")  # is written when Python ends
        print("code", child(nothing))
        print("code", child(lambda: child(nothing)))
        """,
        artifact,
    )
    assert printed.splitlines() == ["in the child", "code 7", "in the child", "code 7"]


def test_what_works_in_a_child(artifact: Path) -> None:
    """A child can do all that needs no thread of MAX, and everything if the parent has loaded no artifact."""
    printed = program(
        """
        from pathlib import Path
        from max_whisper.artifact.load import check_artifact
        check_artifact(Path(FOLDER))  # hashes with threads
        print("code", child(lambda: transcribe(FOLDER)))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(len(pool.map(transcribe, [FOLDER] * 2)))
        model = max_whisper.load(FOLDER)
        def look():
            check_artifact(Path(FOLDER))
            model.log_mel(np.zeros(16000, np.float32))
            model.tokenizer.encode("text")
        print("code", child(look))
        """,
        artifact,
    )
    assert printed.splitlines() == ["code 7", "2", "code 7"]


def test_multiprocessing(artifact: Path, tmp_path: Path) -> None:
    """With fork, a Pool and a Process get the error; with spawn and forkserver they work."""
    script = tmp_path / "program.py"
    script.write_text(
        HEAD
        + textwrap.dedent(
            """
            def encode(_):
                return len(model.encode(MEL))

            if __name__ == "__main__":
                model = max_whisper.load(FOLDER)
                model.encode(MEL)
                fork = multiprocessing.get_context("fork")
                with fork.Pool(2) as pool:
                    print(refused(lambda: pool.map(encode, range(4))))
                    print(refused(lambda: pool.map(transcribe, [FOLDER])))
                process = fork.Process(target=encode, args=(0,))
                process.start()
                process.join()
                print(process.exitcode)
                for kind in ("spawn", "forkserver"):
                    with multiprocessing.get_context(kind).Pool(1) as pool:
                        print(kind, pool.map(transcribe, [FOLDER]) == [transcribe(FOLDER)])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script), str(artifact)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert SAID in lines[0] and SAID in lines[1] and lines[2:] == ["1", "spawn True", "forkserver True"]


def test_a_server_that_loads_before_it_forks(artifact: Path) -> None:
    """As with `gunicorn --preload`, each worker gets the error for each request, and stops at a signal."""
    printed = program(
        """
        import signal
        model = max_whisper.load(FOLDER)
        model.encode(MEL)
        def worker():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            for request in range(2):
                print(refused(lambda: model.transcribe(np.zeros(32000, np.float32))), flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
        print([child(worker) for _ in range(2)])
        """,
        artifact,
    )
    lines = printed.splitlines()
    assert len(lines) == 5 and all(SAID in line for line in lines[:4]) and lines[4] == "[0, 0]"


def test_a_fork_while_others_compute(artifact: Path) -> None:
    """The child has the memory of threads that do not exist in it."""
    printed = program(
        """
        import threading, time
        model = max_whisper.load(FOLDER)
        stop = threading.Event()
        def run():
            while not stop.is_set():
                model.decode(model.encode(MEL), language="en", max_new_tokens=20)
        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(10):
            time.sleep(0.02)
            codes.append(child(lambda: refused(lambda: model.encode(MEL))))
        stop.set()
        print(codes)
        """,
        artifact,
    )
    assert printed.splitlines() == [str([7] * 10)]
