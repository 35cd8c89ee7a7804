"""Look inside: the five likeliest next tokens after Whisper's prompt, for the first window of a recording.

python examples/logits.py artifacts/tiny speech.wav
"""

import sys

import max_whisper


def main(folder: str, recording: str) -> None:
    model = max_whisper.load(folder)
    window = model.n_frames
    mel = model.log_mel(max_whisper.load_audio(recording), padding=window * 160)[None, :, :window]
    features = model.encode(mel)
    prompt = model.tokenizer.prompt("en", without_timestamps=True)
    scores = model.logits(features, [prompt])[0, -1]
    for token in scores.argsort()[::-1][:5].tolist():
        print(f"{scores[token]:8.3f}  {token:6d}  {model.tokenizer.decode([token])!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
