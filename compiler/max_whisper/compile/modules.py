"""Spec -> encoder.mef and decoder.mef, each by a process of its own, with a cache that lasts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import msgspec
from blake3 import blake3

from max_whisper.artifact.manifest import Graph
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.compile.worker import Job, Result
from max_whisper.errors import CompileError
from max_whisper.lowering.calls import Call
from max_whisper.plan import Target
from max_whisper.progress import OnProgress, Progress
from max_whisper.spec import Spec

MODULES = ("encoder", "decoder")


def compile_modules(
    spec: Spec,
    folder: Path,
    *,
    dtype: str,
    batch: int,
    target: Target,
    alignment_heads: list[tuple[int, int]],
    exact_halves: dict[str, str],
    progress: OnProgress,
    probe: bool = False,
    clocks: bool = False,
) -> Result:
    """Writes `encoder.mef` and `decoder.mef` to `folder`; returns their graphs. Both are compiled at the same time.

    alignment_heads: those of the cross-attention whose scores the decoder gives on request.
    exact_halves: dtypes of the tensors that have 16 bits though the build is float32 (lowering/storage.py).
    probe: let the graphs give the output of every layer too, for verification.
    clocks: let `encoder`, `cross_kv` and `step` tell when each kernel begins and ends (lowering/clocked.py); no others.

    Raises CompileError with the compiler's last words where one fails or aborts.
    """
    started = time.monotonic()
    kernels = kernels_package(cache_folder())
    probes = str(kernels_package(cache_folder(), "probes")) if clocks else ""
    workers = {}
    try:
        for module in MODULES:
            job = Job(
                spec=spec.canonical(),
                module=module,
                dtype=dtype,
                batch=batch,
                target=target,
                path=str(folder / f"{module}.mef"),
                kernels=str(kernels),
                alignment_heads=alignment_heads,
                exact_halves=exact_halves,
                probe=probe,
                parent=os.getpid(),
                clocks=probes,
            )
            workers[module] = _Worker(job)
        graphs: dict[str, Graph] = {}
        calls: dict[str, list[Call]] = {}
        while workers:
            time.sleep(0.05)
            for module in [name for name, worker in workers.items() if worker.process.poll() is not None]:
                result = workers.pop(module).result()
                graphs |= result.graphs
                calls |= result.calls
                progress(Progress(f"compiled the {module} in {time.monotonic() - started:.0f} s"))
        return Result({name: graphs[name] for name in sorted(graphs)}, calls)
    finally:
        for worker in workers.values():
            worker.stop()


class _Worker:
    def __init__(self, job: Job) -> None:
        self._module = job.module
        self._output, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        environment = {
            "PYTHONHASHSEED": "0",
            "MODULAR_TELEMETRY_ENABLED": "false",
            "MODULAR_CACHE_DIR": str(cache_folder() / graph_key(job)),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "max_whisper.compile.worker"],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._errors,
            env=os.environ | environment,
        )
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:  # a dead worker is seen by `result`
            stdin.write(msgspec.json.encode(job))

    def result(self) -> Result:
        code = self.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if code == 0:
            self._output.seek(0)
            try:
                return msgspec.json.decode(self._output.read(), type=Result)
            except msgspec.DecodeError:
                how = "gave no result"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        said = f", saying: {lines[-1][:300]}" if lines else ""
        raise CompileError(
            f"MAX could not compile the {self._module}: the compiler {how}{said}; nothing was written. If memory was "
            f"short (it takes 2 GB), try again; if the cache may be damaged, delete {cache_folder()}"
        )

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def graph_key(job: Job) -> str:
    """The same for jobs that compile the same graph.

    Each graph has a cache of its own: out of one for all, MAX puts code of other graphs into a MEF (that of tiny's
    decoder had 2.5 MB from an empty cache and 10.8 MB from a used one).
    """
    packages = {name: Path(getattr(job, name)).parent.name for name in ("kernels", "clocks")}
    same = msgspec.structs.replace(job, path="", parent=0, **packages)
    return blake3(msgspec.json.encode(same) + version("max").encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where compiled code is kept between builds: MODULAR_CACHE_DIR, or a folder of ours in the user's cache."""
    if given := os.environ.get("MODULAR_CACHE_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "max-whisper" / "max"
