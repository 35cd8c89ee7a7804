"""Translates the names of tensors in specs, which are those of transformers, to the names of other formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RenameTable:
    """A translation of the names of a spec to those of a format.

    Attributes:
        parts: The replacements of parts of a name, which are done one after another, in this order.
        optional_prefix: A prefix that all names have in some files of the format, and that is missing in others.
    """

    parts: Mapping[str, str] = field(default_factory=dict)
    optional_prefix: str = ""

    def renamed(self, name: str) -> str:
        """Returns the name that the format has for a tensor."""
        for ours, theirs in self.parts.items():
            name = name.replace(ours, theirs)
        return name

    def candidates(self, name: str) -> list[str]:
        """Returns the names that the format may have for a tensor, the most likely one first."""
        renamed = self.renamed(name)
        if not self.optional_prefix:
            return [renamed]
        return [renamed, self.optional_prefix + renamed, renamed.removeprefix(self.optional_prefix)]


TRANSFORMERS = RenameTable(optional_prefix="model.")
"""The names of transformers; WhisperForConditionalGeneration writes the prefix, WhisperModel does not."""

OPENAI = RenameTable(
    {
        "model.": "",
        "layers.": "blocks.",
        "self_attn_layer_norm": "attn_ln",
        "encoder_attn_layer_norm": "cross_attn_ln",
        "final_layer_norm": "mlp_ln",
        "self_attn": "attn",
        "encoder_attn": "cross_attn",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "out_proj": "out",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
        "embed_tokens": "token_embedding",
        "embed_positions.weight": "positional_embedding",
        "encoder.layer_norm": "encoder.ln_post",
        "decoder.layer_norm": "decoder.ln",
    }
)
"""The names of openai/whisper, which ggml files use, too."""

CTRANSLATE2 = RenameTable(
    {
        "model.": "",
        "proj_out": "decoder.projection",
        "layers.": "layer_",
        "self_attn_layer_norm": "self_attention.layer_norm",
        "encoder_attn_layer_norm": "attention.layer_norm",
        "final_layer_norm": "ffn.layer_norm",
        "layer_norm.weight": "layer_norm.gamma",
        "layer_norm.bias": "layer_norm.beta",
        "self_attn.q_proj": "self_attention.linear_0[query]",
        "self_attn.k_proj": "self_attention.linear_0[key]",
        "self_attn.v_proj": "self_attention.linear_0[value]",
        "self_attn.out_proj": "self_attention.linear_1",
        "encoder_attn.q_proj": "attention.linear_0",
        "encoder_attn.k_proj": "attention.linear_1[key]",
        "encoder_attn.v_proj": "attention.linear_1[value]",
        "encoder_attn.out_proj": "attention.linear_2",
        "fc1": "ffn.linear_0",
        "fc2": "ffn.linear_1",
        "embed_tokens": "embeddings",
        "embed_positions.weight": "position_encodings.encodings",
        ".": "/",
    }
)
"""The names of CTranslate2; the part of a matrix that holds several, which its adapter takes apart, is in brackets."""

SILERO = RenameTable(
    {
        "stft_conv.weight": "model.stft.forward_basis_buffer",
        "conv1.": "model.encoder.0.reparam_conv.",
        "conv2.": "model.encoder.1.reparam_conv.",
        "conv3.": "model.encoder.2.reparam_conv.",
        "conv4.": "model.encoder.3.reparam_conv.",
        "lstm_cell.": "model.decoder.rnn.",
        "final_conv.": "model.decoder.decoder.2.",
    },
    optional_prefix="_",
)
"""The names of Silero VAD's PyTorch module, which its ONNX and ggml files have, the latter with the prefix."""
