"""Parses the names of targets, and checks whether this machine can run code that was compiled for a target."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from max_whisper.errors import ArtifactError, UserError
from max_whisper.plan import Target

CPU_FEATURES = frozenset(
    "sse4_1 sse4_2 ssse3 popcnt movbe abm aes pclmulqdq avx f16c fma bmi1 bmi2 avx2 adx sha_ni gfni vaes vpclmulqdq "
    "avx512f avx512cd avx512bw avx512dq avx512vl avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg "
    "avx512_vpopcntdq avx512_bf16 avx512_fp16 avx_vnni avx_ifma avx_vnni_int8 amx_tile amx_bf16 amx_int8 amx_fp16 "
    "asimd fphp asimdhp asimddp asimdfhm i8mm bf16 sve sve2 svebf16 svei8mm sme".split()
)
"""The instruction sets that a compiler may use for this machine's own CPU, by their names in /proc/cpuinfo."""

PORTABLE_CPUS = {
    "x86-64-v2": "popcnt sse4_1 sse4_2 ssse3",
    "x86-64-v3": "popcnt sse4_1 sse4_2 ssse3 abm avx avx2 bmi1 bmi2 f16c fma movbe",
    "x86-64-v4": "popcnt sse4_1 sse4_2 ssse3 abm avx avx2 bmi1 bmi2 f16c fma movbe "
    "avx512bw avx512cd avx512dq avx512f avx512vl",
}
"""The features of the x86-64 psABI levels, each with those of the levels below it."""

GPU_HOST = "x86-64-v3"
"""The CPU that the host code of a GPU build is compiled for; it does little, so that the level does not matter."""
GPU_ARCHS = {"cuda": re.compile(r"sm_\d{2,3}[af]?"), "hip": re.compile(r"gfx[0-9a-f]{3,4}")}
EXAMPLES = "cpu, cpu:x86-64-v3, cuda:sm_80, cuda:sm_89, cuda:sm_90a or hip:gfx942"


def parse_target(text: str) -> Target:
    """Returns the target that `--target` names: "cpu" is this machine; GPUs and, on x86-64, PORTABLE_CPUS are others.

    Raises UserError for an unknown name.
    """
    device, _, arch = text.partition(":")
    if text == "cpu":
        return Target("cpu", platform.machine(), sorted(machine_features()))
    if device == "cpu" and arch in PORTABLE_CPUS and platform.machine() == "x86_64":
        return Target("cpu", arch, PORTABLE_CPUS[arch].split())
    if device in GPU_ARCHS and GPU_ARCHS[device].fullmatch(arch):
        return Target(device, arch, _gpu_host_features())  # type: ignore[arg-type]  # the device is one of GPU_ARCHS
    raise UserError(f"unknown target '{text}': expected {EXAMPLES}")


def host_cpu(target: Target) -> str | None:
    """Returns the CPU that a target's host code is compiled for, by MAX's name; None for this machine's own CPU."""
    if target.on_host:
        return target.arch if target.arch in PORTABLE_CPUS else None
    return GPU_HOST if platform.machine() == "x86_64" else None


def _gpu_host_features() -> list[str]:
    """Returns the CPU features that the host code of a GPU build may use."""
    return PORTABLE_CPUS[GPU_HOST].split() if platform.machine() == "x86_64" else sorted(machine_features())


def machine_features() -> set[str]:
    """Returns the features of CPU_FEATURES that this machine's CPU has; none if the system does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return set(CPU_FEATURES.intersection(flags.split()))


def target_name(target: Target) -> str:
    """Returns the name of a target for `--target`, as `parse_target` takes it."""
    if target.on_host:
        return f"cpu:{target.arch}" if target.arch in PORTABLE_CPUS else "cpu"
    return f"{target.device}:{target.arch}"


def check_machine(target: Target, folder: Path, rebuild: str) -> None:
    """Raises ArtifactError where code for a target cannot run on this machine.

    Args:
        target: The target.
        folder: The folder of the artifact, for the message.
        rebuild: The command that builds the artifact for this machine, for the message.
    """
    arch = platform.machine()
    portable = arch == "x86_64" and target.arch in PORTABLE_CPUS
    if target.on_host and target.arch != arch and not portable:
        raise ArtifactError(
            f"{folder} was built for a {target.arch} CPU, this machine has {arch}; build the artifact again here: "
            f"{rebuild}"
        )
    missing = sorted(set(target.features) - machine_features())
    if missing:
        raise ArtifactError(
            f"{folder} was built for a CPU with {', '.join(missing)}, which this machine lacks; build it with --target "
            f"cpu:x86-64-v3 where it was built, or build the artifact again here: {rebuild}"
        )
    if not target.on_host:
        _check_accelerator(target, folder, rebuild)


def _check_accelerator(target: Target, folder: Path, rebuild: str) -> None:
    """Raises ArtifactError where this machine has no GPU that runs code for a target."""
    from max.driver import accelerator_api, accelerator_architecture_name, accelerator_count

    if not accelerator_count():
        present = "no GPU"
    elif accelerator_api() != target.device:
        present = f"a GPU of the {accelerator_api()} kind"
    elif _chip(accelerator_architecture_name()) != _chip(target.arch):
        present = f"a GPU of architecture {accelerator_architecture_name()}"
    else:
        return
    raise ArtifactError(
        f"{folder} needs a GPU of architecture {target.arch} ({target.device}), this machine has {present}; run it "
        f"where there is one, or build the artifact again here: {rebuild}"
    )


def _chip(arch: str) -> str:
    """Returns the chip of an architecture: `sm_90a` is the chip `sm_90`, with all of its instructions."""
    return arch.rstrip("af") if arch.startswith("sm_") else arch
