"""Tables of the names that tensors have in each format of checkpoints; specs use the names of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RenameTable:
    """Translates names of a spec to those of a format.

    parts: what is replaced in a name, one after another in this order, and by what.
    optional_prefix: what stands before all names in some files of the format, and is missing in others.
    """

    parts: Mapping[str, str] = field(default_factory=dict)
    optional_prefix: str = ""

    def renamed(self, name: str) -> str:
        """Returns the format's name of a tensor."""
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
"""WhisperForConditionalGeneration.save_pretrained writes the prefix, WhisperModel.save_pretrained does not."""

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
