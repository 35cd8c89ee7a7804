"""Fuzzes the JSON files of checkpoints: wrong values in every field that is read, several at once, damaged bytes.

Right is a WeightsError that names a file, or vocabulary and heads that the manifest of an artifact accepts.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from max_whisper.artifact.families.whisper import check_tokens
from max_whisper.artifact.manifest import MANIFEST_VERSION, NO_HASH, Source, WhisperManifest
from max_whisper.errors import WeightsError
from max_whisper.plan import BuildPlan, SpecIdentity, Target
from max_whisper.spec import Spec, load_spec
from max_whisper.weights.architecture import check_architecture
from max_whisper.weights.checkpoint import open_checkpoint
from max_whisper.weights.json_files import Configuration, FeatureExtractor, GenerationConfiguration
from support.harness import Budget, refusal
from support.json_values import put
from support.models.checkpoint import write_checkpoint
from support.models.small import dims_of
from support.models.vocabulary import make_tokens

DIMS = {"d_model": 8, "n_heads": 1, "encoder_layers": 1, "decoder_layers": 1, "n_audio_ctx": 50, "n_text_ctx": 8}
HOLE = "@@"  # where a value is put as raw JSON text, which no JSON writer would write
VALUES = {
    "null": "null",
    "true": "true",
    "minus-one": "-1",
    "zero": "0",
    "one": "1",
    "half": "0.5",
    "integral-float": "297.0",
    "1e308": "1e308",
    "1e400": "1e400",
    "NaN": "NaN",
    "infinity": "-Infinity",
    "billion": "1000000000",
    "2**53+1": str(2**53 + 1),
    "2**64": str(2**64),
    "4300-digits": "9" * 4300,
    "4400-digits": "9" * 4400,
    "empty-text": '""',
    "text": '"gelu"',
    "long-text": '"' + "x" * 100_000 + '"',
    "surrogate": '"\\ud800"',
    "control": '"\\u001b[2J\\u0000\\n"',
    "raw-control": '"\x1b[2J"',
    "list": "[]",
    "object": "{}",
    "list-of-null": "[null]",
    "list-of-one": "[1]",
    "list-of-minus-one": "[-1]",
    "list-of-lists": "[[0, 0]]",
    "odd-pairs": "[[0, 0, 0], [1]]",
    "far-pairs": f"[[{2**40}, 0]]",
    "list-of-text": '["a", "b c"]',
    "object-of-null": '{"<|en|>": null}',
    "object-of-billion": '{"<|en|>": 1000000000}',
    "twice": '{"a": 1, "a": 2}',
    "deep-list": "[" * 100_000,
    "deep-object": '{"a":' * 100_000,
    "fits-deep": "[" * 500 + "]" * 500,
    "nothing": "",
}
WHOLE = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "text": b'"x"',
    "number": b"3",
    "twice": b"{} {}",
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "no-text": b"\xff\xfe\x00\x80" * 100,
    "bad-key": b'{"\xff": 1}',
    "nul": b'{"a": 1}\0',
    "deep": b"[" * 200_000,
    "zeros": bytes(1000),
}
UNREAD = ("special_tokens_map.json", "tokenizer_config.json")
Case = tuple[str, tuple[str | int, ...], str]  # file, path to the field, name of the value


def fields() -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Yields every field that is read: those of the declared classes, and paths in files whose keys are tokens."""
    for name in Configuration.__struct_fields__:
        yield "config.json", (name,)
    for name in GenerationConfiguration.__struct_fields__:
        yield "generation_config.json", (name,)
    yield "generation_config.json", ("max_whisper", "logprob_threshold")
    yield "generation_config.json", ("lang_to_id", "<|en|>")
    yield "generation_config.json", ("suppress_tokens", 3)
    yield "generation_config.json", ("alignment_heads", 0)
    for name in FeatureExtractor.__struct_fields__:
        yield "preprocessor_config.json", (name,)
        yield "processor_config.json", ("feature_extractor", name)
    yield "processor_config.json", ("feature_extractor",)
    for token in ("!", "Ġt", "<|endoftext|>", "new", "\x1b[2J"):
        yield "vocab.json", (token,)
    for token in ("<|translate|>", "<|notimestamps|>", "<|0.00|>", "<|new|>", "<|endoftext|>"):
        yield "added_tokens.json", (token,)
    for path in (("model",), ("added_tokens",), ("model", "type"), ("model", "vocab"), ("model", "merges")):
        yield "tokenizer.json", path
    yield "tokenizer.json", ("model", "vocab", "!")
    yield "tokenizer.json", ("model", "merges", 0)
    for key in ("id", "content"):
        yield "tokenizer.json", ("added_tokens", 0, key)
    yield "tokenizer.json", ("added_tokens", 0)
    yield "model.safetensors.index.json", ("weight_map",)
    yield "model.safetensors.index.json", ("weight_map", "model.encoder.conv1.bias")
    yield "model.safetensors.index.json", ("weight_map", "\x1b[2Jnew")


CASES: list[Case] = [(file, path, value) for (file, path), value in itertools.product(fields(), VALUES)]
random.Random(0).shuffle(CASES)  # where time is short, some of every file are tried


class Folder:
    """A checkpoint whose files are changed and put back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write_checkpoint(path, shards=2, **DIMS)
        dims = dims_of(**DIMS)
        self.n_vocab = dims["n_vocab"]
        (path / "processor_config.json").write_text(json.dumps({"feature_extractor": {"sampling_rate": 16000}}))
        names = ["merges.txt", *sorted(file.name for file in path.glob("*.json"))]
        self.files = {name: (path / name).read_bytes() for name in names}
        self.spec = self._spec(path.parent, dims)

    def _spec(self, folder: Path, dims: dict[str, int]) -> Spec:
        file = folder / "small.yaml"
        file.write_text(json.dumps({"extends": "tiny", "name": "small", "dims": dims}))
        return load_spec(file)

    def use_tokenizer_file(self) -> None:
        for name in ("vocab.json", "merges.txt", "added_tokens.json"):
            (self.path / name).unlink(missing_ok=True)

    def restore(self) -> None:
        for name, data in self.files.items():
            if not (self.path / name).exists() or (self.path / name).read_bytes() != data:
                (self.path / name).write_bytes(data)

    def put(self, *cases: Case) -> None:
        """Writes the files with other values in some fields."""
        for name in {name for name, _, _ in cases}:
            text = json.loads(self.files[name])
            holes = [(path, value) for file, path, value in cases if file == name]
            for number, (path, _) in enumerate(holes):
                text = put(text, path, f"{HOLE}{number}{HOLE}")
            raw = json.dumps(text)
            for number, (_, value) in enumerate(holes):
                raw = raw.replace(f'"{HOLE}{number}{HOLE}"', VALUES[value])
            (self.path / name).write_bytes(raw.encode("utf-8", "surrogatepass"))
        if any(name == "tokenizer.json" for name, _, _ in cases):
            self.use_tokenizer_file()

    def read(self) -> None:
        """Does all that a build does before it compiles, and makes the manifest."""
        checkpoint = open_checkpoint(self.path)
        check_architecture(checkpoint, self.spec)
        checkpoint.check([(tensor.name, tensor.shape) for tensor in self.spec.tensors()])
        vocabulary = checkpoint.vocabulary(self.n_vocab)
        heads = checkpoint.alignment_heads(self.spec).heads
        manifest = WhisperManifest(
            manifest_version=MANIFEST_VERSION,
            hash=NO_HASH,
            builder="0",
            max="0",
            plan=BuildPlan(
                spec=SpecIdentity(self.spec.name, self.spec.hash),
                target=Target("cpu", "x86_64", []),
                dtype="float32",
                kernels="ours",
                batch=1,
                alignment_heads=heads,
                tensors=[],
            ),
            source=Source(None, None),
            dims={**self.spec.dims, "n_frames": self.spec.n_frames},
            tokens=vocabulary.tokens,
            graphs={},
            files={},
        )
        # What loading demands of these parts of a manifest; the others are not there without a build.
        loaded = msgspec.json.decode(manifest.sealed(), type=WhisperManifest)
        assert msgspec.structs.replace(loaded, hash=NO_HASH) == manifest
        check_tokens(vocabulary.tokens, self.n_vocab)
        assert len(vocabulary.ranks) == vocabulary.tokens.eot
        highest = max(max(ids, default=0) for ids in (vocabulary.tokens.suppress, vocabulary.tokens.begin_suppress))
        assert highest < self.n_vocab


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "checkpoint")


def test_the_fields_that_are_tried_are_there(folder: Folder) -> None:
    folder.read()
    assert make_tokens("multilingual").n_vocab == folder.n_vocab
    assert len(CASES) > 2000
    declared = {field.name for field in msgspec.structs.fields(GenerationConfiguration)}
    assert declared <= {path[0] for file, path, _ in CASES if file == "generation_config.json"}


def judge(folder: Folder, case: object, *names: str) -> bool:
    """Returns whether the checkpoint is refused; fails unless the refusal is a sentence that names a file."""
    try:
        sentence = refusal(folder.read, kind=WeightsError)
    except BaseException as e:
        raise AssertionError(f"{case}: {type(e).__name__}: {e}"[:1000]) from e
    assert sentence is None or any(name in sentence for name in names), f"{case}: {sentence} names no file"
    return sentence is not None


def test_every_field_with_every_value(folder: Folder, budget: Budget) -> None:
    refused = 0
    for number, rng in budget.cases(len(CASES), 14):
        picked = [CASES[number]] if number < len(CASES) else rng.sample(CASES, rng.randint(1, 4))
        folder.put(*picked)
        refused += judge(folder, picked, *folder.files)
        folder.restore()
    assert refused > number / 2


def test_whole_files(folder: Folder, budget: Budget) -> None:
    names = [name for name in folder.files if name not in UNREAD]
    cases = list(itertools.product(names, WHOLE))
    for number, _ in budget.cases(len(cases), 3):
        name, kind = cases[number % len(cases)]
        if name == "tokenizer.json":
            folder.use_tokenizer_file()
        (folder.path / name).write_bytes(WHOLE[kind])
        assert judge(folder, (name, kind), *folder.files), f"{name} may be {kind}"
        folder.restore()


def test_damaged_bytes(folder: Folder, budget: Budget) -> None:
    names = [name for name in folder.files if name not in UNREAD]
    for _, rng in budget.cases(1500, 3):
        name = rng.choice(names)
        if name == "tokenizer.json":
            folder.use_tokenizer_file()
        (folder.path / name).write_bytes(damaged(folder.files[name], rng))
        judge(folder, name, *folder.files)
        folder.restore()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Returns data of which some bytes are changed, left out or doubled, or the rest is cut off."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(result))
        action = rng.randrange(5)
        if action == 0:
            result[at] = rng.randrange(256)
        elif action == 1:
            result[at] = rng.choice(b'{}[]",:0-9e.\\ntf')
        elif action == 2:
            del result[at : at + rng.randint(1, 50)]
        elif action == 3:
            result[at:at] = result[at : at + rng.randint(1, 50)]
        else:
            del result[at:]
        if not result:
            return b""
    return bytes(result)


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "merges.txt", "model.safetensors.index.json"])
def test_a_file_of_300_megabytes_is_not_read(folder: Folder, name: str) -> None:
    with (folder.path / name).open("r+b") as file:
        file.truncate(300_000_000)  # sparse
    sentence = refusal(folder.read, kind=WeightsError)
    assert sentence is not None and f"{name} cannot be read: it has 300000000 bytes, expected at most" in sentence


def test_a_byte_order_mark_is_no_mistake(folder: Folder) -> None:
    for name, data in folder.files.items():
        (folder.path / name).write_bytes(b"\xef\xbb\xbf" + data)
    folder.read()
