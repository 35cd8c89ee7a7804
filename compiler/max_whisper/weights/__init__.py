"""Checkpoints: Hub, folder or file -> named tensors, checked and cast, and the vocabulary that belongs to them."""

from max_whisper.tensors.cast import to_bfloat16, to_float32
from max_whisper.weights.alignment import read_alignment_heads
from max_whisper.weights.architecture import check_architecture
from max_whisper.weights.checkpoint import Checkpoint, Dtype, StoredTensor, open_checkpoint
from max_whisper.weights.vocabulary import Vocabulary, read_vocabulary, write_tiktoken

__all__ = [
    "Checkpoint",
    "Dtype",
    "StoredTensor",
    "Vocabulary",
    "check_architecture",
    "open_checkpoint",
    "read_alignment_heads",
    "read_vocabulary",
    "to_bfloat16",
    "to_float32",
    "write_tiktoken",
]
