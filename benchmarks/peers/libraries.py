"""The peers: what pip installs for them, their variants, and how their environments and models are made.

Everything is made once, and kept in the folder that `--work` names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.conversion import WRITERS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
"""The repository, in which every peer's process finds `benchmarks`."""
TORCH = "torch==2.13.0"
LAST_LINE = 300  # the most characters that are shown of a message of pip or of a converter
TIMEOUT = 3600  # seconds, for pip and for a converter


@dataclass(frozen=True)
class Library:
    """How a library is installed, and the variants in which it runs.

    Attributes:
        label: The name in tables.
        variants: The names of its variants, mostly dtypes.
        pip: Lists of arguments of `pip install`, of which the first that works is taken.
        after: Commands of the environment, run when pip is done.
        converter: The arguments of `pip install` for an environment that converts models, where it is another one.
    """

    label: str
    variants: tuple[str, ...]
    pip: tuple[tuple[str, ...], ...]
    after: tuple[tuple[str, ...], ...] = ()
    converter: tuple[str, ...] = ()


LIBRARIES = {  # by the names of their files in workers/
    "openvino": Library(
        "OpenVINO",
        ("float32", "bfloat16", "int8"),
        ((TORCH, "transformers==5.5.4", "openvino==2026.4.1", "optimum-intel[openvino]==2.2.0", "nncf==3.4.0"),),
        after=(
            ("pip", "uninstall", "--yes", "torchvision"),  # unused, and transformers fails with one for another torch
            ("opt_in_out", "--opt_out"),  # OpenVINO reports its use otherwise
        ),
    ),
    "onnxruntime": Library(
        "ONNX Runtime",
        ("float32", "int8"),
        ((TORCH, "transformers==4.57.6", "onnx==1.23.2", "onnxruntime==1.31.1", "optimum-onnx==0.1.0"),),
    ),
    "faster_whisper": Library(
        "faster-whisper",
        ("float32", "int8"),
        (("faster-whisper==1.2.1", "ctranslate2==4.8.5"),),
        # ctranslate2 imports torch where it is installed
        converter=(TORCH, "transformers==4.57.6", "ctranslate2==4.8.5"),
    ),
    "whispercpp": Library(
        "whisper.cpp",
        ("float16", "q8_0"),
        # compiled here it uses the whole instruction set of the CPU; the wheel stops at AVX2
        (("--no-binary", "pywhispercpp", "pywhispercpp==1.5.1"), ("pywhispercpp==1.5.1",)),
    ),
    "openai_whisper": Library(
        "openai/whisper", ("float32",), ((TORCH, "openai-whisper==20250625", "safetensors==0.8.0"),)
    ),
    "transformers": Library("transformers", ("float32", "bfloat16"), ((TORCH, "transformers==5.23.0"),)),
}


class SetupError(Exception):
    """A peer could not be installed, or a model not converted for it; the message is one line."""


def worker_file(name: str) -> Path:
    """Returns the program that a peer's process runs."""
    return HERE / "workers" / f"{name}_peer.py"


def worker_environment(python: Path) -> dict[str, str]:
    """Returns the environment variables of a peer's process."""
    packages = python.parents[1] / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LD_LIBRARY_PATH": str(packages),  # where a pywhispercpp that was compiled here has its libraries
        "HF_HUB_OFFLINE": "1",
    }


def environment(folder: Path, choices: Sequence[Sequence[str]], after: Sequence[Sequence[str]] = ()) -> Path:
    """Makes an environment with the first of `choices` that pip can install, unless it is there.

    Returns its interpreter. Raises SetupError.
    """
    python, done, log = folder / "bin" / "python", folder / "installed.txt", folder.with_suffix(".log")
    wanted = "\n".join(" ".join(words) for words in (*choices, *after))
    if done.exists() and done.read_text() == wanted:
        return python
    for i, choice in enumerate(choices):
        venv.create(folder, clear=True, with_pip=True)
        try:
            _run(
                [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *choice],
                log,
                dict(os.environ),
            )
            break
        except SetupError:
            if i + 1 == len(choices):
                raise
    for program, *words in after:
        _run([folder / "bin" / program, *words], log, dict(os.environ))
    done.write_text(wanted)
    return python


def convert(name: str, python: Path, checkpoint: Path, models: Path) -> None:
    """Converts a checkpoint for a library into the folder `models`, unless it is done. Raises SetupError."""
    done = models / "converted.txt"
    if done.exists():
        return
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir(parents=True)
    if name in WRITERS:
        WRITERS[name](checkpoint, models)
    else:
        command = [python, worker_file(name), "convert", checkpoint, models]
        _run(command, models.with_suffix(".log"), worker_environment(python))
    done.write_text("yes\n")


def _run(command: Sequence[str | Path], log: Path, variables: dict[str, str]) -> None:
    """Runs a command whose output goes to `log`. Raises SetupError with the last line if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("w") as out:
            status = subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, env=variables, timeout=TIMEOUT
            ).returncode
    except subprocess.TimeoutExpired:
        raise SetupError(f"not done in {TIMEOUT} s (see {log})") from None
    if status:
        lines = [line for line in log.read_text().splitlines() if line.strip() and not line.startswith("WARNING")]
        raise SetupError(f"{lines[-1][:LAST_LINE] if lines else f'status {status}'} (more in {log})")
