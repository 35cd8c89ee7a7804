"""Compiles the modules of a spec's family, each in its own process, with a cache on disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import msgspec
from blake3 import blake3

from max_whisper.artifact.manifest import Graph
from max_whisper.caches import user_cache
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.compile.worker import Compiled, Job
from max_whisper.errors import CompileError, UserError
from max_whisper.lowering.family import graphs_of, recipes_of
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.plan import BuildPlan
from max_whisper.progress import OnProgress, Progress
from max_whisper.python_process import module_command
from max_whisper.spec import Spec
from max_whisper.spec.family import families


def compile_modules(
    plan: BuildPlan, spec: Spec, folder: Path, *, progress: OnProgress, expose: bool = False, instrument: bool = False
) -> Compiled:
    """Compiles each module of the spec's family to a MEF file in `folder`, and returns the graphs.

    Whisper's files are `encoder.mef` and `decoder.mef`. All modules are compiled at the same time.

    Args:
        plan: The plan of the build.
        spec: The spec.
        folder: The folder for the MEF files.
        progress: Called after each module.
        expose: Whether the graphs also return the output of every layer, for `verify`.
        instrument: Whether to compile, instead of all graphs, only those that `bench` times, with timestamps around
            each call of a kernel.

    Raises:
        CompileError: The compiler failed or aborted; the message has its first error or its last line.
    """
    started = time.monotonic()
    kernels = str(kernels_package(cache_folder()))
    probes = str(kernels_package(cache_folder(), "probes")) if instrument else None
    imports = external_modules(spec)
    workers = {}
    try:
        for module in graphs_of(spec.family):
            output = str(folder / f"{module}.mef")
            job = Job(plan, spec.canonical(), imports, module, output, kernels, probes, expose, parent=os.getpid())
            workers[module] = _Worker(job)
        graphs: dict[str, Graph] = {}
        calls: dict[str, list[KernelCall]] = {}
        while workers:
            time.sleep(0.05)
            for module in [name for name, worker in workers.items() if worker.process.poll() is not None]:
                compiled = workers.pop(module).compiled()
                graphs |= compiled.graphs
                calls |= compiled.calls
                progress(Progress(f"compiled the {module} in {time.monotonic() - started:.0f} s"))
        return Compiled({name: graphs[name] for name in sorted(graphs)}, calls)
    finally:
        for worker in workers.values():
            worker.stop()


def external_modules(spec: Spec) -> list[str]:
    """Returns the modules outside this package that register the family or the layer kinds of a spec.

    The processes that compile must import them, too. Raises UserError for a module that these cannot import.
    """
    modules = {
        f"family '{spec.family}'": families()[spec.family].expand.__module__,
        **{f"graphs of the family '{spec.family}'": recipe.record.__module__ for recipe in recipes_of(spec.family)},
        **{
            f"layer kind '{node.layer.kind}'": type(node.layer).__module__
            for part in spec.parts.values()
            for node in part.walk()
        },
    }
    for definition, module in modules.items():
        if module == "__main__":
            raise UserError(
                f"{definition}: it is defined in the program that runs, which the processes that compile cannot "
                "import; put it into a file of its own, and import that"
            )
    return sorted({module for module in modules.values() if not module.startswith("max_whisper.")})


class _Worker:
    """A process that compiles a module."""

    def __init__(self, job: Job) -> None:
        self._module = job.module
        self._output, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        environment = {
            "PYTHONHASHSEED": "0",
            "MODULAR_TELEMETRY_ENABLED": "false",
            "MODULAR_CACHE_DIR": str(cache_folder() / graph_key(job)),
        }
        self.process = subprocess.Popen(
            module_command("max_whisper.compile.worker"),
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._errors,
            env=os.environ | environment,
        )
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:  # a dead worker is seen by `compiled`
            stdin.write(msgspec.json.encode(job))

    def compiled(self) -> Compiled:
        """Waits for the process, and returns its result; raises CompileError where it failed."""
        code = self.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if code == 0:
            self._output.seek(0)
            try:
                return msgspec.json.decode(self._output.read(), type=Compiled)
            except msgspec.DecodeError:
                how = "returned no result"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        line = next((line for line in lines if "error:" in line.lower()), lines[-1] if lines else "")
        saying = f", saying: {line[:300]}" if line else ""
        raise CompileError(
            f"MAX could not compile the {self._module}: the compiler {how}{saying}; nothing was written. If memory "
            f"was short (it takes 2 GB), try again; if the cache may be damaged, delete {cache_folder()}"
        )

    def stop(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def graph_key(job: Job) -> str:
    """Returns a key that is equal for jobs that compile the same graphs; each key has its own cache.

    With one cache for all, MAX puts code of other graphs into a MEF: that of tiny's decoder had 2.5 MB from an empty
    cache, and 10.8 MB from a used one.
    """
    kernels, probes = (path and Path(path).parent.name for path in (job.kernels, job.probes))
    same = msgspec.structs.replace(job, output="", parent=0, kernels=kernels, probes=probes)
    return blake3(msgspec.json.encode(same) + version("max").encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Returns the folder that keeps compiled code: MODULAR_CACHE_DIR, or else a folder in the user's cache."""
    if configured := os.environ.get("MODULAR_CACHE_DIR"):
        return Path(configured)
    return user_cache() / "max"
