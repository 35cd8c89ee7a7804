"""The process that compiles one module: a job as JSON on stdin, the ports of its graphs as JSON on stdout.

It is a process of its own because MAX's compiler sometimes aborts, and because its output depends on the addresses
that things happen to get. Without address randomisation a small graph gave equal bytes from two cold caches, which it
did not with it; graphs of the size of tiny still differ in the order of their kernels.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from max_whisper.artifact.manifest import Graph, Port
from max_whisper.lowering.calls import Call
from max_whisper.plan import Target

ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Job(msgspec.Struct, omit_defaults=True):
    """Compile `module` ("encoder" or "decoder") of a spec to `path`."""

    spec: dict[str, Any]  # its canonical form
    module: str
    dtype: str
    batch: int
    target: Target
    path: str
    kernels: str  # the compiled package
    alignment_heads: list[tuple[int, int]]
    exact_halves: dict[str, str]  # dtypes of tensors whose numbers they hold exactly (lowering/storage.py)
    probe: bool  # with the outputs of every layer
    parent: int  # the process that waits for it, without which it ends
    clocks: str = ""  # the compiled package of probes, for graphs that tell when each kernel begins and ends


class Result(msgspec.Struct):
    graphs: dict[str, Graph]
    calls: dict[str, list[Call]] = {}  # of kernels, in the graphs that tell their times


def main() -> None:
    _make_reproducible()
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    _end_with(job.parent)
    result = compile_module(job)
    sys.stdout.buffer.write(msgspec.json.encode(result))
    sys.stdout.flush()
    os._exit(0)  # MAX's thread pool aborts the process at exit where there is one CPU only


def _make_reproducible() -> None:
    """Starts this process again without address randomisation."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    current = libc.personality(0xFFFFFFFF)
    if current >= 0 and not current & ADDR_NO_RANDOMIZE and libc.personality(current | ADDR_NO_RANDOMIZE) >= 0:
        os.execv(sys.executable, [sys.executable, "-m", "max_whisper.compile.worker"])


def _end_with(parent: int) -> None:
    """Nobody wants the result of a build that was killed; the compiler would go on for minutes."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to hear of it
        os._exit(1)


def compile_module(job: Job) -> Result:
    """Lowers, compiles and exports; cross-compiles where the target is no CPU of this kind."""
    from max import driver, engine
    from max.graph import DeviceRef

    from max_whisper.artifact.target import host_cpu
    from max_whisper.lowering.clocked import ClockedLowering
    from max_whisper.lowering.graphs import Lowering
    from max_whisper.spec import Spec

    target = job.target
    device = DeviceRef.CPU()
    if host := host_cpu(target):
        driver.set_virtual_cpu_target(host)
    devices: list[driver.Device] = [driver.CPU()]
    if target.device != "cpu":
        driver.set_virtual_device_api(target.device)
        driver.set_virtual_device_target_arch(target.arch)
        driver.set_virtual_device_count(1)
        device = DeviceRef.GPU()
        devices = [driver.Accelerator()]
    session = engine.InferenceSession(devices=devices)
    kind = partial(ClockedLowering, probes=Path(job.clocks)) if job.clocks else Lowering
    lowering = kind(
        Spec.from_canonical(job.spec),
        Path(job.kernels),
        dtype=job.dtype,
        batch=job.batch,
        device=device,
        probe=job.probe,
        alignment_heads=job.alignment_heads,
        exact_halves=job.exact_halves,
    )
    lowered = lowering.encoder_module() if job.module == "encoder" else lowering.decoder_module()
    session.compile(lowered.module, custom_extensions=lowering.extensions).export_mef(job.path)
    file = Path(job.path).name
    graphs = {name: Graph(file, _ports(graph.inputs), _ports(graph.outputs)) for name, graph in lowered.graphs.items()}
    return Result(graphs, lowering.calls if isinstance(lowering, ClockedLowering) else {})


def _ports(types: Mapping[str, Any]) -> list[Port]:
    return [
        Port(name, type_.dtype.name, [int(dim) if str(dim).isdigit() else str(dim) for dim in type_.shape])
        for name, type_ in types.items()
    ]


if __name__ == "__main__":
    main()
