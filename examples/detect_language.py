"""Detect the language of a recording from its first window, with the probability of each candidate.

python examples/detect_language.py artifacts/tiny speech.wav
"""

import sys

import max_whisper


def main(folder: str, recording: str) -> None:
    model = max_whisper.load(folder)
    if not model.multilingual:
        sys.exit(f"{folder} holds an English-only model")
    features = model.encode(model.windows(recording)[:1])
    (probabilities,) = model.detect_language(features)  # one dict for each window, the most probable language first
    for language, probability in list(probabilities.items())[:5]:
        print(f"{probability:6.1%}  {language}")
    (result,) = model.decode(features, language=next(iter(probabilities)))  # the features serve again
    print(result.text)


if __name__ == "__main__":
    main(*sys.argv[1:])
