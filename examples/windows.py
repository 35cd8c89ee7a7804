"""Show the text while a recording is transcribed: each window's segments as soon as they are decoded.

python examples/windows.py artifacts/tiny speech.wav
"""

import sys

import max_whisper


def main(folder: str, recording: str) -> None:
    model = max_whisper.load(folder)
    transcriber = model.transcriber(recording, condition_on_previous_text=False)
    for window in transcriber:
        print(f"-- until {window.end:.1f} of {transcriber.seconds:.1f} s", flush=True)
        for segment in window.segments:
            print(f"{segment.start:7.2f} s  {segment.text.strip()}", flush=True)
    result = transcriber.result()  # what `transcribe` returns
    print(f"-- {len(result.segments)} segments, language '{result.language}'")


if __name__ == "__main__":
    main(*sys.argv[1:])
