"""The interpreter ends while threads compute: in order, with the exit code of the program."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import random, sys, threading, time
import numpy as np
import max_whisper

folder, work, end = sys.argv[1:]
model = max_whisper.load(folder)
mel = np.random.default_rng(0).standard_normal((1, 80, 200)).astype(np.float32)
wave = (0.1 * np.random.default_rng(0).standard_normal(16000 * 20)).astype(np.float32)
features = model.encode(mel)
CALLS = {
    "encode": lambda: model.encode(mel),
    "tokens": lambda: model.decode(features, language="en", max_new_tokens=400),
    "transcribe": lambda: model.transcribe(wave, language="en"),
    "load": lambda: max_whisper.load(folder),
    "log_mel": lambda: model.log_mel(wave),
}
started = threading.Event()

def run():
    while True:
        started.set()
        CALLS[work]()

if end == "pool":
    from concurrent.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor(2)
    tasks = [pool.submit(CALLS[work]) for _ in range(4)]
    import atexit
    atexit.register(lambda: print(sum(task.done() for task in tasks), flush=True))
    sys.exit(7)
if end == "interrupt":
    CALLS[work]()  # imports its modules: CPython forgets an interrupt when another thread runs `exec` after it
for _ in range(2):
    threading.Thread(target=run, daemon=True).start()
started.wait()
time.sleep(random.Random(time.time_ns()).uniform(0, 0.1))
if end == "exit":
    sys.exit(7)
if end == "raise":
    raise ValueError("a mistake of the program")
if end == "interrupt":
    raise KeyboardInterrupt
"""


def end(artifact: Path, work: str, how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(artifact), work, how]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("work", ["encode", "tokens", "transcribe", "load", "log_mel"])
def test_daemon_threads(artifact: Path, work: str) -> None:
    for _ in range(5):
        done = end(artifact, work, "exit")
        assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


@pytest.mark.parametrize(("how", "code", "said"), [("raise", 1, "a mistake"), ("interrupt", -2, "KeyboardInterrupt")])
@pytest.mark.parametrize("work", ["encode", "tokens"])
def test_a_program_that_fails(artifact: Path, work: str, how: str, code: int, said: str) -> None:
    done = end(artifact, work, how)
    assert done.returncode == code
    assert said in done.stderr.splitlines()[-1] and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("work", ["encode", "transcribe"])
def test_what_a_pool_was_given_is_done(artifact: Path, work: str) -> None:
    done = end(artifact, work, "pool")
    assert (done.returncode, done.stdout, done.stderr) == (7, "4\n", "")


def test_the_end_may_use_the_model_itself(artifact: Path) -> None:
    """What was given to `atexit` before the model was loaded runs after our own part."""
    text = """
import atexit, sys
import numpy as np
import max_whisper
atexit.register(lambda: print(len(model.encode(np.zeros((1, 80, 200), np.float32)))))
model = max_whisper.load(sys.argv[1])
model.encode(np.zeros((1, 80, 200), np.float32))
"""
    done = subprocess.run([sys.executable, "-c", text, str(artifact)], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1\n", b"")


@pytest.mark.parametrize("name", ["model", "batched"])
def test_the_end_may_use_a_model_that_daemon_threads_use(name: str, request: pytest.FixtureRequest) -> None:
    """They are blocked before their next call of MAX, and must not keep the turn to compute."""
    text = """
import atexit, sys, threading, time
import numpy as np
import max_whisper

def last():
    print(len(model.decode(features, language="en", max_new_tokens=3)))

def run():
    while True:
        model.decode(features, language="en", max_new_tokens=50)

atexit.register(last)
model = max_whisper.load(sys.argv[1])
features = model.encode(np.zeros((1, 80, 200), np.float32))
for _ in range(3):
    threading.Thread(target=run, daemon=True).start()
time.sleep(0.3)
"""
    folder = str(request.getfixturevalue(name)._artifact.folder)
    for _ in range(3):
        command = [sys.executable, "-c", text, folder]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"1\n", b"")


def test_an_idle_thread_does_not_hold_up_the_end(artifact: Path) -> None:
    text = """
import sys, threading
import max_whisper
import time
model = max_whisper.load(sys.argv[1])
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(time.time())
"""
    done = subprocess.run(
        [sys.executable, "-c", text, str(artifact)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and time.time() - float(done.stdout) < 2
