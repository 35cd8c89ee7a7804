"""The peer OpenVINO: optimum-intel's export, whose decoder keeps the caches of its self-attention inside.

Three things are changed, none of which makes it slower:

- The keys and values of the cross-attention are a model of their own, `cross_kv`. Optimum computes them inside the
  decoder's first step and copies them out of the decoder's state in every other one.
- Only the last hidden state is multiplied with the vocabulary, which saves time while the prompt is read.
- Mask and argmax are part of the model, so that no logits travel to Python.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from benchmarks.peers.greedy import LogMel, Rules
from benchmarks.peers.worker import Peer, peer_main

GRAPHS = ("encoder", "cross_kv", "decoder")
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {  # the folder of the graphs, and settings
    "float32": ("float32", {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}),
    "bfloat16": ("float32", {"INFERENCE_PRECISION_HINT": "bf16"}),
    "int8": ("int8", {"INFERENCE_PRECISION_HINT": "bf16"}),
}


# --- from a checkpoint to OpenVINO models


def convert(checkpoint: Path, models: Path) -> None:
    """Writes the three graphs with float32 weights, and with int8 weights."""
    import nncf
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    with tempfile.TemporaryDirectory(dir=models) as exported:
        main_export(
            str(checkpoint),
            exported,
            task="automatic-speech-recognition-with-past",
            ov_config=OVConfig(dtype="fp32"),
            stateful=True,
            convert_tokenizer=False,
        )
        core = ov.Core()
        encoder = core.read_model(Path(exported) / "openvino_encoder_model.xml")
        decoder = core.read_model(Path(exported) / "openvino_decoder_model.xml")
        cross_kv = take_out_cross_attention(decoder)
        select_in_graph(decoder)
        graphs = dict(zip(GRAPHS, (encoder, cross_kv, decoder), strict=True))
        for name, graph in graphs.items():
            ov.save_model(graph, models / "float32" / f"{name}.xml", compress_to_fp16=False)
        for name, graph in graphs.items():
            compressed = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_SYM)
            ov.save_model(compressed, models / "int8" / f"{name}.xml", compress_to_fp16=False)


def take_out_cross_attention(decoder: ov.Model) -> ov.Model:
    """Moves the part of the decoder that depends on the features alone to a model of its own, and returns that.

    The decoder then takes its outputs as `memory.{i}`.

    Optimum keeps these keys and values as states, whose variables are not called `past_key_values…`.
    """
    from openvino import opset15 as ops

    features = decoder.input("encoder_hidden_states").get_node()
    results, inputs = [], []
    for sink in decoder.get_sinks():
        if sink.get_variable_id().startswith("past_key_values"):
            continue
        read = sink.input_value(0).get_node()
        while read.get_type_name() != "ReadValue":
            read = read.input_value(0).get_node()
        computed = read.input_value(0)
        memory = ops.parameter(computed.get_partial_shape(), ov.Type.f32)
        memory.output(0).set_names({f"memory.{len(inputs)}"})
        read.output(0).replace(memory.output(0))
        decoder.remove_sink(sink)
        results.append(ops.result(computed))
        inputs.append(memory)
    decoder.remove_parameter(features)
    decoder.add_parameters(inputs)
    decoder.validate_nodes_and_infer_types()
    return ov.Model(results, [features], "cross_kv")


def select_in_graph(decoder: ov.Model) -> None:
    """Makes the decoder take a `mask` to add to the logits, and return the best token instead of them."""
    from openvino import opset15 as ops

    (result,) = decoder.get_results()
    logits = result.input_value(0)
    product = logits.get_node()
    one, last = np.array([1]), np.array([-1])
    final = ops.slice(product.input_value(0), last, np.array([np.iinfo(np.int64).max]), one, one)
    product.input(0).replace_source_output(final.output(0))
    mask = ops.parameter([logits.get_partial_shape()[-1]], ov.Type.f32)
    mask.output(0).set_names({"mask"})
    best = ops.topk(ops.add(logits, mask), np.int64(1), -1, "max", "value", index_element_type="i64")
    decoder.remove_result(result)
    decoder.add_parameters([mask])
    decoder.add_results([ops.result(ops.reshape(best.output(1), np.array([-1]), False))])
    decoder.validate_nodes_and_infer_types()


# --- running them


class OpenVino(Peer):
    """The graphs of `convert`, and Whisper's greedy loop around them."""

    def __init__(self, checkpoint: Path, models: Path, variant: str, threads: int) -> None:
        folder, settings = VARIANTS[variant]
        self._settings = {**settings, "PERFORMANCE_HINT": "LATENCY"}
        core = ov.Core()
        graphs = [
            core.compile_model(
                models / folder / f"{name}.xml", "CPU", self._settings | {"INFERENCE_NUM_THREADS": threads}
            )
            for name in GRAPHS
        ]
        self._encoder, self._cross_kv, self._decoder = (graph.create_infer_request() for graph in graphs)
        self._memory = [f"memory.{i}" for i in range(len(graphs[1].outputs))]
        self._rules = Rules(checkpoint)
        self.log_mel = LogMel(models)

    def versions(self) -> dict[str, str]:
        return {"openvino": ov.get_version()}

    def encode(self, mel: NDArray[np.float32]) -> Any:
        self._encoder.set_tensor("input_features", ov.Tensor(mel))
        self._encoder.infer()
        return self._encoder.get_output_tensor(0)

    def decode(self, features: Any, n_tokens: int) -> list[list[int]]:
        batch = features.shape[0]
        self._cross_kv.set_tensor("encoder_hidden_states", features)
        self._cross_kv.infer()
        for i, name in enumerate(self._memory):
            self._decoder.set_tensor(name, self._cross_kv.get_output_tensor(i))
        self._decoder.set_tensor("beam_idx", ov.Tensor(np.arange(batch, dtype=np.int32)))
        self._decoder.reset_state()

        def step(tokens: NDArray[np.int64], mask: NDArray[np.float32]) -> NDArray[np.int64]:
            self._decoder.set_tensor("input_ids", ov.Tensor(tokens))
            self._decoder.set_tensor("mask", ov.Tensor(mask, shared_memory=True))
            self._decoder.infer()
            return self._decoder.get_output_tensor(0).data.copy()

        return self._rules.generate(batch, n_tokens, step)


if __name__ == "__main__":
    peer_main(OpenVino, convert)
