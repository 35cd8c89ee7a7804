"""WhisperLive: its server with faster-whisper, and a client that sends and waits as the project's own.

It runs as its `run_server.py --backend faster_whisper -fw MODEL --omp_num_threads N`, which is not in the package but
calls what is called here. The server chooses int8 on a CPU, five beams, and drops what has no voice before it
transcribes. The options of the session are the defaults of its client.

The server transcribes again and again all sound from the last complete segment on. It calls a segment completed when
another follows it, or when its text was the same ten times; that is what counts as confirmed here. At the end the
client waits until there was no new text for 15 s, and takes what is still open as it is; the CPU time of that wait
does not count. Times are those of segments: its `word_timestamps` is off by default.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from typing import Any

from benchmarks.streaming.workers.replay import CHUNK, Replay, floats, stop
from benchmarks.streaming.workers.servers import HOST, TIMEOUT, Server, free_port

RUN = """
import sys
from whisper_live.server import TranscriptionServer
host, port, model = sys.argv[1:]
options = {"backend": "faster_whisper", "faster_whisper_custom_model_path": model, "single_model": True}
TranscriptionServer().run(host, int(port), **options)
"""
QUIET = 15
"""The seconds without new text after which its client takes a session that has ended for complete."""
WARM = 30
"""The seconds in which it must have heard something to be warm; some recordings begin with a pause."""
SESSION = {  # the defaults of its client
    "task": "transcribe",
    "use_vad": True,
    "send_last_n_segments": 10,
    "no_speech_thresh": 0.45,
    "clip_audio": False,
    "same_output_threshold": 10,
    "word_timestamps": False,
}


class Session:
    """A connection to the server, and the segments of it."""

    def __init__(self, replay: Replay, port: int) -> None:
        from websockets.sync.client import connect

        self._replay = replay
        self._socket = connect(f"ws://{HOST}:{port}", max_size=None)
        self._end = 0.0
        self.text = ""
        """The text that is not complete yet."""
        self.heard = time.monotonic()
        """When the text was last another than before."""
        self.used = 0.0
        """The CPU time until then, and until all was sent."""
        options = {"uid": str(uuid.uuid4()), "language": replay.language, "model": str(replay.ctranslate2), **SESSION}
        self._socket.send(json.dumps(options))
        answer = json.loads(self._socket.recv(timeout=TIMEOUT))
        if answer.get("message") != "SERVER_READY":
            raise SystemExit(f"The server says: {answer}")
        threading.Thread(target=self._receive, daemon=True).start()

    def send(self, pcm: bytes) -> None:
        """Sends samples, as its client does in float32."""
        self._socket.send(floats(pcm).tobytes())

    def wait(self, quiet: float) -> None:
        """Waits until there was no other text for so many seconds, and confirms what is still open."""
        self.used = self._replay.used
        while time.monotonic() - self.heard < quiet:
            time.sleep(0.05)
        if self.text:
            self._replay.confirmed(self.text)

    def close(self) -> None:
        """Ends the session."""
        self._socket.send(b"END_OF_AUDIO")
        self._socket.close()

    def _receive(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            for message in self._socket:
                if segments := json.loads(message).get("segments"):
                    self._tell(segments)
        except ConnectionClosed:
            pass

    def _tell(self, segments: list[dict[str, Any]]) -> None:
        """Tells the segments that are new; the server repeats the last ten, and its client goes by their times too."""
        for segment in segments:
            if segment["completed"] and float(segment["start"]) >= self._end:
                self._end = float(segment["end"])
                self._replay.confirmed(segment["text"])
                self._replay.final(segment["text"].strip())
        now = "" if segments[-1]["completed"] else segments[-1]["text"]
        if now != self.text:
            self.text, self.heard, self.used = now, time.monotonic(), self._replay.used
        self._replay.hypothesis(now.strip())


def warm_up(replay: Replay, port: int) -> None:
    """Has the server load the model and transcribe the beginning, in a session of its own."""
    session = Session(replay, port)
    for start in range(0, len(replay.beginning), CHUNK):
        session.send(replay.beginning[start : start + CHUNK])
    until = time.monotonic() + WARM
    while not session.text and time.monotonic() < until:
        time.sleep(0.05)
    session.close()


def main() -> None:
    """Runs the server for one session."""
    replay = Replay()
    port = free_port()
    command = [sys.executable, "-c", RUN, HOST, str(port), str(replay.ctranslate2)]
    with Server(command, port) as server:
        replay.root = server.pid
        warm_up(replay, port)
        session = Session(replay, port)
        packages = ["whisper-live", "faster-whisper", "ctranslate2"]
        replay.ready(packages, backend="faster_whisper", compute_type="int8", beam_size=5, **SESSION)
        for pcm in replay.arrived():
            session.send(pcm)
        session.wait(QUIET)
        session.close()
        replay.end(used=session.used)
    stop()


if __name__ == "__main__":
    main()
