"""Tests ggml files: tensors, vocabulary and heads as ggml and openai/whisper have them, and what is refused.

Tensors are quantized by ggml's own functions, and whisper.cpp runs the files beside artifacts that are built from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import max_whisper
import numpy as np
import pytest
from max_whisper.errors import WeightsError
from max_whisper.spec import load_spec
from max_whisper.weights.architecture import check_architecture
from max_whisper.weights.checkpoint import open_checkpoint
from support import ggml
from support.models.checkpoint import write_checkpoint
from support.models.small import TOKENS, write_spec
from support.models.vocabulary import make_tokens

QUANTIZED = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"]
KINDS = ["f32", "f16", *QUANTIZED]


@pytest.fixture(scope="module")
def folder(spec: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a file of each kind, all with the weights of `checkpoint`."""
    folder = tmp_path_factory.mktemp("ggml")
    for kind in KINDS:
        ggml.write_ggml(folder / f"{kind}.bin", spec, checkpoint, kind)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_those_of_ggml(folder: Path, spec: Path, checkpoint: Path, kind: str) -> None:
    opened = open_checkpoint(folder / f"{kind}.bin")
    model = load_spec(spec)
    check_architecture(opened, model)
    opened.check([(tensor.name, tensor.shape) for tensor in model.tensors() if not tensor.computed])
    stored, quantized = ggml.openai_tensors(model, open_checkpoint(checkpoint)), 0
    assert {*opened.source.names()} == {*stored}
    for name, array in stored.items():
        info, elements = opened.source.info(name), opened.source.read(name)
        assert (info.shape, info.dtype.numpy) == (array.shape, elements.dtype)
        half = array.astype(np.float16)
        if kind == "f32" or array.ndim == 1 or name in ggml.ADDED:
            expected = array
        elif kind == "f16" or array.ndim == 3:
            expected = half
        else:
            quantized += 1
            expected = ggml.dequantize(ggml.quantize(half.astype(np.float32), kind), kind).reshape(array.shape)
        np.testing.assert_array_equal(elements, expected, strict=True)
    assert quantized == (0 if kind in ("f32", "f16") else 2 * 6 + 2 * 10 + 1)  # of two layers each, and the embedding


def test_vocabulary_and_heads(folder: Path, spec: Path, checkpoint: Path) -> None:
    opened, beside = open_checkpoint(folder / "q5_0.bin"), open_checkpoint(checkpoint)
    vocabulary = opened.vocabulary(TOKENS.n_vocab)
    assert vocabulary.ranks == beside.vocabulary(TOKENS.n_vocab).ranks
    assert vocabulary.tokens.in_order == beside.vocabulary(TOKENS.n_vocab).tokens.in_order
    assert "openai/whisper's, as ggml files hold text tokens only" in vocabulary.origin
    heads = opened.alignment_heads(load_spec(spec))
    assert heads.heads == [(1, 0), (1, 1)] and "last half" in heads.origin


@pytest.mark.parametrize("family", ["multilingual", "english"])
def test_end_of_text_may_be_among_the_text_tokens(tmp_path: Path, family: str) -> None:
    """The published English-only files have it, and all that convert-h5-to-ggml.py makes from vocab.json."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family=family)
    n_vocab = make_tokens(family).n_vocab
    file = ggml.write_ggml(tmp_path / "model.bin", write_spec(tmp_path, n_vocab=n_vocab), checkpoint, "f16")
    expected = open_checkpoint(file).vocabulary(n_vocab)
    assert bool(expected.tokens.languages) == (family == "multilingual")
    data = file.read_bytes()
    file.write_bytes(data.replace(ggml.tokens(expected.ranks), ggml.tokens([*expected.ranks, b"<|endoftext|>"])))
    assert file.stat().st_size == len(data) + 17
    assert open_checkpoint(file).vocabulary(n_vocab) == expected


def test_a_file_is_recognized_by_its_content(folder: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(folder / "f16.bin", tmp_path / "model.safetensors"))
    assert type(open_checkpoint(file).source).__name__ == "Ggml"


def test_folders_are_refused(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"is a folder with models of whisper.cpp: give one of the files, such as .*/f16"
    ):
        open_checkpoint(folder)
    encoder = tmp_path / "ggml-base.en-encoder.mlmodelc"
    encoder.mkdir()
    (encoder / "model.mil").write_text("program(1.0)")
    with pytest.raises(
        WeightsError, match=r"encoder.mlmodelc is an encoder for Core ML, half of a model: give the file"
    ):
        open_checkpoint(encoder)
    both = shutil.copytree(checkpoint, tmp_path / "both")
    shutil.copy(folder / "f16.bin", both)
    assert type(open_checkpoint(both).source).__name__ == "Safetensors"


def changed(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    """Returns a file with other bytes at some offsets, the offset of the head of a tensor's elements among them."""
    for offset, new in changes:
        data = data[:offset] + new + data[offset + len(new) :]
    return data


def number(value: int) -> bytes:
    return value.to_bytes(4, "little", signed=True)


HEAD = 12 * 4
FILTERS = HEAD + 8
TOKENS_AT = FILTERS + 80 * 201 * 4
VOICE = b"lmgg" + number(10) + b"silero-32k" + number(6) * 30
GPT_2 = b"lmgg" + b"".join(map(number, (50257, 1024, 768, 12, 12, 1, 50257, 1))) + b"!" * 200
LLAMA = b"lmgg" + b"".join(map(number, (32000, 4096, 256, 32, 32, 128, 2, 0, 0))) + b"!" * 200
EXPECTED = "expected a model of whisper.cpp such as ggml-base.en.bin"

REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "gguf": (lambda data: b"GGUF" + data[4:], f"it is a GGUF file, which is not the format of whisper.cpp: {EXPECTED}"),
    "llama.cpp": (lambda data: b"tjgg" + data[4:], "it is an old file of llama.cpp (ggjt)"),
    "voice activity": (
        lambda _: VOICE,
        "a ggml file of the model 'silero-32k', but not of a Whisper",
    ),
    "gpt-2": (lambda _: GPT_2, f"it is a ggml file, but not of a Whisper model: {EXPECTED}"),
    "llama": (lambda _: LLAMA, "it is a ggml file, but not of a Whisper model"),
    "no width": (lambda data: changed(data, (12, number(0))), "not of a Whisper model"),
    "half a head": (lambda data: changed(data, (16, number(3))), "not of a Whisper model"),
    "only the magic number": (
        lambda data: data[:4],
        "it is cut off: the header needs 44 bytes at byte 4, but",
    ),
    "old blocks": (
        lambda data: changed(data, (44, number(1008))),
        "its blocks are of version 1, expected 2: quantize the model's f16 file anew with whisper.cpp's",
    ),
    "mel bands": (lambda data: changed(data, (HEAD, number(79))), "its mel filters are [79, 201], expected [80, 201]"),
    "mel filters": (
        lambda data: changed(data, (FILTERS + 201 * 8, bytes(400))),
        "its mel filters are not those of Whisper (Slaney's, 80 bands for 16 kHz)",
    ),
    "mel filters with NaN": (lambda data: changed(data, (FILTERS, b"\xff" * 4)), "its mel filters are not those of Wh"),
    "too many tokens": (
        lambda data: changed(data, (TOKENS_AT, number(2**31 - 1))),
        f"it has 2147483647 text tokens, expected 1 to {TOKENS.n_vocab} (its n_vocab)",
    ),
    "a long token": (
        lambda data: changed(data, (TOKENS_AT + 4, number(2**30))),
        "text token 0 has 1073741824 bytes, expected 0 to 256",
    ),
    "no tensors": (lambda data: data[: data.index(b"encoder.conv1.weight") - 24], "it holds no tensors"),
    "cut off": (lambda data: data[:-1], "it is cut off: tensor '"),
    "bytes behind": (lambda data: data + bytes(20), "behind its last tensor are 20 bytes that are no tensor (rank 0"),
    "a few bytes behind": (lambda data: data + b"x", "it is cut off: the head of a tensor needs 12 bytes"),
    "a tensor twice": (
        lambda data: data + ggml.tensor("decoder.ln.bias", np.zeros(64), "f32"),
        "it holds tensor 'decoder.ln.bias' twice",
    ),
    "a type that is not read": (
        lambda data: data + ggml.raw_tensor("a", (1, 256), 10, bytes(84)),
        "tensor 'a' is of type q2_k, expected one of f32, f16, q4_0, q4_1, q5_0, q5_1, q8_0: quantize",
    ),
    "an unknown type": (
        lambda data: data + ggml.raw_tensor("a", (1,), 999, b""),
        "tensor 'a' is of type 999, expected",
    ),
    "a row of no blocks": (
        lambda data: data + ggml.raw_tensor("a", (32, 33), 8, bytes(34 * 33)),
        "tensor 'a' is of type q8_0, whose blocks have 32 elements, but its rows have 33",
    ),
    "a negative dimension": (
        lambda data: data + ggml.raw_tensor("a", (-1, -32), 0, b""),
        "tensor 'a' has the dimensions [-32, -1], expected 1 to 1048576",
    ),
    "a huge tensor": (
        lambda data: data + ggml.raw_tensor("a", (2**20,) * 4, 0, b""),
        f"it is cut off: tensor 'a' needs {4 * 2**80} bytes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(folder: Path, tmp_path: Path, case: str) -> None:
    change, message = REFUSED[case]
    file = tmp_path / "model.bin"
    file.write_bytes(change((folder / "q5_0.bin").read_bytes()))
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(file)
    assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value)


def test_vocabularies_that_are_refused(folder: Path, tmp_path: Path) -> None:
    good = open_checkpoint(folder / "f16.bin").vocabulary(TOKENS.n_vocab).ranks
    data = (folder / "f16.bin").read_bytes()
    cases = {
        "text tokens 0 to 255 must be the 256 bytes": [b"zz", *good[1:]],
        "or from before October 2022": [token.decode(errors="replace").encode() for token in good],
        "text token 296, '', is not made of two tokens before it, or is there twice": [*good, b""],
        "text token 296, 'zqx', is not made of two": [*good[:296], b"zqx"],
        "text token 256, 'a', is not made of two tokens before it, or is there twice": [*good[:256], b"a"],
    }
    for message, ranks in cases.items():
        file = tmp_path / "model.bin"
        file.write_bytes(data.replace(ggml.tokens(good), ggml.tokens(ranks)))
        with pytest.raises(WeightsError) as caught:
            open_checkpoint(file).vocabulary(TOKENS.n_vocab)
        assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value)


def test_a_model_of_more_tokens_than_the_vocabulary(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"f16.bin: 297 text tokens do not fit a model of 2000 tokens: beside them,"):
        open_checkpoint(folder / "f16.bin").vocabulary(2000)


def test_scales_that_are_nan(folder: Path, tmp_path: Path) -> None:
    data = (folder / "q8_0.bin").read_bytes()
    name = b"decoder.blocks.0.mlp.0.weight"
    file = tmp_path / "model.bin"
    file.write_bytes(changed(data, (data.index(name) + len(name), b"\xff\xff")))
    with pytest.raises(WeightsError, match=r"mlp.0.weight' in .*model.bin: 32 of 16384 elements are NaN or infinite"):
        open_checkpoint(file).read("model.decoder.layers.0.fc1.weight", "float32")


def test_a_spec_of_another_model(folder: Path, tmp_path: Path) -> None:
    """The message names the shipped spec that fits, if there is one."""
    with pytest.raises(WeightsError) as caught:
        check_architecture(open_checkpoint(folder / "q8_0.bin"), load_spec("tiny"))
    assert "q8_0.bin does not fit the spec whisper-tiny: d_model is 64, in the spec 384;" in str(caught.value)
    assert str(caught.value).endswith(": take the spec of this model, or correct the one that is wrong")
    file = tmp_path / "small.bin"
    dims = [51865, 1500, 768, 12, 12, 448, 768, 12, 12, 80]
    data = ggml.head(dims, 1) + ggml.filters(80) + ggml.tokens([b"a"]) + ggml.tensor("a.bias", np.zeros(1), "f32")
    file.write_bytes(data)
    with pytest.raises(WeightsError, match=r": build with --spec small.yaml, which fits$"):
        check_architecture(open_checkpoint(file), load_spec("tiny"))


def test_an_artifact_of_an_unquantized_file_has_the_weights_of_the_checkpoint(
    folder: Path, spec: Path, artifact: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    built = max_whisper.build(
        spec,
        weights=folder / "f32.bin",
        out=tmp_path / "built",
        dtype="float32",
        progress=lambda line: lines.append(str(line)),
    )
    assert (built / "weights.safetensors").read_bytes() == (artifact / "weights.safetensors").read_bytes()
    assert sum("openai/whisper's" in line for line in lines) == 1


MEL = np.random.default_rng(0).standard_normal((80, 200)).astype(np.float32)
IDS = [TOKENS.special["<|startoftranscript|>"], TOKENS.languages["<|en|>"], *range(280, 297)]


def our_logits(model: max_whisper.Model) -> np.ndarray:
    return np.asarray(model.logits(model.encode(MEL[None]), [IDS]))[0]


def their_logits(file: Path) -> np.ndarray:
    """Returns what whisper.cpp computes with a file."""
    engine = ggml.Engine(file)
    try:
        return engine.logits(MEL, IDS)
    finally:
        engine.close()


def distance(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.sqrt(np.mean((left - right) ** 2)))


def test_whisper_cpp_chooses_the_same_tokens(folder: Path, model: max_whisper.Model) -> None:
    """It computes with keys and values in float16. It loads files with f32, too, but fails to run them."""
    ours, theirs = our_logits(model), their_logits(folder / "f16.bin")
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.02)


@pytest.mark.parametrize(("kind", "closer"), [("q8_0", 0), ("q5_1", 3), ("q4_0", 8)])
def test_whisper_cpp_computes_the_same_with_blocks(
    folder: Path, spec: Path, model: max_whisper.Model, tmp_path: Path, kind: str, closer: float
) -> None:
    """It rounds activations to 8 bits where it multiplies them with blocks: that is the distance.

    It is much closer to an artifact of the same file than to one of the weights before they were quantized.
    """
    quantized = max_whisper.load(
        max_whisper.build(spec, weights=folder / f"{kind}.bin", dtype="float32", out=tmp_path / "built")
    )
    theirs = their_logits(folder / f"{kind}.bin")
    assert distance(our_logits(quantized), theirs) < 0.015
    assert distance(our_logits(model), theirs) > closer * distance(our_logits(quantized), theirs)
