"""CTranslate2 models, written by CTranslate2's own classes and read by its engine as well."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctranslate2
import max_whisper
import numpy as np
import pytest
from ctranslate2.specs.model_spec import index_spec
from ctranslate2.specs.transformer_spec import TransformerSpec
from max_whisper.errors import WeightsError
from max_whisper.spec import Spec, load_spec
from max_whisper.weights.architecture import check_architecture
from max_whisper.weights.checkpoint import Checkpoint, open_checkpoint
from max_whisper.weights.formats.ctranslate2_file import read_model, spec_name
from max_whisper.weights.source import open_source
from support.models.checkpoint import EMBEDDING, encode_array, write_checkpoint
from support.models.ctranslate2_model import Weights, read_weights, write_ctranslate2
from support.models.small import SMALL, TOKENS

QUANTIZATIONS = [None, "float32", "float16", "bfloat16", "int16", "int8", "int8_float16", "int8_float32"]
KEY_BIAS = "model.encoder.layers.1.self_attn.k_proj.bias"


@pytest.fixture(scope="module")
def small(spec: Path) -> Spec:
    return load_spec(spec)


@pytest.fixture(scope="module")
def converted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns `checkpoint` as a CTranslate2 model in int8; tests must not change it."""
    return write_ctranslate2(tmp_path_factory.mktemp("converted") / "int8", checkpoint, "int8")


@pytest.fixture
def copied(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "copied"))


@pytest.fixture
def mel() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, SMALL["n_mels"], 2 * SMALL["n_audio_ctx"])).astype(np.float32)


def expected_of(spec: Spec) -> list[tuple[str, tuple[int, ...]]]:
    return [(tensor.name, tensor.shape) for tensor in spec.tensors() if tensor.computed is None]


def read_all(checkpoint: Checkpoint, spec: Spec) -> Weights:
    """Checks a checkpoint as a build does, and returns its tensors."""
    check_architecture(checkpoint, spec)
    checkpoint.check(expected_of(spec))
    return {name: np.array(checkpoint.read(name, "float32")) for name, _ in expected_of(spec)}


def engine(folder: Path) -> ctranslate2.models.Whisper:
    """Returns CTranslate2's model, which dequantizes the weights when they are loaded."""
    return ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32", intra_threads=1)


def answer(folder: Path, mel: np.ndarray) -> tuple[np.ndarray, Any]:
    """Returns what CTranslate2 makes of some frames: the encoder's output, and tokens with their score."""
    model = engine(folder)
    prompt = [TOKENS.special[f"<|{name}|>"] for name in ("startoftranscript", "en", "transcribe", "notimestamps")]
    (result,) = model.generate(
        ctranslate2.StorageView.from_array(mel), [prompt], beam_size=1, max_length=40, return_scores=True
    )
    output = np.array(model.encode(ctranslate2.StorageView.from_array(mel)))
    return output, (result.sequences_ids[0], result.scores[0])


# --- tensors


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_tensors_are_the_engines(
    quantization: str | None, checkpoint: Path, small: Spec, mel: np.ndarray, tmp_path: Path
) -> None:
    """Our float32 tensors, written as a model of their own, give the engine's results bit for bit."""
    folder = write_ctranslate2(tmp_path / "theirs", checkpoint, quantization)
    weights = read_all(open_checkpoint(folder), small)
    theirs, ours = answer(folder, mel), answer(write_ctranslate2(tmp_path / "ours", checkpoint, weights=weights), mel)
    np.testing.assert_array_equal(theirs[0], ours[0])
    assert theirs[1] == ours[1] and len(theirs[1][0]) > 10
    exact = read_weights(checkpoint)
    for name, array in weights.items():
        error = np.abs(array - exact[name]).max() / np.abs(exact[name]).max()
        assert error == 0 if quantization in (None, "float32") else error < 0.006, name


@pytest.mark.parametrize("quantization", ["float16", "bfloat16"])
def test_half_precision_is_kept(quantization: str, checkpoint: Path, tmp_path: Path) -> None:
    opened = open_checkpoint(write_ctranslate2(tmp_path / "model", checkpoint, quantization))
    rows = slice(SMALL["d_model"], 2 * SMALL["d_model"])  # those of the keys
    name = "encoder/layer_1/self_attention/linear_0[key]/weight"
    assert opened.source.info(name).dtype.name == quantization
    expected = read_weights(checkpoint)["model.encoder.layers.1.self_attn.k_proj.weight"]
    assert opened.source.read(name).tobytes() == encode_array(expected, quantization)
    whole = read_model(tmp_path / "model" / "model.bin").variables["encoder/layer_1/self_attention/linear_0/weight"]
    assert np.array_equal(whole.array[rows], opened.source.read(name))


def test_tied_and_other_aliases(checkpoint: Path, small: Spec, tmp_path: Path) -> None:
    """CTranslate2 writes equal tensors once; here these are the embedding, and everything of two layers."""
    weights = read_weights(checkpoint)
    for name in weights:
        if ".layers.0." in name:
            weights[name] = weights[name.replace(".layers.0.", ".layers.1.")]
    folder = write_ctranslate2(tmp_path / "model", checkpoint, "int8", weights=weights)
    variables = read_model(folder / "model.bin").variables
    first, second = (variables[f"encoder/layer_{i}/ffn/linear_0/weight"] for i in (0, 1))
    assert first is second and variables["decoder/projection/weight"] is variables["decoder/embeddings/weight"]
    read = read_all(open_checkpoint(folder), small)
    for name, array in read.items():
        if ".layers.0." in name:
            np.testing.assert_array_equal(array, read[name.replace(".layers.0.", ".layers.1.")])


def test_a_bias_of_keys(checkpoint: Path, small: Spec, tmp_path: Path) -> None:
    """CTranslate2 has room for one, which Whisper does not have."""
    weights = read_weights(checkpoint) | {KEY_BIAS: np.eye(1, SMALL["d_model"], 3, dtype=np.float32)[0]}
    opened = open_checkpoint(write_ctranslate2(tmp_path / "model", checkpoint, weights=weights))
    with pytest.raises(WeightsError, match=r"1 unexpected; unexpected: .*layer_1/self_attention/linear_0\[key\]/bias'"):
        opened.check(expected_of(small))


def test_an_output_projection_of_its_own(checkpoint: Path, small: Spec, tmp_path: Path) -> None:
    def untie(spec: Any) -> None:
        spec.decoder.projection.weight[5] += 1

    opened = open_checkpoint(write_ctranslate2(tmp_path / "model", checkpoint, change=untie))
    with pytest.raises(WeightsError, match="is not tied: 'decoder/projection/weight'"):
        opened.check(expected_of(small))


# --- a model is built and run


def test_a_build(artifact: Path, spec: Path, checkpoint: Path, tmp_path: Path) -> None:
    """A float32 model gives the artifact that the checkpoint gives; model.bin alone finds what lies beside it."""
    folder = write_ctranslate2(tmp_path / "model", checkpoint)
    lines: list[str] = []
    built = max_whisper.build(
        spec,
        weights=folder / "model.bin",
        out=tmp_path / "built",
        dtype="float32",
        progress=lambda progress: lines.append(progress.message),
    )
    for name in ("weights.safetensors", "vocab.tiktoken"):
        assert (built / name).read_bytes() == (artifact / name).read_bytes()
    ours, same = (json.loads((one / "manifest.json").read_text()) for one in (built, artifact))
    assert ours["tokens"] == same["tokens"] and ours["plan"] == same["plan"]
    assert any(f"tensors of file {folder}/model.bin" in line for line in lines)


def test_an_int8_model_says_what_the_engine_says(spec: Path, converted: Path, mel: np.ndarray, tmp_path: Path) -> None:
    model = max_whisper.load(max_whisper.build(spec, weights=converted, dtype="float32", out=tmp_path / "built"))
    features, (tokens, _) = answer(converted, mel)
    np.testing.assert_allclose(np.asarray(model.encode(mel)), features, atol=2e-4)
    ours = model.decode(model.encode(mel), language="en", without_timestamps=True, max_new_tokens=len(tokens))
    assert ours[0].tokens == tokens and len(tokens) > 10


# --- what is no tensor


@pytest.mark.parametrize("family", ["multilingual", "english", "v3"])
def test_the_vocabulary(family: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family=family)
    same, opened = open_checkpoint(checkpoint), open_checkpoint(write_ctranslate2(tmp_path / "model", checkpoint))
    n_vocab = len(same.read(EMBEDDING, "float32"))
    assert opened.vocabulary(n_vocab) == same.vocabulary(n_vocab)
    names = json.loads((tmp_path / "model" / "vocabulary.json").read_text())
    (tmp_path / "model" / "vocabulary.json").unlink()
    (tmp_path / "model" / "vocabulary.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    assert opened.vocabulary(n_vocab) == same.vocabulary(n_vocab)


def test_the_vocabulary_of_a_padded_model(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family="english", n_vocab=SMALL["n_vocab"])
    opened = open_checkpoint(write_ctranslate2(tmp_path / "model", checkpoint))
    assert '"<|30.02|>"' in (tmp_path / "model" / "vocabulary.json").read_text()
    assert opened.vocabulary(SMALL["n_vocab"]) == open_checkpoint(checkpoint).vocabulary(SMALL["n_vocab"])
    with pytest.raises(WeightsError, match=r"vocabulary.json: the vocabulary has \d+ tokens, but the model has 9: "):
        opened.vocabulary(9)
    (tmp_path / "model" / "config.json").unlink()
    tokens = opened.vocabulary(SMALL["n_vocab"]).tokens
    assert {tokens.sot, tokens.transcribe, tokens.nospeech} <= {*tokens.suppress}


def test_the_alignment_heads(checkpoint: Path, small: Spec, copied: Path) -> None:
    opened = open_checkpoint(copied)
    assert opened.alignment_heads(small) == open_checkpoint(checkpoint).alignment_heads(small)
    change_json(copied / "config.json", alignment_heads=[[1, 1], [0, 1], [31, 4]])
    assert opened.alignment_heads(small).heads == [(0, 1), (1, 1)]
    change_json(copied / "config.json", alignment_heads=None)
    assert "last half of the layers" in opened.alignment_heads(small).origin
    tiny = opened.alignment_heads(load_spec("tiny"))
    assert tiny.heads == [(2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)] and "heads of OpenAI's tiny" in tiny.origin


def test_a_model_without_lists(copied: Path, small: Spec) -> None:
    opened = open_checkpoint(copied)
    before = opened.vocabulary(small.n_vocab).tokens
    (copied / "config.json").unlink()
    vocabulary = opened.vocabulary(small.n_vocab)
    assert vocabulary.origin == "the suppressed tokens are openai/whisper's, as the CTranslate2 model lists none"
    assert {before.sot, before.transcribe, before.nospeech} <= {*vocabulary.tokens.suppress}
    assert vocabulary.tokens.begin_suppress == [220, before.eot]
    change = {"suppress": before.suppress, "begin_suppress": before.begin_suppress}
    assert json.loads(json.dumps(dictionary(vocabulary.tokens) | change)) == dictionary(before)
    (copied / "config.json").write_text('{"suppress_ids": null, "suppress_ids_begin": []}')
    nothing = opened.vocabulary(small.n_vocab)
    assert nothing.tokens.suppress == nothing.tokens.begin_suppress == [] and not nothing.origin


def dictionary(tokens: Any) -> dict[str, Any]:
    return {name: getattr(tokens, name) for name in tokens.__struct_fields__}


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"suppress_ids": [99999]}, "config.json: suppress_ids: expected token ids below 1"),
        ({"suppress_ids": [TOKENS.special["<|endoftext|>"]]}, "suppress_ids: expected a list without <|endoftext|>"),
        ({"suppress_ids": "all"}, "config.json: suppress_ids: expected a list or null, got text"),
        ({"suppress_ids_begin": [-1]}, "config.json: suppress_ids_begin"),
        ({"alignment_heads": [[1]]}, "config.json: alignment_heads"),
    ],
)
def test_configurations_that_are_wrong(change: dict[str, Any], words: str, copied: Path, small: Spec) -> None:
    change_json(copied / "config.json", **change)
    with pytest.raises(WeightsError, match=words):
        open_checkpoint(copied).vocabulary(small.n_vocab)
        open_checkpoint(copied).alignment_heads(small)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda names: [*names[:-1], names[0]], "vocabulary.json has the token '!' twice"),
        (lambda names: [*names[1:], "<|x|>"], "tokens 0 to 255 must be the 256 bytes"),
        (lambda names: [*names[:257], "€", *names[258:]], "'€' is not a character of a byte-level vocabulary"),
        (
            lambda names: ["nothing" if name == "<|nocaptions|>" else name for name in names],
            "ids of text tokens must be 0 to",
        ),
        (lambda names: names[:-1], r"but the model has \d+"),
        (lambda names: {"tokens": names}, "it must hold a JSON list: expected a list, got an object"),
        (lambda names: [None, *names], "expected text, got null"),
    ],
)
def test_vocabularies_that_are_wrong(change: Callable[[Any], Any], words: str, copied: Path, small: Spec) -> None:
    path = copied / "vocabulary.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(WeightsError, match=words):
        open_checkpoint(copied).vocabulary(small.n_vocab)


def test_a_file_without_a_vocabulary(copied: Path, checkpoint: Path, small: Spec) -> None:
    (copied / "vocabulary.json").unlink()
    with pytest.raises(WeightsError, match=r"model.bin has no vocabulary beside it \(vocabulary.json or .*txt\)"):
        open_checkpoint(copied / "model.bin").vocabulary(small.n_vocab)
    opened, same = open_checkpoint(copied / "model.bin", folder=checkpoint), open_checkpoint(checkpoint)
    assert opened.vocabulary(small.n_vocab) == same.vocabulary(small.n_vocab)
    assert opened.alignment_heads(small) == same.alignment_heads(small)


def test_heads_and_activation_are_compared_with_the_spec(checkpoint: Path, small: Spec, tmp_path: Path) -> None:
    def more_heads(spec: Any) -> None:
        spec.encoder.num_heads, spec.decoder.num_heads = np.int16(4), np.int16(8)

    def relu(spec: Any) -> None:
        spec.decoder.activation = np.int8(0)

    opened = open_checkpoint(write_ctranslate2(tmp_path / "heads", checkpoint, change=more_heads))
    with pytest.raises(WeightsError, match=r"encoder_attention_heads is 4, .* 2; decoder_attention_heads is 8, in the"):
        check_architecture(opened, small)
    opened = open_checkpoint(write_ctranslate2(tmp_path / "relu", checkpoint, change=relu))
    with pytest.raises(WeightsError, match="activation_function is 'relu', in the spec 'gelu'"):
        check_architecture(opened, small)
    with pytest.raises(WeightsError, match=r"feature_size is 128, in the spec 80"):
        (tmp_path / "relu" / "preprocessor_config.json").write_text('{"feature_size": 128}')
        check_architecture(open_checkpoint(without_activation(tmp_path / "relu")), small)


def without_activation(folder: Path) -> Path:
    """Takes gelu for the activation of a model, byte by byte."""
    path = folder / "model.bin"
    data, name = bytearray(path.read_bytes()), b"decoder/activation\0"
    at = data.index(name) + len(name) + 1 + 1 + 4
    assert data[at] == 0
    data[at] = 3
    path.write_bytes(data)
    return folder


# --- files that are something else


def test_formats_are_told_apart_by_content(converted: Path, checkpoint: Path, copied: Path) -> None:
    def kind(path: Path) -> str:
        return type(open_source(path)).__name__

    assert kind(converted) == kind(converted / "model.bin") == "CTranslate2"
    (copied / "model.bin").rename(copied / "weights")
    assert kind(copied / "weights") == "CTranslate2"
    shutil.copy(checkpoint / "model.safetensors", copied)
    (copied / "weights").rename(copied / "model.bin")
    assert kind(copied) == kind(checkpoint) == "Safetensors"
    assert spec_name(checkpoint / "model.safetensors") is spec_name(checkpoint) is spec_name(copied / "no") is None
    assert spec_name(checkpoint / "vocab.json") is None


def test_a_translation_model(tmp_path: Path) -> None:
    spec = TransformerSpec.from_config(1, 2)
    for name, value in spec.variables().items():
        if value is None:
            scope, _, field = name.rpartition("/")
            setattr(index_spec(spec, scope), field, np.zeros((4, 4), np.float32))
    spec.register_source_vocabulary([str(i) for i in range(4)])
    spec.register_target_vocabulary([str(i) for i in range(4)])
    spec.validate()
    spec.save(str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"model.bin is a CTranslate2 model of the kind 'TransformerSpec': expected a Whisper model"
    ):
        open_checkpoint(tmp_path)


def replaced(before: bytes, after: bytes) -> Callable[[bytes], bytes]:
    assert len(before) == len(after)
    return lambda data: data.replace(before, after)


EDITS: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda data: data[:-1], "not a complete CTranslate2 model: the variable of an alias ends at byte"),
    (lambda data: data[: len(data) // 2], r"variable '.*' ends at byte \d+, the file at \d+; get it again"),
    (lambda data: data[:20], "complete CTranslate2 model: the number of variables ends at byte 26, the file at 20"),
    (lambda data: data + b"x", r"it ends at byte \d+, but the file has"),
    (lambda data: b"\7" + data[1:], "has the binary version 7 of CTranslate2, expected 6: convert the model again"),
    (lambda data: b"\5" + data[1:], "has the binary version 5 of CTranslate2, expected 6"),
    (lambda data: data[:18] + b"\4" + data[19:], "has revision 4 of WhisperSpec, expected 3"),
    (lambda data: data[:18] + b"\2" + data[19:], "has revision 2 of WhisperSpec, .* convert the model again"),
    (lambda data: data[:22] + b"\xff\xff\xff\xff" + data[26:], "it has 4294967295 variables, expected at most"),
    (lambda data: data[:22] + bytes(4) + b"\xff\xff\xff\xff", "it has 4294967295 aliases, expected at most"),
    (replaced(b"conv1/bias\0\1@", b"conv1/bias\0\1A"), r"is float32 \[65\], which is not 256 bytes"),
    (replaced(b"conv1/bias\0\1@", b"conv1/bias\0\xff@"), "has 255 dimensions, expected at most 8"),
    (replaced(b"conv1/bias\0\1@\0\0\0\0", b"conv1/bias\0\1@\0\0\0\6"), "has the data type 6, expected one of 0 to 5"),
    (replaced(b"conv1/bias", b"conv2/bias"), "it has the variable 'encoder/conv2/bias' twice"),
    (replaced(b"conv1/weight_scale", b"conv1/wright_scale"), r"is int8 with no scales, expected float32 \[64\]"),
    (replaced(b"decoder/alibi\0\0\1\1\0\0\0\0", b"decoder/alibi\0\0\1\1\0\0\0\1"), "'decoder/alibi' is 1"),
    (lambda data: data[:-2] + b"x\0", "alias 'decoder/.*' stands for 'decoder/.*x', which is missing"),
    (lambda data: b"version https://git-lfs.github.com/spec/v1\noid", "it is a Git LFS pointer; run `git lfs pull`"),
]


@pytest.mark.parametrize(("edit", "words"), EDITS)
def test_files_that_are_damaged(edit: Callable[[bytes], bytes], words: str, copied: Path) -> None:
    path = copied / "model.bin"
    before = path.read_bytes()
    path.write_bytes(edit(before))
    assert path.read_bytes() != before
    with pytest.raises(WeightsError, match=words):
        open_checkpoint(copied)


def test_another_size(copied: Path) -> None:
    with pytest.raises(WeightsError, match=r"d_model is 64, in the spec 384; encoder_layers is 2, in the spec 4; "):
        check_architecture(open_checkpoint(copied), load_spec("tiny"))
    with pytest.raises(WeightsError, match=r"does not fit the spec: tensors \d+ missing"):
        open_checkpoint(copied).check(expected_of(load_spec("tiny")))


def test_a_scale_of_zero(copied: Path, small: Spec) -> None:
    opened = open_checkpoint(copied)
    name = b"encoder/conv1/weight_scale\0"
    data = bytearray((copied / "model.bin").read_bytes())
    at = data.index(name) + len(name) + 1 + 4 + 1 + 4
    data[at : at + 4] = bytes(4)
    (copied / "model.bin").write_bytes(data)
    opened = open_checkpoint(copied)
    opened.check(expected_of(small))
    with pytest.raises(
        WeightsError, match=r"tensor 'encoder/conv1/weight' in .*model.bin: \d+ of \d+ elements are NaN"
    ):
        opened.read("model.encoder.conv1.weight", "float32")
