"""SimulStreaming of ÚFAL, the successor of its whisper_streaming, with a decoder of its own in torch.

Decoding stops where attention nears the end of the sound. It runs as `simulstreaming_whisper.py --vac`, as its README
recommends, with its defaults: greedy, new text for each 1.2 s of sound, a phrase ends with 500 ms without voice. It
computes in float32, and has no int8. All its text is confirmed: it has no hypotheses. Two things differ. Its voice
activity detection is loaded from the package silero-vad, where it would get the same model of the same project from
GitHub. And it compares the SHA-256 of a file of weights with OpenAI's, and gets OpenAI's if it is another; that is
left out, because the same weights are written here anew.

Loading silero-vad leaves torch one thread, and that is how its users run it with --vac. Here torch gets `--threads`
after that; `--threads 1` is as theirs, and much better where other processes keep the CPUs busy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.streaming.workers.replay import Replay, Word, floats, stop


def load(replay: Replay) -> tuple[Any, argparse.Namespace]:
    """Returns the processor that its program makes, warm, and the options of the program."""
    import torch
    from silero_vad import load_silero_vad

    torch.hub.load = lambda *_, **__: (load_silero_vad(), None)
    torch.set_num_threads(replay.threads)

    from simulstreaming.whisper.simul_whisper import whisper
    from simulstreaming.whisper.whisper_streaming.whisper_online_main import asr_factory, processor_args
    from simulstreaming_whisper import simul_asr_factory, simulwhisper_args

    whisper._download = lambda url, root, in_memory: str(Path(root) / Path(url).name)
    parser = argparse.ArgumentParser()
    processor_args(parser)
    simulwhisper_args(parser)
    words = ["--vac", "--language", replay.language, "--model_path", str(replay.torch_file), "--log-level", "WARNING"]
    options = parser.parse_args(words)
    asr, processor = asr_factory(options, simul_asr_factory)
    asr.warmup(torch.from_numpy(floats(replay.beginning)))
    return processor, options


def main() -> None:
    """Loops as its program does for a recording in real time."""
    replay = Replay()
    processor, options = load(replay)
    phrase: list[str] = []

    def tell(result: dict[str, Any]) -> None:
        words: list[Word] = [(word["text"].strip(), word["start"], word["end"]) for word in result.get("words", [])]
        replay.confirmed(result.get("text", ""), words)
        phrase.append(result.get("text", ""))
        if result.get("is_final"):
            if said := "".join(phrase).strip():
                replay.final(said)
            phrase.clear()

    replay.ready(
        ["torch", "silero-vad"],
        dtype="float32",
        beams=options.beams,
        min_chunk_size=options.min_chunk_size,
        frame_threshold=options.frame_threshold,
        vac=options.vac,
    )
    for pcm in replay.arrived():
        processor.insert_audio_chunk(floats(pcm))
        tell(processor.process_iter())
    tell(processor.finish())
    replay.end()
    stop()


if __name__ == "__main__":
    main()
