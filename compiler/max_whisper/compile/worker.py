"""The process that compiles one module: it reads a Job as JSON from stdin, and writes a Compiled to stdout.

Each module has its own process because MAX's compiler sometimes aborts, and because its output depends on memory
addresses. Without address randomization, a small graph compiles to the same bytes from two cold caches, which it does
not otherwise; graphs of the size of tiny still differ in the order of their kernels.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from max_whisper.artifact.manifest import Graph, Port
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.lowering.ops import dims_of
from max_whisper.plan import BuildPlan
from max_whisper.python_process import module_command

ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Job(msgspec.Struct):
    """A module to compile.

    Attributes:
        plan: The plan of the build.
        spec: The spec in its canonical form.
        imports: The modules outside this package that register layer kinds or families.
        module: The module of the spec's family, "encoder" or "decoder" in Whisper.
        output: The path of the MEF file.
        kernels: The compiled package of the kernels.
        probes: The compiled package of the probes, for instrumented graphs.
        expose: Whether the graphs also return the output of every layer.
        parent: The id of the process that waits for the result; when it ends, so does this process.
    """

    plan: BuildPlan
    spec: dict[str, Any]
    imports: list[str]
    module: str
    output: str
    kernels: str
    probes: str | None
    expose: bool
    parent: int


class Compiled(msgspec.Struct):
    """The graphs of compiled modules.

    Attributes:
        graphs: The graphs, by name.
        calls: The calls of this package's kernels in each graph.
    """

    graphs: dict[str, Graph]
    calls: dict[str, list[KernelCall]]


def main() -> None:
    """Compiles the job on stdin and ends the process."""
    _make_reproducible()  # first: it starts the program again, which must still find the job on stdin
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    _end_with(job.parent)
    compiled = compile_module(job)
    sys.stdout.buffer.write(msgspec.json.encode(compiled))
    sys.stdout.flush()
    os._exit(0)  # on a machine with a single CPU, MAX's thread pool aborts the process at its normal exit


def _make_reproducible() -> None:
    """Restarts this process without address randomization, unless it already runs without."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    current = libc.personality(0xFFFFFFFF)
    if current >= 0 and not current & ADDR_NO_RANDOMIZE and libc.personality(current | ADDR_NO_RANDOMIZE) >= 0:
        os.execv(sys.executable, module_command("max_whisper.compile.worker"))


def _end_with(parent: int) -> None:
    """Makes this process end when its parent does, because the compiler would otherwise run on for minutes."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before prctl was called
        os._exit(1)


def compile_module(job: Job) -> Compiled:
    """Lowers a module, compiles it for the target of the plan, exports it, and returns its graphs."""
    from max import driver, engine

    from max_whisper.artifact.target import host_cpu
    from max_whisper.lowering.lower import lower
    from max_whisper.spec import Spec

    for name in job.imports:
        importlib.import_module(name)
    target = job.plan.target
    if host := host_cpu(target):
        driver.set_virtual_cpu_target(host)
    devices: list[driver.Device] = [driver.CPU()]
    if not target.on_host:
        driver.set_virtual_device_api(target.device)
        driver.set_virtual_device_target_arch(target.arch)
        driver.set_virtual_device_count(1)
        devices = [driver.Accelerator()]
    session = engine.InferenceSession(devices=devices)
    lowered = lower(
        Spec.from_canonical(job.spec),
        job.plan,
        job.module,
        kernels=Path(job.kernels),
        probes=Path(job.probes) if job.probes is not None else None,
        expose=job.expose,
    )
    session.compile(lowered.module, custom_extensions=lowered.extensions).export_mef(job.output)
    file = Path(job.output).name
    graphs = {name: Graph(file, _ports(graph.inputs), _ports(graph.outputs)) for name, graph in lowered.graphs.items()}
    return Compiled(graphs, lowered.calls)


def _ports(types: Mapping[str, Any]) -> list[Port]:
    return [Port(name, type_.dtype.name, dims_of(type_.shape)) for name, type_ in types.items()]


if __name__ == "__main__":
    main()
