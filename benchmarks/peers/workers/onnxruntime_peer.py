"""The peer ONNX Runtime: optimum's export, whose attention ONNX Runtime's own optimizer fuses.

Mask and argmax are part of the decoders, so that no logits travel to Python, and keys and values stay where ONNX
Runtime computed them.
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.peers.greedy import LogMel, Rules
from benchmarks.peers.worker import Peer, peer_main

GRAPHS = ("encoder_model", "decoder_model", "decoder_with_past_model")


# --- from a checkpoint to ONNX models


def convert(checkpoint: Path, models: Path) -> None:
    """Writes the graphs in float32, and with weights and activations of their matrix products quantized to int8."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from optimum.exporters.onnx import main_export

    config = json.loads((checkpoint / "config.json").read_text())
    for variant in ("float32", "int8"):
        (models / variant).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models) as exported:
        main_export(str(checkpoint), exported, task="automatic-speech-recognition-with-past", do_validation=False)
        for name in GRAPHS:
            graph = optimize_model(
                f"{exported}/{name}.onnx",
                model_type="bart",
                num_heads=config["encoder_attention_heads"],
                hidden_size=config["d_model"],
            )
            if name != "encoder_model":
                select_in_graph(graph.model)
            graph.save_model_to_file(str(models / "float32" / f"{name}.onnx"))
            quantize_dynamic(
                models / "float32" / f"{name}.onnx",
                models / "int8" / f"{name}.onnx",
                op_types_to_quantize=["MatMul", "Attention", "Gather"],  # convolutions are slower in int8
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"DefaultTensorType": TensorProto.FLOAT},  # the dtype of what the fused operations return
            )


def select_in_graph(model: Any) -> None:
    """Makes the decoder take a `mask` to add to the last logits, and return the `best` token, int64 [batch]."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    (logits,) = [output for output in graph.output if output.name == "logits"]
    graph.output.remove(logits)
    graph.initializer.append(numpy_helper.from_array(np.array(-1), "last"))
    graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["vocabulary"]))
    graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, ["batch_size"]))
    graph.node.extend(
        [
            helper.make_node("Gather", ["logits", "last"], ["last_logits"], axis=1),
            helper.make_node("Add", ["last_logits", "mask"], ["allowed"]),
            helper.make_node("ArgMax", ["allowed"], ["best"], axis=-1, keepdims=0),
        ]
    )


# --- running them


class OnnxRuntime(Peer):
    """Runs the graphs of `convert` in Whisper's greedy loop."""

    def __init__(self, checkpoint: Path, models: Path, variant: str, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._encoder, self._first, self._others = (
            ort.InferenceSession(models / variant / f"{name}.onnx", options, ["CPUExecutionProvider"])
            for name in GRAPHS
        )
        self._rules = Rules(checkpoint)
        self.log_mel = LogMel(models)

    def versions(self) -> dict[str, str]:
        return {"onnxruntime": version("onnxruntime")}

    def encode(self, mel: NDArray[np.float32]) -> Any:
        (features,) = self._encoder.run_with_ort_values(None, {"input_features": ort.OrtValue.ortvalue_from_numpy(mel)})
        return features

    def decode(self, features: Any, n_tokens: int) -> list[list[int]]:
        memory: dict[str, Any] = {"encoder_hidden_states": features}
        decoder = self._first

        def step(tokens: NDArray[np.int64], mask: NDArray[np.float32]) -> NDArray[np.int64]:
            nonlocal decoder
            arrays = {"input_ids": tokens, "mask": mask}
            inputs = memory | {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
            outputs = decoder.run_with_ort_values(None, inputs)
            for output, value in zip(decoder.get_outputs(), outputs, strict=True):
                memory[output.name.replace("present.", "past_key_values.")] = value
            memory.pop("encoder_hidden_states", None)
            decoder = self._others
            return memory.pop("best").numpy()

        return self._rules.generate(features.shape()[0], n_tokens, step)


if __name__ == "__main__":
    peer_main(OnnxRuntime, convert)
