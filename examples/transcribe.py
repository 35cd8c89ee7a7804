"""Load a compiled artifact and transcribe a recording.

python examples/transcribe.py artifacts/tiny speech.wav
"""

import sys

import max_whisper


def main(folder: str, recording: str) -> None:
    model = max_whisper.load(folder)
    result = model.transcribe(recording, language="en" if model.multilingual else None)
    for segment in result.segments:
        print(f"{segment.start:7.2f} s - {segment.end:7.2f} s  {segment.text.strip()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
