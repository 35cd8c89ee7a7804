"""Makes examples/audio: speech for the nano model, with espeak-ng (from Debian) and PyAV. The files are in the project.

python examples/make_recordings.py
"""

from __future__ import annotations

import io
import subprocess
import wave
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "audio"
RATE = 16000
ESPEAK_RATE = 22050
PAUSE = 0.6  # seconds between phrases, and at both ends

# File: voice, speed in words a minute, phrases. The words are those of specs/nano/words.txt.
RECORDINGS: dict[str, tuple[str, int, list[str]]] = {
    "commands": ("en-us+f4", 150, ["hello", "open door", "stop", "go left", "thanks"]),
    "countdown": (
        "en-gb+m5",
        140,
        ["ten nine eight", "seven six five", "four three two", "one zero", "go", "go", "stop"],
    ),
    "spelling": (
        "en-us+Michael",
        160,
        [
            "alfa bravo charlie",
            "delta echo foxtrot",
            "golf hotel india",
            "juliett kilo lima",
            "mike november oscar",
            "papa quebec romeo",
            "sierra tango uniform",
            "victor whiskey xray",
            "yankee zulu",
        ],
    ),
}


def spoken(voice: str, speed: int, text: str) -> NDArray[np.float32]:
    """Returns the sound of a text without the silence around it: float32 [samples] at ESPEAK_RATE."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "--stdout", text]
    with wave.open(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)) as file:
        samples = np.frombuffer(file.readframes(-1), np.int16) / np.float32(32768)
        assert file.getframerate() == ESPEAK_RATE
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]


def recording(voice: str, speed: int, phrases: list[str]) -> NDArray[np.float32]:
    """Returns the phrases with pauses, over a little noise: float32 [samples]."""
    rng = np.random.default_rng(0)
    pause = np.zeros(int(PAUSE * ESPEAK_RATE), np.float32)
    parts = [pause]
    for phrase in phrases:
        parts += [spoken(voice, speed, phrase), pause]
    samples = np.concatenate(parts)
    return samples + rng.normal(0, 0.002, len(samples)).astype(np.float32)


def write_flac(path: Path, samples: NDArray[np.float32]) -> None:
    """Writes a FLAC file of 16 kHz, 16 bits, mono."""
    frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
    frame.sample_rate = ESPEAK_RATE
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(path, "w") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, (voice, speed, phrases) in RECORDINGS.items():
        samples = recording(voice, speed, phrases)
        write_flac(FOLDER / f"{name}.flac", samples)
        (FOLDER / f"{name}.txt").write_text("\n".join(phrases) + "\n")
        print(f"{name}.flac: {len(samples) / ESPEAK_RATE:.1f} s, {' '.join(phrases)}")


if __name__ == "__main__":
    main()
