"""Makes tests/golden/speech_parts.json: the parts with speech that faster-whisper finds for given probabilities.

    pip install faster-whisper==1.2.1
    PYTHONPATH=tests python tests/golden/make_speech_parts.py

It is run by hand; the tests do not need faster-whisper. Its own `get_speech_timestamps` runs, on probabilities in place
of its model's.
"""

from __future__ import annotations

import json

import faster_whisper.vad
import numpy as np
from support.speech_cases import GOLDEN, SAMPLES, cases


class Model:
    """Gives the probabilities of a case, whatever the sound is."""

    def __init__(self, probabilities: np.ndarray) -> None:
        self._probabilities = probabilities

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        return self._probabilities


def main() -> None:
    """Writes the file."""
    expected = []
    for case in cases():
        faster_whisper.vad.get_vad_model = lambda case=case: Model(case.probabilities)
        options = faster_whisper.vad.VadOptions(**case.settings)
        # One sample less than whole chunks: faster-whisper appends an empty chunk to whole ones.
        sound = np.zeros(len(case.probabilities) * SAMPLES - 1, np.float32)
        found = faster_whisper.vad.get_speech_timestamps(sound, options)
        expected.append([[part["start"], part["end"]] for part in found])
    GOLDEN.write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
