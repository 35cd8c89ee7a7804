"""The engine ONNX Runtime: optimum's ORTModelForSpeechSeq2Seq in the pipeline of transformers.

The model is optimum's export; int8 is what optimum's quantizer makes of it for CPUs with VNNI. The export does not
return the weights of the cross-attention, without which there are no times of words.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import onnxruntime
from optimum.onnxruntime import ORTModelForSpeechSeq2Seq, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig

from benchmarks.peers.worker import peer_main
from benchmarks.peers.workers.hugging_face import HuggingFacePipeline


def convert(checkpoint: Path, models: Path) -> None:
    """Writes the model in float32, and with weights and activations of its matrix products in int8."""
    floats, ints = models / "float32", models / "int8"
    ORTModelForSpeechSeq2Seq.from_pretrained(checkpoint, export=True).save_pretrained(floats)
    settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    settings.operators_to_quantize = ["MatMul", "Gather"]  # convolutions are slower in int8
    for file in sorted(floats.glob("*.onnx")):
        quantizer = ORTQuantizer.from_pretrained(floats, file_name=file.name)
        quantizer.quantize(quantization_config=settings, save_dir=ints, file_suffix="")
    for file in floats.glob("*.json"):
        shutil.copy(file, ints)


class OnnxRuntime(HuggingFacePipeline):
    """Runs the pipeline with a model in ONNX Runtime."""

    LIBRARIES = ("onnxruntime", "optimum-onnx", "transformers")

    def __init__(self, checkpoint: Path, models: Path, variant: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        super().__init__(
            checkpoint, ORTModelForSpeechSeq2Seq.from_pretrained(models / variant, session_options=options)
        )


if __name__ == "__main__":
    peer_main(
        lambda checkpoint, models, variant, threads, _mode: OnnxRuntime(checkpoint, models, variant, threads), convert
    )
