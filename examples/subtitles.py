"""Write SRT subtitles, cut by the times of words: at most two lines of 42 characters at once.

python examples/subtitles.py artifacts/tiny speech.wav speech.srt
"""

import sys

import max_whisper


def show(progress: max_whisper.Progress) -> None:
    print(f"{progress.done:.1f} of {progress.total:.1f} {progress.unit}", flush=True)


def main(folder: str, recording: str, subtitles: str) -> None:
    model = max_whisper.load(folder)
    result = model.transcribe(recording, word_timestamps=True, progress=show)
    cues = max_whisper.SubtitleOptions(max_line_width=42, max_line_count=2)
    max_whisper.write(result, "srt", subtitles, cues)


if __name__ == "__main__":
    main(*sys.argv[1:])
