"""WhisperLiveKit: its server, `wlk`, and a client of its protocol for raw samples.

It runs as `wlk --model SIZE --language LANGUAGE --pcm-input` with its defaults. The policy is simulstreaming: an
encoder of faster-whisper, for which CTranslate2 chooses the fastest type, on a CPU int8, and a decoder in torch,
float32, which stops where attention nears the end. `--policy localagreement` is the other one: faster-whisper over a
growing window, and text in which two results in turn agree is confirmed. Only with that one the server sends
hypotheses. The weights are given by their paths, and with them the heads that align words, which it knows for each
size.

The server sends all lines again at each change, without times of words. A line's text is confirmed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks.streaming.workers.replay import Replay, stop, write_wav
from benchmarks.streaming.workers.servers import HOST, TIMEOUT, Server, free_port

POLICIES = ("simulstreaming", "localagreement")


def command(replay: Replay, port: int, warm_up: Path) -> list[str]:
    """Returns the command line of the server."""
    words = [str(Path(sys.executable).with_name("wlk")), "--host", HOST, "--port", str(port), "--pcm-input"]
    words += ["--language", replay.language, "--warmup-file", str(warm_up), "--log-level", "WARNING"]
    if replay.chosen["policy"] == "localagreement":
        chosen = ["--backend", "faster-whisper", "--model_dir", str(replay.ctranslate2)]
        return [*words, "--backend-policy", "localagreement", *chosen]
    from whisperlivekit.whisper import _ALIGNMENT_HEADS

    heads = _ALIGNMENT_HEADS[replay.torch_file.stem].decode()
    weights = ["--encoder-model-path", str(replay.ctranslate2), "--decoder-model-path", str(replay.torch_file)]
    return [*words, *weights, "--custom-alignment-heads", heads]


def added(before: str, now: str) -> str:
    """Returns what follows the characters with which both begin: the last word may have been a part of one."""
    pairs = enumerate(zip(before, now, strict=False))
    return now[next((i for i, (old, new) in pairs if old != new), min(len(before), len(now))) :]


def listen(replay: Replay, port: int) -> str:
    """Sends the recording as it arrives and tells what the server answers; returns its lines at the end."""
    from websockets.sync.client import connect

    text = ""
    with connect(f"ws://{HOST}:{port}/asr", max_size=None) as socket:
        socket.recv()  # its settings

        def send() -> None:
            for pcm in replay.arrived():
                socket.send(pcm)
            socket.send(b"")

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        while True:
            state = json.loads(socket.recv(timeout=TIMEOUT))
            if state.get("type") == "ready_to_stop":
                return text
            if state.get("error"):
                raise SystemExit(f"The server says: {state['error']}")
            now = " ".join(line["text"].strip() for line in state["lines"] if line["text"])
            replay.confirmed(added(text, now))
            text = now
            replay.hypothesis(state["buffer_transcription"].strip())


def main() -> None:
    """Runs the server for one session."""
    replay = Replay(("policy", POLICIES))
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        warm_up = Path(folder) / "warm-up.wav"
        write_wav(warm_up, replay.beginning)
        with Server(command(replay, port, warm_up), port) as server:
            replay.root = server.pid
            replay.ready(
                ["whisperlivekit", "faster-whisper", "ctranslate2", "torch"],
                compute_type="auto",
                decoder="float32" if replay.chosen["policy"] == POLICIES[0] else "auto",
                vac=True,
            )
            replay.end(listen(replay, port))
    stop()


if __name__ == "__main__":
    main()
