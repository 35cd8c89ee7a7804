"""The engines: what pip installs for them, in which variants they run, and what each of them is called in tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WORKERS = Path(__file__).parent / "workers"
OURS = "max-whisper"
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Variant:
    """One way in which an engine's users run it.

    Attributes:
        name: Its name on the command line and in the worker.
        about: What the weights are and what it computes in, for the tables.
        lacks: The modes that the engine does not have.
    """

    name: str
    about: str
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Engine:
    """How an engine is installed, and the variants in which it runs.

    Attributes:
        label: The name in tables.
        variants: How it runs; the first is the one that most of its users would choose on a CPU.
        pip: Lists of arguments of `pip install`, of which the first that works is taken; none for max-whisper.
        converter: The arguments of `pip install` for an environment that converts models, where it is another one.
        after: Commands of the converter's environment, run when pip is done.
    """

    label: str
    variants: tuple[Variant, ...]
    pip: tuple[tuple[str, ...], ...] = ()
    converter: tuple[str, ...] = ()
    after: tuple[tuple[str, ...], ...] = ()


ENGINES = {  # by the names of their files in workers/
    "max_whisper": Engine(
        OURS,
        (Variant("int8", "int8"), Variant("bfloat16", "bfloat16"), Variant("float32", "float32")),
    ),
    "openvino_genai": Engine(
        "OpenVINO GenAI",
        (
            Variant("int8", "int8 weights, bfloat16", lacks=("previous", "beams")),
            Variant("bfloat16", "float32 weights, bfloat16", lacks=("previous", "beams")),
            Variant("float32", "float32", lacks=("previous", "beams")),
        ),
        (("openvino-genai==2026.4.1.0", "openvino==2026.4.1", "openvino-tokenizers==2026.4.1.0"),),
        converter=(
            TORCH,
            "transformers==5.5.4",
            "optimum-intel==2.2.0",
            "openvino==2026.4.1",
            "openvino-tokenizers==2026.4.1.0",
            "nncf==3.4.0",
        ),
        after=(
            ("pip", "uninstall", "--yes", "torchvision"),  # unused, and transformers fails with one for another torch
            ("opt_in_out", "--opt_out"),  # OpenVINO reports its use otherwise
        ),
    ),
    "faster_whisper": Engine(
        "faster-whisper",
        (
            Variant("int8", "int8"),
            Variant("batched-int8", "int8, batched", lacks=("window", "previous")),
            Variant("float32", "float32"),
            Variant("batched-float32", "float32, batched", lacks=("window", "previous")),
        ),
        (("faster-whisper==1.2.1", "ctranslate2==4.8.5"),),
        # ctranslate2 imports torch where it is installed, which would make its processes slower to start
        converter=(TORCH, "transformers==4.57.6", "ctranslate2==4.8.5"),
    ),
    "whispercpp": Engine(
        "whisper.cpp",
        (Variant("q8_0", "q8_0"), Variant("float16", "float16")),
        # compiled here it uses the whole instruction set of the CPU; the wheel stops at AVX2
        (("--no-binary", "pywhispercpp", "pywhispercpp==1.5.1"), ("pywhispercpp==1.5.1",)),
    ),
    "onnxruntime": Engine(
        "ONNX Runtime",
        (Variant("int8", "int8", lacks=("words", "beams")), Variant("float32", "float32", lacks=("words", "beams"))),
        ((TORCH, "transformers==4.57.6", "onnx==1.23.2", "onnxruntime==1.31.1", "optimum-onnx==0.1.0"),),
    ),
    "openai_whisper": Engine(
        "openai/whisper",
        (Variant("float32", "float32"),),
        ((TORCH, "openai-whisper==20250625", "safetensors==0.8.0"),),
    ),
    "transformers": Engine(
        "transformers",
        (Variant("float32", "float32", lacks=("beams",)), Variant("bfloat16", "bfloat16", lacks=("beams",))),
        ((TORCH, "transformers==5.23.0"),),
    ),
}


def worker_file(name: str) -> Path:
    """Returns the program that an engine's process runs."""
    return WORKERS / f"{name}_peer.py"
