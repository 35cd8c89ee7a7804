"""Runs transformers' implementation of a model, layer by layer: the reference of `verify`.

Needs torch and transformers, which nothing else in the package does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import UserError
from max_whisper.spec import Spec
from max_whisper.spec.tree import LayerNode, ModelPart

ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu", "silu": "silu"}
MODULE_KINDS = {
    "conv1d",
    "linear",
    "layernorm",
    "attention",
    "cross_attention",
    "embedding",
}  # layers that are modules in transformers
TIED = "proj_out.weight"  # the output layer, which shares the weights of the token embedding

Layers = dict[str, NDArray[np.float32]]


class Reference:
    """A `WhisperForConditionalGeneration` in float32, with the dimensions of a spec and its weights."""

    def __init__(self, spec: Spec, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Makes the model. Raises UserError if torch or transformers are missing, or have no such model."""
        try:
            import torch
            from transformers import WhisperConfig, WhisperForConditionalGeneration
        except ImportError as e:
            raise UserError(f"verify needs torch and transformers: pip install 'max-whisper[verify]' ({e})") from e
        self._torch, self._spec = torch, spec
        self._model = WhisperForConditionalGeneration(WhisperConfig(**_config(spec), attn_implementation="eager"))
        state = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
        loaded = self._model.load_state_dict(state, strict=False)
        if loaded.unexpected_keys or set(loaded.missing_keys) - {TIED}:
            names = [*loaded.unexpected_keys, *loaded.missing_keys]
            raise UserError(f"transformers has no Whisper like {spec.name}: it differs in {', '.join(names[:4])}")
        self._model.tie_weights()
        self._model.eval()

    def run(self, mel: NDArray[np.float32], tokens: NDArray[np.int64]) -> Layers:
        """Returns the output of each layer [length, channels] by path, with "features" and "logits".

        mel: float32 [1, n_mels, n_frames]. tokens: int64 [1, length]. The output of a layer that is no module in
        transformers is taken from the input of the module after it; it is left out where no module follows.
        """
        layers: Layers = {}
        modules = dict(self._model.named_modules())
        hooks = []
        for node, after in _with_next([*_executed(self._spec.encoder), *_executed(self._spec.decoder)]):
            module = modules.get(getattr(node.layer, "weights", None) or "")
            if node.layer.kind in MODULE_KINDS and module is not None:
                hooks.append(module.register_forward_hook(_keep_output(layers, node)))
            elif after is not None and after.layer.kind in MODULE_KINDS:
                module = modules[after.layer.weights]  # type: ignore[attr-defined]
                hooks.append(module.register_forward_pre_hook(_keep_input(layers, node)))
        try:
            with self._torch.inference_mode():
                output = self._model(
                    input_features=self._torch.from_numpy(mel),
                    decoder_input_ids=self._torch.from_numpy(tokens),
                    use_cache=False,
                )
        finally:
            for hook in hooks:
                hook.remove()
        layers["features"] = output.encoder_last_hidden_state[0].numpy()
        layers["logits"] = output.logits[0].numpy()
        return layers


def _config(spec: Spec) -> dict[str, Any]:
    """Returns the fields of transformers' configuration. Raises UserError where it has no such model."""
    heads, ffn, layers = {}, {}, {}
    for side, tree in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        nodes = list(tree.walk())
        attention = [node for node in nodes if node.layer.self_attention]
        if not attention:
            raise UserError(f"transformers has no Whisper like {spec.name}: its {side} has no attention")
        heads[side] = attention[0].layer.heads  # type: ignore[attr-defined]
        layers[side] = len(attention)
        ffn[side] = max(node.output_shape.channels for node in nodes if node.layer.kind == "linear")
    functions = [node.layer.kind for node in spec.decoder.walk() if node.layer.kind in ACTIVATIONS]
    if not functions:
        raise UserError(f"transformers has no Whisper like {spec.name}: its decoder has no activation")
    return {
        "vocab_size": spec.n_vocab,
        "num_mel_bins": spec.n_mels,
        "d_model": spec.d_model,
        "max_source_positions": spec.n_audio_ctx,
        "max_target_positions": spec.n_text_ctx,
        "activation_function": ACTIVATIONS[functions[0]],
        **{f"{side}_layers": layers[side] for side in layers},
        **{f"{side}_attention_heads": heads[side] for side in heads},
        **{f"{side}_ffn_dim": ffn[side] for side in ffn},
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "decoder_start_token_id": 0,
    }


def _executed(tree: ModelPart | LayerNode) -> Iterator[LayerNode]:
    """Yields the nodes whose outputs are compared, in the order in which they finish."""
    nodes = tree.nodes if isinstance(tree, ModelPart) else tree.children
    for node in nodes:
        yield from _executed(node)
        if node.layer.exposed:
            yield node


def _with_next(nodes: Iterable[LayerNode]) -> Iterator[tuple[LayerNode, LayerNode | None]]:
    """Yields each node with the next one without children, whose input is the node's output."""
    listed = list(nodes)
    for place, node in enumerate(listed):
        yield node, next((after for after in listed[place + 1 :] if not after.children), None)


def _keep_output(layers: Layers, node: LayerNode) -> Any:
    def hook(module: Any, inputs: Any, output: Any) -> None:
        layers[node.path] = _rows(output[0] if isinstance(output, tuple) else output, node)

    return hook


def _keep_input(layers: Layers, node: LayerNode) -> Any:
    def hook(module: Any, inputs: tuple[Any, ...]) -> None:
        layers[node.path] = _rows(inputs[0], node)

    return hook


def _rows(x: Any, node: LayerNode) -> NDArray[np.float32]:
    """Returns float32 [length, channels]; torch's convolutions have [channels, length]."""
    array: NDArray[np.float32] = x[0].detach().numpy()
    return np.array(array if array.shape[1] == node.output_shape.channels else array.T)
