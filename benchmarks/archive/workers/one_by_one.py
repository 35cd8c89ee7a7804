"""max-whisper in one process, one recording after the other: arguments ARTIFACT FOLDER OUT."""

from __future__ import annotations

import sys

import max_whisper

from benchmarks.archive.workers.texts import write_texts


def main(artifact: str, folder: str, out: str) -> None:
    model = max_whisper.load(artifact)

    def transcribe(file: str) -> str:
        return model.transcribe(file, temperature=0.0, condition_on_previous_text=False).text

    write_texts(folder, out, transcribe)


if __name__ == "__main__":
    main(*sys.argv[1:])
