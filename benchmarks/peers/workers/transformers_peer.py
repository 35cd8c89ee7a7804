"""The engine transformers: its pipeline for speech recognition, with Whisper's own sequential long form."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForSpeechSeq2Seq

from benchmarks.peers.worker import peer_main
from benchmarks.peers.workers.hugging_face import HuggingFacePipeline


class Transformers(HuggingFacePipeline):
    """Runs the pipeline with a model in torch; `variant` is its dtype."""

    LIBRARIES = ("transformers", "torch")

    def __init__(self, checkpoint: Path, variant: str, threads: int) -> None:
        torch.set_num_threads(threads)
        model = AutoModelForSpeechSeq2Seq.from_pretrained(checkpoint, dtype=getattr(torch, variant))
        super().__init__(checkpoint, model)


if __name__ == "__main__":
    peer_main(lambda checkpoint, _models, variant, threads, _mode: Transformers(checkpoint, variant, threads))
