"""The process that compiles one module: it reads a Job as JSON from stdin, and writes a Compiled to stdout.

It is a process of its own because MAX's compiler sometimes aborts, and because its output depends on memory
addresses. Without address randomization a small graph gave equal bytes from two cold caches, which it
did not with it; graphs of the size of tiny still differ in the order of their kernels.
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

ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Job(msgspec.Struct):
    """One module to compile."""

    plan: BuildPlan
    spec: dict[str, Any]  # its canonical form
    imports: list[str]  # the modules outside this package that register layer kinds or families
    module: str  # "encoder" or "decoder" of Whisper
    output: str  # the path of the MEF file
    kernels: str  # the compiled package of our kernels
    probes: str | None  # the compiled package of clocks, for instrumented graphs
    expose: bool  # whether the graphs give the output of every layer too
    parent: int  # the process that waits for it, without which it ends


class Compiled(msgspec.Struct):
    """The graphs of one module or several, and their calls of our kernels."""

    graphs: dict[str, Graph]
    calls: dict[str, list[KernelCall]]  # by graph


def main() -> None:
    """Compiles the job on stdin and ends the process."""
    _make_reproducible()
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    _end_with(job.parent)
    compiled = compile_module(job)
    sys.stdout.buffer.write(msgspec.json.encode(compiled))
    sys.stdout.flush()
    os._exit(0)  # MAX's thread pool aborts the process at exit where there is one CPU only


def _make_reproducible() -> None:
    """Starts this process again without address randomization."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    current = libc.personality(0xFFFFFFFF)
    if current >= 0 and not current & ADDR_NO_RANDOMIZE and libc.personality(current | ADDR_NO_RANDOMIZE) >= 0:
        os.execv(sys.executable, [sys.executable, "-m", "max_whisper.compile.worker"])


def _end_with(parent: int) -> None:
    """Makes this process end when its parent does: the compiler would run on for minutes without use."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before prctl was called
        os._exit(1)


def compile_module(job: Job) -> Compiled:
    """Lowers, compiles and exports a module; cross-compiles where the target is another machine."""
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
