"""Stop a transcription from another thread, and keep the text so far.

python examples/cancel.py artifacts/tiny speech.wav 0.5

The last number is the time in seconds after which a timer cancels, as a user would.
"""

import sys
import threading

import max_whisper


def main(folder: str, recording: str, patience: str) -> None:
    model = max_whisper.load(folder)
    transcriber = model.transcriber(recording, condition_on_previous_text=False)
    timer = threading.Timer(float(patience), transcriber.cancel)
    timer.start()
    try:
        for window in transcriber:
            print(f"until {window.end:.1f} s", flush=True)
        print("done:", transcriber.result().text)
    except max_whisper.Cancelled:
        print("cancelled:", transcriber.result().text)
    finally:
        timer.cancel()


if __name__ == "__main__":
    main(*sys.argv[1:])
