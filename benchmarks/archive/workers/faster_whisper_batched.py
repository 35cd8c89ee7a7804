"""faster-whisper's batched pipeline, one recording after the other: arguments MODEL THREADS BATCH FOLDER OUT.

The pipeline takes one recording at a time; its batches are the parts of it in which its voice detection hears speech.
"""

from __future__ import annotations

import sys

from faster_whisper import BatchedInferencePipeline, WhisperModel

from benchmarks.archive.workers.texts import write_texts


def main(model: str, threads: str, batch: str, folder: str, out: str) -> None:
    whisper = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=int(threads))
    pipeline = BatchedInferencePipeline(whisper)

    def transcribe(file: str) -> str:
        segments, _ = pipeline.transcribe(file, batch_size=int(batch), beam_size=1, temperature=0.0)
        return "".join(segment.text for segment in segments)

    write_texts(folder, out, transcribe)


if __name__ == "__main__":
    main(*sys.argv[1:])
