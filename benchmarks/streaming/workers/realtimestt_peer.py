"""RealtimeSTT: its recorder with faster-whisper, fed with samples, and with text while a phrase is spoken.

It is `AudioToTextRecorder` with `enable_realtime_transcription=True` and otherwise the defaults of the package, but
for what names the weights, a CPU and int8. Voice activity detection finds where a phrase begins and ends, with 0.6 s
of silence. While it is spoken, all of it is transcribed every 0.2 s, with three beams, in a model of its own; at its
end once more, with five beams, in a model of a process of its own.

Only the text of a phrase that ended counts as confirmed. Hypotheses have a field `stable`: the part that the package
calls stable, which the text at the end may contradict. There are no times of words. At the end of the sound the
recorder is stopped, as the package's server does.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.streaming.workers.replay import CHUNK, Replay, stop

SETTINGS = {"device": "cpu", "compute_type": "int8", "enable_realtime_transcription": True}
DRAIN = 60
"""The seconds in which the recorder must have taken what was fed."""


def load(replay: Replay) -> Any:
    """Returns a recorder whose hypotheses are told."""
    from RealtimeSTT import AudioToTextRecorder

    def tell(event: Any) -> None:
        replay.hypothesis(event.display_text, stable=event.stable_text)

    return AudioToTextRecorder(
        model=str(replay.ctranslate2),
        realtime_model_type=str(replay.ctranslate2),
        language=replay.language,
        use_microphone=False,
        spinner=False,
        no_log_file=True,
        on_realtime_text_stabilization_update=tell,
        **SETTINGS,
    )


def listen(replay: Replay, recorder: Any) -> None:
    """Takes one phrase after the other, as its README shows."""
    while True:
        if text := recorder.text():
            replay.confirmed(f"{text} ")
            replay.final(text)


def finish(recorder: Any) -> None:
    """Waits until the recorder has heard all and gave the text of all."""
    recorder.flush_audio_input()
    recorder.drain_audio_input(DRAIN)
    if recorder.is_recording:
        recorder.stop()
    while recorder.has_pending_recordings() or recorder.state != "listening":
        time.sleep(0.02)


def main() -> None:
    """Feeds the recorder as the sound arrives, while a thread takes its phrases."""
    replay = Replay()
    recorder = load(replay)
    threading.Thread(target=listen, args=(replay, recorder), daemon=True).start()
    for start in range(0, len(replay.beginning), CHUNK):  # at its speed, because its pauses are measured by the clock
        recorder.feed_audio(replay.beginning[start : start + CHUNK])
        time.sleep(0.1)
    finish(recorder)

    replay.ready(
        ["realtimestt", "faster-whisper", "ctranslate2", "silero-vad"], beam_size=5, beam_size_realtime=3, **SETTINGS
    )
    for pcm in replay.arrived():
        recorder.feed_audio(pcm)
    finish(recorder)
    replay.end()
    recorder.shutdown()
    stop()


if __name__ == "__main__":
    main()
