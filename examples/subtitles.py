"""Write subtitles of a recording, and say on the way how far it is.

python examples/subtitles.py artifacts/tiny speech.wav speech.srt
"""

import sys

import max_whisper


def show(progress: max_whisper.Progress) -> None:
    print(f"{progress.done:.1f} of {progress.total:.1f} {progress.unit}")


def main(folder: str, recording: str, subtitles: str) -> None:
    model = max_whisper.load(folder)
    result = model.transcribe(recording, word_timestamps=True, progress=show)
    max_whisper.write(result, "srt", subtitles, max_whisper.SubtitleOptions(max_words_per_line=8))


if __name__ == "__main__":
    main(*sys.argv[1:])
