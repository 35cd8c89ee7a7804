"""Transcribe many recordings at once: one that fails does not stop the others.

python examples/batch.py artifacts/tiny texts first.wav second.mp3 ...

The texts are written to a folder, here `texts`, which is made if it is not there.

An artifact that `max-whisper build --batch 8` built decodes eight of them together.
"""

import sys
from pathlib import Path

import max_whisper


def main(folder: str, texts: str, *recordings: str) -> int:
    Path(texts).mkdir(parents=True, exist_ok=True)
    model = max_whisper.load(folder)
    failed = 0
    for event in model.batch(recordings, language="en" if model.multilingual else None):
        recording = Path(recordings[event.index])
        if event.kind == "window":
            print(f"{recording.name}: {event.window.end:.0f} of {event.transcriber.seconds:.0f} s", file=sys.stderr)
        elif event.kind == "ended":
            Path(texts, f"{recording.name}.txt").write_text(event.transcriber.result().text.strip() + "\n")
            print(f"{recording.name}: done")
        elif event.kind == "failed":
            print(f"{recording.name}: {event.error}")
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
