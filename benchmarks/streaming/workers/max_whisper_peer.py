"""max-whisper as a live transcriber beside the peers: the same arguments, and the same events."""

from __future__ import annotations

import max_whisper
import numpy as np
from max_whisper.runtime.streaming.stream import BEHIND_MS

from benchmarks.streaming.workers.replay import WIDTH, Replay, floats, stop


def main() -> None:
    """Replays a recording to a stream."""
    replay = Replay(("policy", ["alignatt", "local_agreement"]))
    model = max_whisper.load(replay.model)
    warm = model.stream(language=replay.language)
    warm.feed(floats(replay.beginning))
    warm.finish()
    stream = model.stream(language=replay.language, policy=replay.chosen["policy"])  # type: ignore[arg-type]
    replay.ready(["max-whisper"], dtype=model.manifest.plan.dtype, policy=replay.chosen["policy"])
    texts: list[str] = []

    def tell(events: list[max_whisper.StreamEvent]) -> None:
        for event in events:
            words = [(word.word, word.start, word.end) for word in event.words]
            if event.kind == "confirmed":
                replay.confirmed(event.text, words)
            elif event.kind == "hypothesis":
                replay.hypothesis(event.text)
            elif event.kind == "final":
                texts.append(event.text)
                replay.final(event.text, phrase_end=event.end - BEHIND_MS / 1000)

    for chunk in replay.arrived():
        assert len(chunk) % WIDTH == 0
        tell(stream.feed(np.frombuffer(chunk, "<i2")))
    tell(stream.finish())
    replay.end("".join(texts))
    stop()


if __name__ == "__main__":
    main()
