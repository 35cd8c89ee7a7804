"""Read logits: the five most probable first tokens of the text in the first window of a recording.

python examples/logits.py artifacts/tiny speech.wav
"""

import sys

import max_whisper


def main(folder: str, recording: str) -> None:
    model = max_whisper.load(folder)
    features = model.encode(model.windows(recording)[:1])
    prompt = model.prompt(language="en", without_timestamps=True)
    logits = model.logits(features, [prompt])[0, -1]
    for token in logits.argsort()[::-1][:5].tolist():
        print(f"{logits[token]:8.3f}  {token:6d}  {model.tokenizer.decode([token])!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
