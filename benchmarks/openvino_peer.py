"""Whisper in OpenVINO, float32, with the caches of the decoder inside it: the other side of `compare.py`.

\b
    python openvino_peer.py export CHECKPOINT FOLDER   Hugging Face folder -> three OpenVINO models
    python openvino_peer.py check CHECKPOINT FOLDER    their tokens against those of transformers
    python openvino_peer.py time FOLDER                their figures alone

Runs in a Python of its own, without MAX: see README.md. What it runs is optimum-intel's export, whose decoder is
stateful (the caches of its self-attention grow inside the model), with three changes, none of which makes it slower:

\b
- The keys and values of the cross-attention are a model of their own, `cross_kv`. Optimum computes them inside the
  decoder's first step and copies them out of the decoder's state in every other one.
- The last hidden state alone is multiplied with the vocabulary, which saves time while the prompt is read.
- Mask and argmax are part of the model, so that no logits travel to Python.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import numpy as np
from common import PHASES, Peer, serve, since, use_cpus
from numpy.typing import NDArray

MODELS = ("encoder", "cross_kv", "decoder")
RULES = "generation_config.json"  # token ids and suppress lists
SETTINGS = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",  # the default is u8, even where the precision is f32
    "PERFORMANCE_HINT": "LATENCY",
}


# --- from a checkpoint to OpenVINO models


def export_models(checkpoint: Path, out: Path) -> None:
    """Writes encoder, cross_kv and decoder as OpenVINO models, and the token ids that they are run with."""
    import openvino as ov
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as exported:
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
        for name, model in zip(MODELS, (encoder, cross_kv, decoder), strict=True):
            ov.save_model(model, out / f"{name}.xml", compress_to_fp16=False)
        shutil.copy(checkpoint / RULES, out)


def take_out_cross_attention(decoder: Any) -> Any:
    """The part of the decoder that depends on the features alone; the decoder takes what it gives as `memory.{i}`.

    Optimum keeps these keys and values as states, whose variables are not called `past_key_values…`.
    """
    import openvino as ov
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


def select_in_graph(decoder: Any) -> None:
    """The decoder takes a `mask` to add to the logits, and gives the best token instead of them."""
    import openvino as ov
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
    decoder.add_results([ops.result(ops.reshape(best.output(1), np.array([-1, 1]), False))])
    decoder.validate_nodes_and_infer_types()


# --- running them


class OpenVino(Peer):
    """The models of `export_models`, and Whisper's greedy loop around them."""

    def __init__(self, folder: Path, threads: int) -> None:
        import openvino as ov

        core, settings = ov.Core(), {**SETTINGS, "INFERENCE_NUM_THREADS": threads}
        models = [core.compile_model(folder / f"{name}.xml", "CPU", settings) for name in MODELS]
        self._encoder, self._cross_kv, self._decoder = (model.create_infer_request() for model in models)
        self._memory = [f"memory.{i}" for i in range(len(models[1].outputs))]
        self._tensor, self._version = ov.Tensor, ov.get_version()
        self.n_mels = models[0].input(0).partial_shape[1].get_length()

        rules = json.loads((folder / RULES).read_text())
        mask = np.zeros(list(models[2].input("mask").shape), np.float32)
        mask[rules["suppress_tokens"]] = -np.inf
        self._mask = ov.Tensor(mask)
        mask[rules["begin_suppress_tokens"]] = -np.inf
        self._first_mask = ov.Tensor(mask)
        self._eot = rules["eos_token_id"]
        task = [rules["lang_to_id"]["<|en|>"], rules["task_to_id"]["transcribe"]] if rules["is_multilingual"] else []
        self._prompt = ov.Tensor(np.array([[rules["decoder_start_token_id"], *task, rules["no_timestamps_token_id"]]]))
        self._last = ov.Tensor(np.zeros((1, 1), np.int64))
        self._decoder.set_tensor("beam_idx", ov.Tensor(np.zeros(1, np.int32)))

    def facts(self) -> dict[str, Any]:
        return {"openvino": self._version, "settings": SETTINGS}

    def encode(self, mel: NDArray[np.float32]) -> Any:
        self._encoder.set_tensor("input_features", self._tensor(mel[None]))
        self._encoder.infer()
        return self._encoder.get_output_tensor(0)

    def decode(self, features: Any, n_tokens: int) -> tuple[list[int], float]:
        start = perf_counter()
        self._cross_kv.set_tensor("encoder_hidden_states", features)
        self._cross_kv.infer()
        for i, name in enumerate(self._memory):
            self._decoder.set_tensor(name, self._cross_kv.get_output_tensor(i))
        cross_kv = since(start)
        self._decoder.reset_state()
        tokens = [self._step(self._prompt, self._first_mask)]
        while len(tokens) < n_tokens and tokens[-1] != self._eot:
            self._last.data[:] = tokens[-1]
            tokens.append(self._step(self._last, self._mask))
        return tokens, cross_kv

    def _step(self, tokens: Any, mask: Any) -> int:
        self._decoder.set_tensor("input_ids", tokens)
        self._decoder.set_tensor("mask", mask)
        self._decoder.infer()
        return int(self._decoder.get_output_tensor(0).data[0, 0])


def reference_tokens(checkpoint: Path, mel: NDArray[np.float32], n_tokens: int) -> list[int]:
    """The greedy tokens of transformers, without prompt."""
    import torch
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    told = {"language": "en", "task": "transcribe"} if model.generation_config.is_multilingual else {}
    with torch.inference_mode():
        ids = model.generate(torch.from_numpy(mel[None]), max_new_tokens=n_tokens, do_sample=False, **told)
    return ids[0, -n_tokens:].tolist()


def made_mel(n_mels: int) -> NDArray[np.float32]:
    """Float32 [n_mels, 3000] with the range of a log-mel."""
    return np.random.default_rng(0).uniform(-0.8, 1.2, (n_mels, 3000)).astype(np.float32)


# --- the command line


@click.group(help=__doc__)
def main() -> None:
    pass


folder_argument = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
checkpoint_argument = click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
threads_option = click.option("--threads", default=2, show_default=True, help="CPUs and threads to use.")
tokens_option = click.option("--tokens", default=100, show_default=True, help="Tokens of the window.")


@main.command()
@checkpoint_argument
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def export(checkpoint: Path, out: Path) -> None:
    """Writes the OpenVINO models of a checkpoint folder. Needs optimum-intel."""
    export_models(checkpoint, out)


@main.command()
@checkpoint_argument
@folder_argument
@tokens_option
@threads_option
def check(checkpoint: Path, folder: Path, tokens: int, threads: int) -> None:
    """Compares its tokens with those of transformers."""
    use_cpus(threads)
    peer = OpenVino(folder, threads)
    mel = made_mel(peer.n_mels)
    ours, _ = peer.decode(peer.encode(mel), tokens)
    expected = reference_tokens(checkpoint, mel, tokens)
    same = next((i for i, pair in enumerate(zip(ours, expected, strict=False)) if pair[0] != pair[1]), len(ours))
    print(f"{same} of {tokens} tokens equal those of transformers")
    sys.exit(same < tokens)


@main.command()
@folder_argument
@tokens_option
@threads_option
@click.option("--rounds", default=5, show_default=True)
def time(folder: Path, tokens: int, threads: int, rounds: int) -> None:
    """Prints median milliseconds, without another side."""
    use_cpus(threads)
    peer = OpenVino(folder, threads)
    with tempfile.TemporaryDirectory() as work:
        mel_file = f"{work}/mel.npy"
        np.save(mel_file, made_mel(peer.n_mels))
        windows = [peer.window(mel_file, tokens) for _ in range(rounds + 1)][1:]
    for phase in PHASES:
        print(f"{PHASES[phase]:40} {median(window[phase] for window in windows):8.2f}")
    print(f"{'peak memory, MB':40} {peer.peak_memory():8.0f}")


@main.command()
@folder_argument
@threads_option
def worker(folder: Path, threads: int) -> None:
    """Answers `compare.py` over pipes."""
    serve(lambda: OpenVino(folder, threads))


if __name__ == "__main__":
    main()
