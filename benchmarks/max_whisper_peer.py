"""max-whisper as a worker of `compare.py`; it is started by that, with the artifact as its argument."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import click
import numpy as np
from common import WINDOW, Peer, executions, made_recording, serve
from numpy.typing import NDArray


class MaxWhisper(Peer):
    """A loaded artifact."""

    def __init__(self, artifact: str) -> None:
        import max_whisper

        self._load_audio = max_whisper.load_audio
        self._model = max_whisper.load(artifact)

    def facts(self) -> dict[str, Any]:
        return {"max": version("max"), "max-whisper": version("max-whisper")}

    def log_mel(self, audio: str | None, mel_file: str) -> None:
        """Writes the log-mel of the first 30 seconds of a recording, a made one if there is none."""
        waveform = made_recording() if audio is None else self._load_audio(audio)[:WINDOW]
        np.save(mel_file, self._model.log_mel(np.pad(waveform, (0, WINDOW - len(waveform)))))

    def encode(self, mel: NDArray[np.float32]) -> Any:
        return self._model.encode(mel[None])

    def decode(self, features: Any, n_tokens: int) -> tuple[list[int], float]:
        with executions() as seen:  # the first graph that decode executes is the one of the cross-attention
            (result,) = self._model.decode(features, language="en", without_timestamps=True, max_new_tokens=n_tokens)
        return result.tokens, seen[0]


@click.command(help=__doc__)
@click.argument("artifact")
def main(artifact: str) -> None:
    serve(lambda: MaxWhisper(artifact))


if __name__ == "__main__":
    main()
