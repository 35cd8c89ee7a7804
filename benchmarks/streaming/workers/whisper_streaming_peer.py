"""whisper_streaming of ÚFAL: faster-whisper over a growing window.

Text in which two results in turn agree is confirmed. It runs as `whisper_online.py --backend faster-whisper --vac`,
with the options that its README recommends and otherwise its defaults: a new result for each second of sound, five
beams, the window cut at segments after 15 s, and a phrase ends with 500 ms without voice. Two things differ. Its
class for faster-whisper asks for a GPU, and a comment in there says what to write for a CPU: int8. And its voice
activity detection is loaded from the package silero-vad, where it would get the same model of the same project from
GitHub.

The package `whisper-streaming` on PyPI (0.1.0) is somebody else's rework, which calls itself alpha and does not end a
phrase at a pause; this is the original, at a commit.
"""

from __future__ import annotations

from typing import Any

from benchmarks.streaming.workers.replay import Replay, Word, floats, stop

SECONDS = 1.0
"""The new sound after which the window is transcribed again: --min-chunk-size."""
TRIMMING = ("segment", 15)
"""Where, and from how many seconds on, the window is cut: --buffer_trimming, --buffer_trimming_sec."""


def load(replay: Replay) -> Any:
    """Returns the processor that its program uses with --vac."""
    import torch
    from silero_vad import load_silero_vad

    torch.hub.load = lambda *_, **__: (load_silero_vad(), None)

    from faster_whisper import WhisperModel
    from whisper_online import FasterWhisperASR, VACOnlineASRProcessor

    class OnCPU(FasterWhisperASR):  # type: ignore[misc]
        """Loads the model for a CPU."""

        def load_model(self, modelsize: Any = None, cache_dir: Any = None, model_dir: Any = None) -> WhisperModel:
            return WhisperModel(model_dir, device="cpu", compute_type="int8", cpu_threads=replay.threads)

    asr = OnCPU(replay.language, model_dir=str(replay.ctranslate2))
    asr.transcribe(floats(replay.beginning))
    return VACOnlineASRProcessor(SECONDS, asr, None, TRIMMING)


def main() -> None:
    """Loops as its program does for a recording in real time."""
    replay = Replay()
    processor = load(replay)
    flush = processor.online.to_flush
    flushed: list[list[Any]] = []

    def remember(words: list[Any], *more: Any, **options: Any) -> Any:
        flushed.append(words)
        return flush(words, *more, **options)

    processor.online.to_flush = remember  # its results have no times of words, but are made of them
    phrase: list[str] = []

    def tell(text: str, ended: bool) -> None:
        words: list[Word] = [(word.strip(), start, end) for start, end, word in flushed[0]] if flushed else []
        flushed.clear()
        replay.confirmed(text, words)
        phrase.append(text)
        if ended:
            if said := "".join(phrase).strip():
                replay.final(said)
            phrase.clear()
        else:
            replay.hypothesis("".join(word for _, _, word in processor.online.transcript_buffer.complete()))

    replay.ready(
        ["faster-whisper", "ctranslate2", "silero-vad"],
        compute_type="int8",
        beam_size=5,
        min_chunk_size=SECONDS,
        buffer_trimming=TRIMMING,
        vac=True,
    )
    for pcm in replay.arrived():
        processor.insert_audio_chunk(floats(pcm))
        ended = processor.is_currently_final
        tell(processor.process_iter()[2], ended)
    tell(processor.finish()[2], True)
    replay.end()
    stop()


if __name__ == "__main__":
    main()
