"""The spec language: reads YAML into a checked tree of layers. It needs neither MAX nor weights.

A spec is loaded, and its parts are lowered to the operations of `ops`, which implements the protocol `Ops`:

    spec = load_spec("tiny.yaml")
    features = spec.encoder.lower(ops, mel)
    logits = spec.decoder.lower(ops, tokens)
"""

from __future__ import annotations

from max_whisper.spec.catalog import shipped_specs
from max_whisper.spec.layer import TensorSpec
from max_whisper.spec.model import Spec, load_spec
from max_whisper.spec.schema import json_schema

__all__ = ["Spec", "TensorSpec", "json_schema", "load_spec", "shipped_specs"]
