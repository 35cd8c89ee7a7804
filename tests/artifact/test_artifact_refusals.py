"""Loading refuses broken artifacts with a sentence, before MAX, which would crash, sees a file."""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import max_whisper
import msgspec
import numpy as np
import pytest
from blake3 import blake3
from max import driver, engine
from max_whisper.artifact.load import check_artifact
from max_whisper.artifact.manifest import MANIFEST_FILE, MANIFEST_VERSION
from max_whisper.artifact.read import MAX_BYTES, read_manifest
from max_whisper.compile.stored_spec import read_spec
from max_whisper.errors import ArtifactError, UserError
from max_whisper.plan import Target
from max_whisper.tensors import safetensors_file
from support.artifacts import FILES, copy, flip, plan_for_gpu, refusal, replace, replan, reseal, write_fields

AGAIN = "build the artifact again"


def rebuild(folder: Path) -> str:
    """Returns the command that builds the small model's artifact again; its weights are in a local folder."""
    return f"max-whisper build --spec {folder}/spec.json --weights WEIGHTS --dtype float32 --out {folder} --force"


@pytest.fixture
def folder(artifact: Path, tmp_path: Path) -> Path:
    """Returns a copy of the small model's artifact, to be broken."""
    return copy(artifact, tmp_path / "broken")


def test_an_unchanged_copy_loads(folder: Path) -> None:
    reseal(folder)
    assert max_whisper.load(folder).manifest == read_manifest(folder)


# --- files


@pytest.mark.parametrize("name", FILES[1:])
def test_missing_file(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (folder / name).stat().st_size
    (folder / name).unlink()
    message = refusal(folder, monkeypatch, ArtifactError)
    assert name in message and f"expected a file of {size} bytes, there is none" in message and AGAIN in message


def test_missing_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / MANIFEST_FILE).unlink()
    message = refusal(folder, monkeypatch, UserError)
    assert f"is no artifact (it has no {MANIFEST_FILE})" in message and "max-whisper build" in message


def test_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no folder" in refusal(tmp_path / "nowhere", monkeypatch, UserError)


def test_a_file_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    assert "is no artifact" in refusal(tmp_path / "model.bin", monkeypatch, UserError)


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0], ids=["empty", "half", "all but the last byte"])
@pytest.mark.parametrize("name", FILES)
def test_truncated_file(folder: Path, name: str, keep: float, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (folder / name).read_bytes()
    kept = content[: min(round(len(content) * keep), len(content) - 1)]
    replace(folder / name, kept)
    message = refusal(folder, monkeypatch, ArtifactError)
    assert name in message and AGAIN in message
    if name != MANIFEST_FILE:
        assert f"expected {len(content)} bytes, found {len(kept)}" in message


def test_longer_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(folder / "spec.json", (folder / "spec.json").read_bytes() + b"\n")
    assert "bytes, found" in refusal(folder, monkeypatch, ArtifactError)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("name", FILES[1:])
def test_one_flipped_bit(folder: Path, name: str, place: float, monkeypatch: pytest.MonkeyPatch) -> None:
    last = (folder / name).stat().st_size - 1
    flip(folder / name, round(last * place), bit=round(7 * place))
    message = refusal(folder, monkeypatch, ArtifactError)
    assert f"{name}: expected content with BLAKE3" in message and "damaged" in message and AGAIN in message


def test_one_flipped_bit_anywhere_in_the_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (folder / MANIFEST_FILE).read_bytes()
    start = list(range(300))  # versions, hash, target
    for position in [*start, *range(300, len(whole), max(1, len(whole) // 300)), len(whole) - 1]:
        flip(folder / MANIFEST_FILE, position, bit=position % 8)
        message = refusal(folder, monkeypatch, ArtifactError)
        assert MANIFEST_FILE in message and AGAIN in message
        replace(folder / MANIFEST_FILE, whole)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_link_in_place_of_a_file(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(elsewhere)
    assert f"{name}: expected a file" in refusal(folder, monkeypatch, ArtifactError)


def test_a_folder_in_place_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "spec.json").unlink()
    (folder / "spec.json").mkdir()
    assert "spec.json: expected a file" in refusal(folder, monkeypatch, ArtifactError)


def test_a_file_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("max_whisper.artifact.load.hash_file", denied)
    assert "Permission denied" in refusal(folder, monkeypatch, ArtifactError)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "sub/file", "..", ".", "", "nul\0", "sub/../spec.json"]
)
def test_a_name_that_leaves_the_folder(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(folder / "spec.json", folder.parent / "outside")
    files = read_manifest(folder).files
    reseal(folder, files={name: files["spec.json"], **files})
    message = refusal(folder, monkeypatch, ArtifactError)
    assert "expected" in message
    if name != "nul\0":
        assert f"expected plain file names, found '{name}', which leaves the folder" in message


# --- what the manifest says


def test_other_max_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reseal(folder, max="26.6.0")
    message = refusal(folder, monkeypatch, ArtifactError)
    here = version("max-whisper")
    assert (
        f"was compiled by MAX 26.6.0 (max-whisper {here}), this is MAX {engine.__version__} (max-whisper {here});"
        in message
    )
    assert message.endswith(f"install max==26.6.0, or {AGAIN}: {rebuild(folder)}")


def test_newer_manifest_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = json.loads((folder / MANIFEST_FILE).read_bytes())
    write_fields(folder, fields | {"manifest_version": MANIFEST_VERSION + 1, "something": "new"})
    message = refusal(folder, monkeypatch, ArtifactError)
    here = version("max-whisper")
    assert f"manifest version {MANIFEST_VERSION + 1} was written by max-whisper {here}, this is max-whisper" in message
    assert message.endswith(f"reads version {MANIFEST_VERSION}; upgrade max-whisper, or {AGAIN}: {rebuild(folder)}")


def test_other_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = platform.machine()
    other = "x86_64" if here == "aarch64" else "aarch64"
    replan(folder, target=Target("cpu", other, []))
    message = refusal(folder, monkeypatch, ArtifactError)
    assert f"built for a {other} CPU, this machine has {here};" in message
    assert message.endswith(f"{AGAIN} here: {rebuild(folder)}")


def test_missing_cpu_feature(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = read_manifest(folder).plan.target
    replan(folder, target=msgspec.structs.replace(target, features=[*target.features, "avx4096"]))
    message = refusal(folder, monkeypatch, ArtifactError)
    assert "built for a CPU with avx4096, which this machine lacks" in message and "cpu:x86-64-v3" in message
    assert message.endswith(f"{AGAIN} here: {rebuild(folder)}")


def test_machine_that_does_not_say_its_features(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replan(folder, target=Target("cpu", platform.machine(), ["avx4096"]))
    monkeypatch.setattr("max_whisper.artifact.target.machine_features", set)
    assert "avx4096" in refusal(folder, monkeypatch, ArtifactError)


def test_gpu_artifact_without_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_for_gpu(folder, Target("cuda", "sm_90a", []))
    monkeypatch.setattr(driver, "accelerator_count", lambda: 0)
    message = refusal(folder, monkeypatch, ArtifactError)
    assert "needs a GPU of architecture sm_90a (cuda), this machine has no GPU" in message
    assert message.endswith(f"{AGAIN} here: {rebuild(folder)}")


@pytest.mark.parametrize(
    ("api", "arch", "found"),
    [("hip", "gfx942", "a GPU of the hip kind"), ("cuda", "sm_80", "a GPU of architecture sm_80")],
)
def test_other_gpu(folder: Path, api: str, arch: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_for_gpu(folder, Target("cuda", "sm_90a", []))
    monkeypatch.setattr(driver, "accelerator_count", lambda: 1)
    monkeypatch.setattr(driver, "accelerator_api", lambda: api)
    monkeypatch.setattr(driver, "accelerator_architecture_name", lambda: arch)
    assert f"this machine has {found}" in refusal(folder, monkeypatch, ArtifactError)


@pytest.mark.parametrize("name", ["encoder", "cross_kv", "decoder"])
def test_graph_that_is_not_listed(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = read_manifest(folder).graphs
    reseal(folder, graphs={key: graph for key, graph in graphs.items() if key != name})
    message = refusal(folder, monkeypatch, ArtifactError)
    assert f"expected {name} to be listed" in message and AGAIN in message


@pytest.mark.parametrize("name", FILES[1:])
def test_file_that_is_not_listed(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = read_manifest(folder).files
    reseal(folder, files={key: file for key, file in files.items() if key != name})
    assert f"expected {name} to be listed" in refusal(folder, monkeypatch, ArtifactError)


def test_graph_in_a_file_outside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "encoder.mef").write_bytes(b"anything")
    graphs = read_manifest(folder).graphs
    reseal(folder, graphs=graphs | {"encoder": msgspec.structs.replace(graphs["encoder"], file="../encoder.mef")})
    assert "expected ../encoder.mef to be listed" in refusal(folder, monkeypatch, ArtifactError)


def test_dimension_that_is_not_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = json.loads((folder / MANIFEST_FILE).read_bytes())
    del fields["dims"]["n_text_ctx"]
    write_fields(folder, fields)
    message = refusal(folder, monkeypatch, ArtifactError)
    assert "n_text_ctx" in message and AGAIN in message


@pytest.mark.parametrize("field", ["eot", "sot", "suppress", "begin_suppress", "languages"])
def test_token_that_the_model_does_not_have(folder: Path, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = json.loads((folder / MANIFEST_FILE).read_bytes())
    beyond = fields["dims"]["n_vocab"]
    lists = {"suppress": [beyond], "begin_suppress": [beyond], "languages": {"en": beyond}}
    fields["tokens"][field] = lists.get(field, beyond)
    write_fields(folder, fields)
    message = refusal(folder, monkeypatch, ArtifactError)
    assert f"token {beyond}" in message and AGAIN in message


# --- tensors, with every hash right


def rewrite(folder: Path, change: dict[str, tuple[str, np.ndarray] | None]) -> None:
    """Writes the weights again, with the tensors in `change` as (dtype, array), or without those that are None."""
    path = folder / "weights.safetensors"
    tensors = {name: ("F32", np.array(array)) for name, array in safetensors_file.open_tensors(path).items()} | change
    path.unlink()
    safetensors_file.write(
        path,
        [
            safetensors_file.Entry(name, tensor[0], tensor[1].shape, lambda array=tensor[1]: array)
            for name, tensor in tensors.items()
            if tensor is not None
        ],
    )
    reseal(folder)


NAME = "model.encoder.conv1.bias"


def test_missing_tensor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(folder, {NAME: None})
    assert f"tensor '{NAME}' is missing" in refusal(folder, monkeypatch, ArtifactError)


def test_tensor_of_another_shape(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(folder, {NAME: ("F32", np.zeros(63, np.float32))})
    assert f"expected '{NAME}' as F32 [64], found F32 [63]" in refusal(folder, monkeypatch, ArtifactError)


def test_tensor_of_another_dtype(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(folder, {NAME: ("BF16", np.zeros(64, np.uint16))})
    assert f"expected '{NAME}' as F32 [64], found BF16 [64]" in refusal(folder, monkeypatch, ArtifactError)


def test_unexpected_tensor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(folder, {"model.encoder.conv3.bias": ("F32", np.zeros(3, np.float32))})
    assert "unexpected tensor 'model.encoder.conv3.bias'" in refusal(folder, monkeypatch, ArtifactError)


def test_weights_that_are_no_safetensors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(folder / "weights.safetensors", b"\xff" * 64)
    reseal(folder)
    assert AGAIN in refusal(folder, monkeypatch, ArtifactError)


# --- no manifest at all


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"\x00\xff\xfe" * 100,
        b"[]",
        b"null",
        b"{}",
        b'{"manifest_version": "1"}',
        b'{"manifest_version": 1.5}',
        b'{"manifest_version": 1e400}',
        b'{"manifest_version": -1}',
        b'{"manifest_version": 1}',
        b'{"manifest_version": 1, "hash": "\xff"}',
        b'{"manifest_version": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b'{"manifest_version": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda content: content[:30].decode("ascii", "replace"),
)
def test_manifest_that_is_none(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(folder / MANIFEST_FILE, content)
    message = refusal(folder, monkeypatch, ArtifactError)
    assert MANIFEST_FILE in message and len(message) < 1000


def test_huge_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / MANIFEST_FILE).unlink()
    with (folder / MANIFEST_FILE).open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert f"expected at most {MAX_BYTES} bytes" in refusal(folder, monkeypatch, ArtifactError)


def part_of(fields: dict[str, Any], part: str) -> dict[str, Any]:
    """Returns the fields of the manifest itself, or of its plan."""
    return fields["plan"] if part == "plan" else fields


@pytest.mark.parametrize("part", ["manifest", "plan"])
@pytest.mark.parametrize("value", [None, -1, "text", [], {"a": {"b": 1}}, [[1]], True], ids=repr)
def test_fields_of_wrong_types(folder: Path, part: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (folder / MANIFEST_FILE).read_bytes()
    for name, right in part_of(json.loads(text), part).items():
        if name == "hash" or type(right) is type(value) is not int:
            continue
        fields = json.loads(text)
        part_of(fields, part)[name] = value
        write_fields(folder, fields)
        message = refusal(folder, monkeypatch, ArtifactError)
        assert MANIFEST_FILE in message and AGAIN in message


@pytest.mark.parametrize("part", ["manifest", "plan"])
def test_fields_that_are_missing_or_unknown(folder: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (folder / MANIFEST_FILE).read_bytes()
    for name in part_of(json.loads(text), part):
        fields = json.loads(text)
        del part_of(fields, part)[name]
        write_fields(folder, fields)
        assert f"`{name}`" in refusal(folder, monkeypatch, ArtifactError)
    fields = json.loads(text)
    part_of(fields, part)["surprise"] = 1
    write_fields(folder, fields)
    assert "`surprise`" in refusal(folder, monkeypatch, ArtifactError)


# --- parts that contradict each other, with every hash right


def edit(folder: Path, change: Any) -> None:
    fields = json.loads((folder / MANIFEST_FILE).read_bytes())
    change(fields)
    write_fields(folder, fields)


CONTROLS = ["eot", "sot", "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]


@pytest.mark.parametrize("field", [*CONTROLS, "timestamp_begin", "n_timestamps"])
@pytest.mark.parametrize("value", [-1, 0, 2**31 - 1, 2**53, 2**63, 10**30, 1.5, "1", None, [1]], ids=repr)
def test_every_special_token(folder: Path, field: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, lambda fields: fields["tokens"].update({field: value}))
    assert AGAIN in refusal(folder, monkeypatch, ArtifactError)


@pytest.mark.parametrize("field", CONTROLS)
def test_special_tokens_in_another_order(folder: Path, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, lambda fields: fields["tokens"].update({field: fields["tokens"]["timestamp_begin"]}))
    message = refusal(folder, monkeypatch, ArtifactError)
    assert "Whisper's order" in message or (field == "notimestamps" and "expected timestamps from" in message)


@pytest.mark.parametrize("heads", [[], [[9, 0]], [[0, 9]], [[1, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 0]]], ids=str)
def test_alignment_heads(folder: Path, heads: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, lambda fields: fields["plan"].update(alignment_heads=heads))
    message = refusal(folder, monkeypatch, ArtifactError)
    assert "alignment" in message and AGAIN in message


@pytest.mark.parametrize("name", ["n_mels", "n_frames", "n_audio_ctx", "d_model", "n_vocab", "n_text_ctx"])
@pytest.mark.parametrize("by", [-1, 1, 1000])
def test_every_dimension(folder: Path, name: str, by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, lambda fields: fields["dims"].update({name: fields["dims"][name] + by}))
    message = refusal(folder, monkeypatch, ArtifactError)
    assert MANIFEST_FILE in message and "expected" in message and AGAIN in message


def test_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, lambda fields: fields["plan"].update(batch=2))
    message = refusal(folder, monkeypatch, ArtifactError)
    assert (
        "graph encoder: input 0: expected 'mel' as float32 [2, 80, 200], found 'mel' as float32 [1, 80, 200]" in message
    )


PACKED, READ_BY_TOKEN = "model.encoder.conv1.weight", "model.decoder.layers.0.fc1.weight"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (NAME, {"name": "model.encoder.conv3.bias"}),
        (NAME, {"shape": [63]}),
        (NAME, {"shape": [64, 1]}),
        (NAME, {"shape": []}),
        (NAME, {"shape": [1] * 8 + [64]}),
        (NAME, {"dtype": "bfloat16"}),
        (NAME, {"dtype": "int8"}),
        (NAME, {"matrix": True}),
        (NAME, {"packed": True}),
        (PACKED, {"shape": [64, 80, 4]}),
        (PACKED, {"shape": [64]}),
        (PACKED, {"dtype": "float16"}),
        (PACKED, {"dtype": "int8"}),
        (PACKED, {"matrix": False}),
        (PACKED, {"packed": False}),
        (READ_BY_TOKEN, {"shape": [64, 256]}),
        (READ_BY_TOKEN, {"dtype": "float16"}),
        (READ_BY_TOKEN, {"dtype": "int8"}),
        (READ_BY_TOKEN, {"packed": True}),
    ],
    ids=str,
)
def test_tensor_of_the_plan(folder: Path, name: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, lambda fields: tensor_of(fields, name).update(change))
    assert AGAIN in refusal(folder, monkeypatch, ArtifactError)


@pytest.mark.parametrize("change", [lambda x: x[1:], lambda x: [*x, x[0]], lambda x: [*x, x[0] | {"name": "more"}]])
def test_tensors_of_the_plan(folder: Path, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, lambda fields: fields["plan"].update(tensors=change(fields["plan"]["tensors"])))
    message = refusal(folder, monkeypatch, ArtifactError)
    assert "tensor" in message and AGAIN in message


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields["plan"]["tensors"].reverse(),
        lambda fields: tensor_of(fields, PACKED).update(shape=[64, 3, 80]),
        lambda fields: tensor_of(fields, PACKED).update(shape=[63, 80, 3]),
        lambda fields: tensor_of(fields, READ_BY_TOKEN).update(matrix=False),
        lambda fields: fields["plan"]["spec"].update(name="other"),
        lambda fields: fields["plan"]["spec"].update(hash="0" * 64),
    ],
)
def test_a_plan_for_another_spec(folder: Path, change: Any) -> None:
    """The bytes that a graph reads stay the same, so it loads; the tools that compile it again refuse it."""
    edit(folder, change)
    manifest = check_artifact(folder)
    with pytest.raises(ArtifactError, match="build the artifact again"):
        read_spec(folder, manifest)


def tensor_of(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return next(tensor for tensor in fields["plan"]["tensors"] if tensor["name"] == name)


def test_every_port(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (folder / MANIFEST_FILE).read_bytes()
    fields = json.loads(whole)
    for graph, parts in fields["graphs"].items():
        for side in ("inputs", "outputs"):
            for number, port in enumerate(parts[side]):
                for change in ({"name": "x"}, {"dtype": "int32"}, {"shape": [*port["shape"], 1]}):
                    edit(folder, lambda f: f["graphs"][graph][side][number].update(change))  # noqa: B023
                    assert AGAIN in refusal(folder, monkeypatch, ArtifactError)
                    replace(folder / MANIFEST_FILE, whole)


def test_ports_that_agree_but_are_not_those_of_the_code(folder: Path) -> None:
    """It is found when MAX has loaded the code, before anything runs."""
    fields = json.loads((folder / MANIFEST_FILE).read_bytes())
    fields["dims"]["n_text_ctx"] = 400
    for graph in ("decoder", "step"):
        for port in fields["graphs"][graph]["inputs"]:
            port["shape"] = [400 if dim == 448 else dim for dim in port["shape"]]
    write_fields(folder, fields)
    with pytest.raises(ArtifactError, match=r"decoder\.mef: expected a graph 'decoder' with the inputs and outputs in"):
        max_whisper.load(folder)


def test_code_of_another_graph(folder: Path) -> None:
    (folder / "encoder.mef").rename(folder / "other")
    (folder / "decoder.mef").rename(folder / "encoder.mef")
    (folder / "other").rename(folder / "decoder.mef")
    reseal(folder)
    assert max_whisper.load(folder).manifest == read_manifest(folder)  # the same graphs, by their names
    replace(folder / "encoder.mef", (folder / "decoder.mef").read_bytes())
    reseal(folder)
    with pytest.raises(ArtifactError, match=AGAIN):
        max_whisper.load(folder)


@pytest.mark.parametrize("key", ["batch", "tokens", "eot", "dtype"])
def test_a_key_that_is_there_twice(folder: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(json.loads((folder / MANIFEST_FILE).read_bytes()) | {"hash": "0" * 64})
    start = text.index(f'"{key}":')
    value = json.JSONDecoder().raw_decode(text[start + len(key) + 4 :])[0]
    text = f"{text[:start]}{json.dumps(key)}: {json.dumps(value)}, {text[start:]}"
    replace(folder / MANIFEST_FILE, text.replace("0" * 64, blake3(text.encode()).hexdigest(), 1).encode())
    assert "expected each key once" in refusal(folder, monkeypatch, ArtifactError)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("plan", "spec", "name"), "a" * 300),
        (("plan", "spec", "name"), "\x1b[2J"),
        (("source", "repo"), "a\nb"),
        (("source", "commit"), "x" * 65),
        (("builder",), ""),
        (("max",), "26.7.0\n"),
        (("plan", "target", "arch"), "../x"),
        (("plan", "target", "device"), "tpu"),
        (("plan", "target", "device"), "cuda"),
        (("plan", "dtype"), "bfloat16"),
        (("plan", "dtype"), "int8"),
        (("plan", "dtype"), "float64"),
        (("plan", "kernels"), "max"),
        (("plan", "kernels"), "yours"),
        (("tokens", "logprob_threshold"), -1e300),
        (("tokens", "logprob_threshold"), 0.5),
    ],
)
def test_words(folder: Path, path: tuple[str, ...], value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(fields: dict[str, Any]) -> None:
        for key in path[:-1]:
            fields = fields[key]
        fields[path[-1]] = value

    edit(folder, change)
    message = refusal(folder, monkeypatch, ArtifactError)
    assert AGAIN in message and len(message) < 700


def test_older_manifest_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, lambda fields: fields.update(manifest_version=MANIFEST_VERSION - 1, builder="0.0.9"))
    assert refusal(folder, monkeypatch, ArtifactError) == (
        f"{folder / MANIFEST_FILE}: manifest version {MANIFEST_VERSION - 1} was written by max-whisper 0.0.9, this is "
        f"max-whisper {version('max-whisper')}, which reads version {MANIFEST_VERSION}; {AGAIN}: {rebuild(folder)}"
    )


def test_a_manifest_version_without_known_fields(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fields(folder, {"manifest_version": 1})
    message = refusal(folder, monkeypatch, ArtifactError)
    assert "manifest version 1 was written by an older max-whisper, this is" in message
    assert message.endswith(f"{AGAIN}: {rebuild(folder).replace(' --weights WEIGHTS --dtype float32', '')}")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"name": 1}', b'{"name": "small"}', b"[" * 100_000, b"\xff"])
def test_another_spec(folder: Path, content: bytes) -> None:
    """The tools that need the spec (inspect, bench, verify) refuse it; loading does not read it."""
    replace(folder / "spec.json", content)
    reseal(folder)
    manifest = check_artifact(folder)
    with pytest.raises(ArtifactError) as raised:
        read_spec(folder, manifest)
    assert "spec.json" in str(raised.value) and "build" in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[1:],
        lambda lines: lines[::-1],
        lambda lines: [*lines[:5], lines[4], *lines[6:]],
        lambda lines: [b"!!!! 0", *lines[1:]],
        lambda lines: [lines[0] + b"0" * 5000, *lines[1:]],
        lambda lines: [b"\xff\xfe", *lines[1:]],
        lambda lines: [],
    ],
)
def test_another_vocabulary(folder: Path, change: Any) -> None:
    """It is refused when it is loaded, when a text is first encoded, or when a token with a wrong line is decoded."""
    lines = (folder / "vocab.tiktoken").read_bytes().splitlines()
    replace(folder / "vocab.tiktoken", b"".join(line + b"\n" for line in change(lines)))
    reseal(folder)
    with pytest.raises(ArtifactError, match=AGAIN):
        max_whisper.load(folder).tokenizer.encode("a text")
    with pytest.raises(ArtifactError, match=AGAIN):
        tokenizer = max_whisper.load(folder).tokenizer
        tokenizer.decode(range(tokenizer.tokens.eot))


def test_a_vocabulary_without_one_of_the_bytes(folder: Path) -> None:
    """It is refused when a text is first encoded, as that text may need the byte; decoding does not."""
    lines = (folder / "vocab.tiktoken").read_bytes().splitlines()
    replace(folder / "vocab.tiktoken", b"".join(line + b"\n" for line in [b"QUJD 0", *lines[1:]]))
    reseal(folder)
    tokenizer = max_whisper.load(folder).tokenizer
    assert tokenizer.decode([0]) == "ABC"
    with pytest.raises(ArtifactError, match=AGAIN):
        tokenizer.encode("a text")
