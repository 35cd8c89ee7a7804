"""Transcribe sound while it is said: here, that of a recording, 100 ms after 100 ms.

python examples/stream.py artifacts/tiny speech.wav
"""

import sys

import max_whisper

CHUNK = 1600  # samples: 100 ms at 16 kHz


def main(folder: str, recording: str) -> None:
    model = max_whisper.load(folder)
    sound = max_whisper.load_audio(recording)
    stream = model.stream()
    for first in range(0, len(sound), CHUNK):
        show(stream.feed(sound[first : first + CHUNK]))
    show(stream.finish())


def show(events: list[max_whisper.StreamEvent]) -> None:
    for event in events:
        if event.kind in ("confirmed", "hypothesis", "final"):
            print(f"{event.end:6.2f} s  {event.kind:10} {event.text.strip()}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
