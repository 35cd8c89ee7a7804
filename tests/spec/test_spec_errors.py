"""Every wrong spec is one sentence: file, line, key, what was expected, and a suggestion."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from max_whisper.errors import SpecError
from max_whisper.spec import Spec, load_spec, shipped_specs
from support.models.mini import MINI, changed, write
from support.special_files import SPECIAL, as_nobody


def refusal(path) -> str:
    """Returns the message that refuses the spec at `path`, which must be one line."""
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 800
    return message


REPEAT = "encoder[3].repeat"
# fmt: off
CASES = [
    # id, (old, new), line, fragments
    ("unknown-layer", ("- gelu", "- gleu"), 13,
     ["encoder[1]", "unknown layer 'gleu'", "one of", "did you mean 'gelu'?"]),
    ("unknown-layer-with-fields", ("attention: {heads", "atention: {heads"), 21,
     [f"{REPEAT}.layers[0].residual[1]", "'atention'", "did you mean 'attention'?"]),
    ("unknown-key", ("stride: 2", "strid: 2"), 12,
     ["encoder[0].conv1d", "unknown key 'strid'", "did you mean 'stride'?"]),
    ("unknown-key-of-repeat", ("      times:", "      time:"), 16, [REPEAT, "'time'", "did you mean 'times'?"]),
    ("unknown-top-key", ("encoder:", "encoders:"), 11, ["'encoders'", "did you mean 'encoder'?"]),
    ("unknown-source-key", ("repo:", "repos:"), 2, ["source", "'repos'", "did you mean 'repo'?"]),
    ("field-on-bare-layer", ("- gelu", "- gelu: {out: 3}"), 13,
     ["encoder[1].gelu", "unknown key 'out'", "expected none"]),
    ("value-on-bare-layer", ("- gelu", "- gelu: 3"), 13, ["encoder[1].gelu", "expected no fields", "got 3"]),
    ("missing-field", (", weights: enc.conv", ""), 12, ["encoder[0].conv1d", "'weights'", "prefix of the tensors"]),
    ("missing-field-bare", ("- layernorm: {eps: 1e-6, weights: dec.norm}", "- layernorm"), 33,
     ["decoder[4].layernorm", "expected the field 'weights'"]),
    ("fields-not-indented", ("- positions: {length: $n_text_ctx, weights: dec.pos}",
                             "- positions:\n    weights: dec.pos"), 28,
     ["decoder[1]", "one layer", "positions, weights"]),
    ("layer-is-a-number", ("- gelu", "- 12"), 13, ["encoder[1]", "expected a layer", "got 12"]),
    ("layer-is-a-list", ("- gelu", "- [gelu]"), 13, ["encoder[1]", "expected a layer", "got a list"]),
    ("layer-is-empty", ("- gelu", "-"), 13, ["encoder[1]", "expected a layer", "got nothing"]),
    ("text-for-integer", ("kernel: 3", "kernel: three"), 12, ["conv1d.kernel", "integer from 1", "the text 'three'"]),
    ("float-for-integer", ("kernel: 3", "kernel: 3.0"), 12, ["conv1d.kernel", "integer", "got 3.0"]),
    ("boolean-for-integer", ("kernel: 3", "kernel: true"), 12, ["conv1d.kernel", "integer", "got true"]),
    ("yes-for-integer", ("kernel: 3", "kernel: yes"), 12, ["conv1d.kernel", "integer", "'yes'"]),
    ("quoted-integer", ("kernel: 3", "kernel: '3'"), 12, ["conv1d.kernel", "integer", "the text '3'"]),
    ("negative", ("padding: 1", "padding: -1"), 12, ["conv1d.padding", "from 0", "got -1"]),
    ("zero", ("stride: 2", "stride: 0"), 12, ["conv1d.stride", "from 1", "got 0"]),
    ("nothing-for-integer", ("times: 2", "times:"), 16, [f"{REPEAT}.times", "integer", "got nothing"]),
    ("list-for-integer", ("times: 2", "times: [2]"), 16, [f"{REPEAT}.times", "integer", "got a list"]),
    ("too-many-times", ("times: 2", "times: 1001"), 16, [f"{REPEAT}.times", "from 1 to 1000", "got 1001"]),
    ("huge-integer", ("times: 2", "times: " + "9" * 5000), 16, ["at most 15 digits"]),
    ("yes-for-boolean", ("causal: true", "causal: yes"), 30,
     ["attention.causal", "true or false", "did you mean true?"]),
    ("integer-for-boolean", ("causal: true", "causal: 1"), 30, ["attention.causal", "true or false", "got 1"]),
    ("text-for-float", ("eps: 1e-6", "eps: small"), 33, ["layernorm.eps", "a number from 0 to 1", "'small'"]),
    ("float-out-of-range", ("eps: 1e-6", "eps: 1e999"), 33, ["layernorm.eps", "a number from 0 to 1"]),
    ("boolean-for-float", ("eps: 1e-6", "eps: true"), 33, ["layernorm.eps", "a number", "got true"]),
    ("wrong-choice", ("memory: encoder", "memory: encodr"), 32,
     ["cross_attention.memory", "expected 'encoder'", "did you mean 'encoder'?"]),
    ("number-for-weights", ("weights: enc.conv", "weights: 12"), 12, ["conv1d.weights", "as text", "put it in quotes"]),
    ("weights-with-space", ("weights: enc.conv", "weights: enc conv"), 12, ["conv1d.weights", "letters", "'enc conv'"]),
    ("weights-with-suffix", ("weights: enc.conv", "weights: enc.conv.weight"), 12,
     ["conv1d.weights", "without '.weight'", "did you mean 'enc.conv'?"]),
    ("weights-with-variable", ("enc.{i}.fc1", "enc.$i.fc1"), 23, ["linear.weights", "'enc.$i.fc1'", "written {i}"]),
    ("weights-with-open-brace", ("enc.{i}.fc1", "enc.{i.fc1"), 23, ["linear.weights", "'enc.{i.fc1'"]),
    ("unknown-index", ("enc.{i}.fc1", "enc.{j}.fc1"), 23, ["linear.weights", "unknown index '{j}'", "expected 'i'"]),
    ("index-outside", ("weights: enc.conv", 'weights: "enc.{i}"'), 12, ["unknown index '{i}'", "outside a repeat"]),
    ("index-as-number", ("{out: $d_ffn", "{out: $i"), 23, ["linear.out", "'$i'", "weight names only"]),
    ("index-forgotten", ("enc.{i}.fc2", "enc.fc2"), 25, ["linear.weights", "'enc.fc2.weight'", "layers.{i}"]),
    ("index-hides-dimension", ("as: i", "as: d_ffn"), 17, [f"{REPEAT}.as", "'d_ffn' is that of a dimension"]),
    ("index-is-no-name", ("as: i", "as: i-1"), 17, [f"{REPEAT}.as", "letters", "'i-1'"]),
    ("nested-index", ("        - residual:\n            - linear", "        - repeat: {times: 1, layers: [gelu]}\n"
     "        - residual:\n            - linear"), 22, ["repeat.as", "'i' is that of the repeat around"]),
    ("missing-variable", ("heads: $n_heads", "heads: $n_head"), 21,
     ["attention.heads", "unknown variable '$n_head'", "did you mean '$n_heads'?"]),
    ("dollar-forgotten", ("heads: $n_heads", "heads: n_heads"), 21, ["attention.heads", "did you mean '$n_heads'?"]),
    ("variable-out-of-range", ("times: 2", "times: $n_frames"), 16, ["repeat.times", "unknown variable '$n_frames'"]),
    ("width-not-divisible", ("n_heads: 3", "n_heads: 5"), 21,
     ["attention.heads", "divisor of the 12 channels", "got 5", "did you mean 4?"]),
    ("weights-used-twice", ("weights: dec.cross", "weights: dec.attn"), 32,
     ["cross_attention.weights", "'dec.attn.q_proj.weight'", "decoder.residual[0].attention"]),
    ("residual-shape", ("- linear: {out: $d_model", "- linear: {out: 13"), 22,
     ["residual", "keep the shape (50, 12)", "(50, 13)"]),
    ("residual-length", ("- layernorm: {weights: \"enc.{i}.norm\"}",
     "- conv1d: {out: $d_model, kernel: 3, weights: \"enc.{i}.norm\"}"), 19, ["residual", "(50, 12)", "(48, 12)"]),
    ("residual-is-a-mapping", ("  - residual:\n      - attention: {heads: $n_heads, causal: true, weights: dec.attn}",
     "  - residual: {attention: {heads: 3}}"), 29, ["decoder[2].residual", "a list of layers", "got a mapping"]),
    ("residual-is-empty", ("  - gelu", "  - residual: []"), 13,
     ["encoder[1].residual", "a list of layers", "empty list"]),
    ("positions-length", ("stride: 2", "stride: 1"), 14, ["positions.length", "expected 100", "got 50"]),
    ("positions-without-table", (", weights: enc.pos", ""), 14,
     ["positions", "either 'weights'", "'sinusoidal: true'"]),
    ("positions-both", ("weights: enc.pos", "weights: enc.pos, sinusoidal: true"), 14,
     ["positions", "either 'weights'"]),
    ("kernel-too-long", ("kernel: 3", "kernel: 400"), 12, ["conv1d.kernel", "at most 102", "got 400"]),
    ("encoder-ends-short", (", padding: 1", ""), 14, ["positions.length", "expected 49"]),
    ("encoder-ends-wrong", ("decoder:", "  - linear: {out: 13, weights: enc.out}\ndecoder:"), 26,
     ["encoder[4].linear", "(n_audio_ctx, d_model) = (50, 12)", "(50, 13)"]),
    ("width-changes", ("  - repeat:", "  - linear: {out: 9, weights: enc.narrow}\n  - repeat:"), 23,
     ["residual", "(50, 9)", "(50, 12)"]),
    ("causal-in-encoder", ("attention: {heads: $n_heads, weights", "attention: {heads: 3, causal: true, weights"), 21,
     ["attention.causal", "expected false in the encoder"]),
    ("not-causal-in-decoder", ("causal: true, ", ""), 30, ["attention.causal", "'causal: true' in the decoder"]),
    ("cross-attention-in-encoder", ("attention: {heads: $n_heads, weights", "cross_attention: {heads: 3, weights"), 21,
     ["cross_attention", "decoder only", "did you mean 'attention'?"]),
    ("no-cross-attention",
     ("cross_attention: {heads: $n_heads, memory: encoder, ", "attention: {heads: 3, causal: true, "),
     26, ["decoder", "expected a cross_attention layer"]),
    ("conv-in-decoder", ("  - layernorm: {eps: 1e-6, weights", "  - conv1d: {out: 12, kernel: 1, weights"), 33,
     ["decoder[4].conv1d", "encoder only"]),
    ("embedding-in-encoder", ("- gelu", "- embedding: {vocab: 9, width: 9, weights: x}"), 13,
     ["encoder[1].embedding", "only as the first layer of the decoder"]),
    ("embedding-not-first", ("  - embedding", "  - gelu\n  - embedding"), 27,
     ["decoder[0].gelu", "an embedding as the first"]),
    ("embedding-twice", ("  - positions: {length: $n_text_ctx, weights: dec.pos}",
     "  - embedding: {vocab: 9, width: 9, weights: x}"), 28, ["decoder[1].embedding", "only as the first"]),
    ("logits-missing", ("  - logits: {tied: dec.tokens}\n", ""), 33,
     ["decoder[4].layernorm", "expected logits as the last"]),
    ("logits-not-last", ("{tied: dec.tokens}", "{tied: dec.tokens}\n  - gelu"), 35,
     ["decoder[6].gelu", "after the logits"]),
    ("logits-inside", ("  - logits: {tied: dec.tokens}",
                       "  - repeat: {times: 1, layers: [{logits: {tied: dec.tokens}}]}"),
     34, ["decoder[5].repeat", "the logits after this layer"]),
    ("logits-in-encoder", ("- gelu", "- logits: {tied: dec.tokens}"), 13,
     ["encoder[1].logits", "embedding in the decoder"]),
    ("logits-tied-to-nothing", ("tied: dec.tokens", "tied: dec.token"), 34,
     ["logits.tied", "expected the weights of an embedding", "did you mean 'dec.tokens'?"]),
    ("logits-vocabulary", ("vocab: $n_vocab", "vocab: 99"), 34,
     ["decoder[5].logits", "(n_text_ctx, n_vocab) = (20, 100)"]),
    ("dim-missing", ("  n_mels: 16\n", ""), 3, ["dims", "expected the dimension n_mels"]),
    ("dim-misspelt", ("d_model: 12", "d_modell: 12"), 6, ["dims.d_modell", "did you mean 'd_model'?"]),
    ("dim-unused", ("n_heads: 3", "n_heads: 3\n  n_headz: 4"), 8, ["dims.n_headz", "did you mean 'n_heads'?"]),
    ("dim-float", ("d_model: 12", "d_model: 12.5"), 6, ["dims.d_model", "integer", "got 12.5"]),
    ("dim-boolean", ("d_model: 12", "d_model: true"), 6, ["dims.d_model", "integer", "got true"]),
    ("dim-zero", ("d_model: 12", "d_model: 0"), 6, ["dims.d_model", "from 1", "got 0"]),
    ("dim-huge", ("d_model: 12", "d_model: 99999999"), 6, ["dims.d_model", "to 16777216"]),
    ("dim-text", ("d_model: 12", "d_model: wide"), 6, ["dims.d_model", "integer", "'wide'"]),
    ("dim-name", ("n_heads: 3", "n-heads: 3"), 7, ["dims", "letters", "'n-heads'"]),
    ("name-number", ("name: mini", "name: 12"), 1, ["name", "got 12", "put it in quotes"]),
    ("name-path", ("name: mini", "name: ../mini"), 1, ["name", "letters", "'../mini'"]),
    ("name-missing", ("name: mini\n", ""), 1, ["'name'", "extends: tiny.yaml"]),
    ("encoder-is-text", ("encoder:\n", "encoder: gelu\ndecoder:\n"), 27, ["'decoder' is given twice"]),
    ("source-text", ("{repo: someone/mini}", "someone/mini"), 2, ["source", "{repo: owner/name"]),
    ("source-both", ("{repo: someone/mini}", "{repo: a/b, folder: c}"), 2, ["source", "either 'repo' or 'folder'"]),
    ("source-neither", ("{repo: someone/mini}", "{revision: main}"), 2, ["source", "either 'repo' or 'folder'"]),
    ("source-url", ("someone/mini", "https://example.org/mini"), 2, ["source.repo", "owner/name", "'https:"]),
    ("source-revision-number", ("someone/mini", "someone/mini, revision: 1234567"), 2,
     ["source.revision", "in quotes"]),
    ("source-folder-leaves", ("repo: someone/mini", "folder: ../weights"), 2, ["source.folder", "beside this file"]),
    ("source-folder-absolute", ("repo: someone/mini", "folder: /etc"), 2, ["source.folder", "beside this file"]),
    ("source-package-alone", ("repo: someone/mini", "package: mini"), 2, ["source", "both 'package' and 'file'"]),
    ("source-package-leaves", ("repo: someone/mini", "package: mini, file: ../x.bin"), 2,
     ["source.file", "the path of a file in the package"]),
    ("source-package-absolute", ("repo: someone/mini", "package: mini, file: /etc/passwd"), 2, ["source.file"]),
    ("source-package-and-repo", ("repo: someone/mini", "repo: a/b, package: c, file: d"), 2,
     ["source", "either 'repo'"]),
    ("source-folder-revision", ("repo: someone/mini", "folder: w, revision: main"), 2,
     ["source.revision", "'repo' only"]),
    ("duplicate-key", ("kernel: 3", "kernel: 3, kernel: 5"), 12, ["'kernel' is given twice", "first in line 12"]),
    ("duplicate-top-key", ("encoder:", "name: again\nencoder:"), 11, ["'name' is given twice", "first in line 1"]),
    ("number-as-key", ("n_heads: 3", "3: 3"), 7, ["a name as key", "got 3"]),
    ("nothing-as-key", ("n_heads: 3", "~: 3"), 7, ["a name as key", "got nothing"]),
    ("list-as-key", ("n_heads: 3", "? [a]\n  : 3"), 7, ["a name as key", "got a list"]),
    ("merge-key", ("n_heads: 3", "<<: {n_heads: 3}"), 7, ["merge keys", "'extends'"]),
    ("tag", ("name: mini", "name: !!python/object/apply:os.system [true]"), 1, ["tags", "python/object"]),
    ("short-tag", ("n_heads: 3", "n_heads: !!int 3"), 7, ["tags", "remove"]),
    ("two-documents", ("encoder:", "---\nencoder:"), 11, ["one document"]),
    ("tab", ("  n_mels: 16", "\tn_mels: 16"), 4, ["expected YAML", "spaces, not tabs"]),
    ("unquoted-index", ('"enc.{i}.fc1"', "enc.{i}.fc1"), 23, ["expected YAML", "need quotes"]),
    ("unclosed", ("weights: enc.conv}", "weights: enc.conv"), 14, ["expected YAML", "line 12 opens"]),
    ("unknown-alias", ("name: mini", "name: *mini"), 1, ["unknown alias '*mini'"]),
    ("alias-of-itself", ("name: mini", "name: &a [*a]"), 1, ["'*a'", "never end"]),
    ("impossible-character", ("name: mini", 'name: "\\U00ffffff"'), 1, ["expected YAML"]),
    ("control-character", ("name: mini", "name: mini\x07"), 1, ["control character"]),
    ("newline-in-name", ("name: mini", 'name: "a\\nb"'), 1, ["name", "letters"]),
    ("lone-surrogate", ("weights: enc.conv", 'weights: "\\ud800"'), 12, ["conv1d.weights", "letters"]),
]
# fmt: on


@pytest.mark.parametrize(("change", "line", "fragments"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_wrong_spec(tmp_path, change, line, fragments):
    path = write(tmp_path, changed(change))
    message = refusal(path)
    assert message.startswith(f"{path}:{line}: ")
    for fragment in fragments:
        assert fragment in message


def test_the_unchanged_spec_is_right(tmp_path):
    assert load_spec(write(tmp_path, MINI)).name == "mini"


def test_a_key_that_is_missing(tmp_path):
    for key, following in (("dims", "encoder"), ("encoder", "decoder"), ("decoder", None)):
        start = MINI.index(f"{key}:")
        end = MINI.index(f"\n{following}:") + 1 if following else len(MINI)
        assert f":1: expected the key '{key}', or 'extends: tiny.yaml'" in refusal(
            write(tmp_path, MINI[:start] + MINI[end:])
        )


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["the file is empty"]),
        ("# nothing but a comment\n", ["the file is empty"]),
        ("---\n...\n", ["the file is empty"]),
        ("just text", ["expected a mapping", "'just text'"]),
        ("- gelu", ["expected a mapping", "a list"]),
        ("3", ["expected a mapping", "got 3"]),
        ("a: " + "[" * 40 + "]" * 40, ["at most 32 levels"]),
        ("[" * 100_000, ["at most 32 levels"]),
        ("a: [" + "1," * 30_000 + "]", ["at most 20000 values"]),
        ("#" * 1_000_001, ["at most 1000000 bytes"]),
        (
            "dims: 3\n" + "name: a\nencoder: [gelu]\ndecoder: [gelu]",
            ["dims: expected a mapping of dimensions", "got 3"],
        ),
    ],
)
def test_text_that_is_no_spec(tmp_path, text, fragments):
    path = write(tmp_path, text)
    message = refusal(path)
    assert message.startswith(f"{path}:1: ")
    assert all(fragment in message for fragment in fragments)


def test_a_billion_laughs(tmp_path):
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    path = write(tmp_path, "\n".join(lines))
    assert re.fullmatch(
        re.escape(str(path)) + r":\d: expected .* at most 20000 values.* aliases expanded .*", refusal(path)
    )


def test_layers_that_explode(tmp_path):
    layers = "[gelu]"
    for name in "abc":
        layers = f"[repeat: {{times: 1000, as: {name}, layers: {layers}}}]"
    path = write(tmp_path, changed(("encoder:\n", f"encoder:\n  - residual: {layers}\n")))
    assert "at most 20000 layers" in refusal(path)


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", ":1: expected YAML as UTF-8 text"),
        (b"name: mini\nsource: \xe9\n", ":2: expected YAML as UTF-8 text"),
        (b"a\x00b", ":1: expected YAML text, found a control character"),
        (MINI.encode("utf-16"), ":1: expected YAML as UTF-8 text"),
    ],
)
def test_binary_files(tmp_path, data, fragment):
    path = tmp_path / "mini.yaml"
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path}{fragment}")


def test_things_that_are_no_files(tmp_path):
    assert "the spec cannot be read: it is a folder, expected a file" in refusal(tmp_path)
    message = refusal(tmp_path / "tinny.yaml")
    assert "name of a shipped spec" in message and message.endswith("did you mean 'tiny.yaml'?")
    assert "did you mean 'large-v3.yaml'?" in refusal("large-v33")
    for name in ("", "x" * 5000, "a\0b", "no\nline", "\ud800", "~", "?", "*", "../.."):
        refusal(name)


def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path, MINI)
    path.chmod(0)
    with as_nobody():
        assert "the spec cannot be read: Permission denied" in refusal(path)


@pytest.mark.parametrize("said", SPECIAL)
def test_what_is_no_regular_file_is_never_opened(tmp_path, said):
    path = tmp_path / "odd.yaml"
    SPECIAL[said](path)
    message = refusal(path)
    assert message.startswith(f"{path}:1: the spec cannot be read: ") and said in message


@pytest.mark.parametrize("said", SPECIAL)
def test_extends_something_that_is_no_regular_file(tmp_path, said):
    SPECIAL[said](tmp_path / "odd.yaml")
    message = refusal(write(tmp_path, "extends: odd.yaml\n", "child.yaml"))
    if said == "it is a device":  # a link that leaves the folder
        assert "inside the folder of this file" in message
    else:
        assert said in message


def test_a_folder_does_not_hide_a_shipped_spec(tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_spec("tiny").name == "whisper-tiny"
    assert load_spec(write(tmp_path, "extends: tiny\nname: child\n", "child.yaml")).name == "child"


def test_the_home_folder(tmp_path, monkeypatch):
    write(tmp_path, MINI)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_spec("~/mini.yaml").name == "mini"
    assert load_spec(Path("~/mini.yaml")).name == "mini"
    assert "expected a spec file" in refusal("~nobody-of-this-name/mini.yaml")


def test_line_breaks_in_a_path_stay_one_line(tmp_path):
    folder = tmp_path / "a\nb"
    folder.mkdir()
    assert "a\\nb" in refusal(write(folder, "[]"))


def test_extends_a_cycle(tmp_path):
    path = write(tmp_path, "extends: b.yaml\n", "a.yaml")
    write(tmp_path, "name: b\nextends: c.yaml\n", "b.yaml")
    last = write(tmp_path, "# c\n\nextends: a.yaml\n", "c.yaml")
    message = refusal(path)
    assert message.startswith(f"{last}:3: extends: ")
    assert " -> ".join(str(tmp_path / f"{name}.yaml") for name in "abca") in message
    own = write(tmp_path, "extends: own.yaml", "own.yaml")
    assert f"{own} -> {own}" in refusal(own)


def chain(folder: Path, length: int, padding: str = "") -> Path:
    """Writes `length` specs that extend each other, of which the last is complete, and returns the first."""
    write(folder, MINI, f"{length - 1}.yaml")
    for i in range(length - 1):
        write(folder, f"extends: {i + 1}.yaml\n{padding}", f"{i}.yaml")
    return folder / "0.yaml"


def test_long_chains(tmp_path):
    assert load_spec(chain(tmp_path, 16)).name == "mini"
    message = refusal(chain(tmp_path, 3000))
    assert message.startswith(f"{tmp_path / '15.yaml'}:1: extends: expected at most 16 specs that extend each other")
    names = [str(tmp_path / f"{name}.yaml") for name in (0, 1, 15, 16)]
    assert message.endswith(" -> ".join([*names[:2], "...", *names[2:]]))


def test_chains_of_large_files(tmp_path):
    path = chain(tmp_path, 10, "#" * 400_000)
    (tmp_path / "5.yaml").unlink()  # it is not reached
    assert "expected at most 1000000 bytes in specs that extend each other" in refusal(path)


@pytest.mark.parametrize(
    ("value", "fragments"),
    [
        ("tinny.yaml", ["beside this one, or a shipped spec", "'tinny.yaml'", "did you mean 'tiny.yaml'?"]),
        ("minni.yaml", ["did you mean 'mini.yaml'?"]),
        ("../mini.yaml", ["inside the folder of this file"]),
        ("/etc/passwd", ["inside the folder of this file"]),
        ("3", ["expected the file or the name of another spec", "got 3"]),
        ("[tiny]", ["expected the file or the name of another spec", "a list"]),
        ("", ["expected the file", "got nothing"]),
        ('"a\\0b"', ["beside this one"]),
        ("x" * 5000, ["beside this one"]),
    ],
)
def test_extends_something_wrong(tmp_path, value, fragments):
    write(tmp_path, MINI)
    path = write(tmp_path, f"name: child\nextends: {value}\n", "child.yaml")
    message = refusal(path)
    assert message.startswith(f"{path}:2: extends: ")
    assert all(fragment in message for fragment in fragments)


def test_extends_through_a_link_that_leaves_the_folder(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    write(outside, MINI)
    (inside / "link.yaml").symlink_to(outside / "mini.yaml")
    assert "inside the folder" in refusal(write(inside, "extends: link.yaml", "child.yaml"))


def test_an_error_names_the_file_where_the_value_is_written(tmp_path):
    """The error names the parent if the parent is wrong, and the child if the child caused it."""
    parent = write(tmp_path, MINI)
    child = write(tmp_path, "extends: mini.yaml\nname: child\n\ndims:\n  n_heads: 4\n  d_modl: 24\n", "child.yaml")
    assert refusal(child).startswith(f"{child}:6: dims.d_modl: ")
    write(tmp_path, "extends: mini.yaml\ndims: {n_heads: 5}\n", "child.yaml")
    assert refusal(child).startswith(f"{parent}:21: encoder[3].repeat.layers[0].residual[1].attention.heads: ")
    write(tmp_path, "extends: mini.yaml\nencoder:\n  - gelu\n", "child.yaml")
    assert refusal(child).startswith(f"{child}:3: encoder[0].gelu: expected features of shape (n_audio_ctx, d_model)")
    write(tmp_path, "extends: tiny\nencoder:\n  - glu\n", "child.yaml")
    assert refusal(child).startswith(f"{child}:3: encoder[0]: unknown layer 'glu'")


def test_errors_in_a_shipped_spec_use_its_short_name(tmp_path):
    child = write(tmp_path, "extends: tiny\ndims: {n_heads: 7}\n")
    assert re.match(
        r"tiny\.yaml:\d+: encoder\[5\]\.repeat\.layers\[0\]\.residual\[1\]\.attention\.heads: ", refusal(child)
    )


def test_a_stored_spec_that_was_changed():
    good = load_spec("tiny").canonical()
    wrong = [
        {}, [], None, 3, {**good, "extends": "tiny"}, {**good, "dims": None}, {**good, "name": object()}, {1: 2},
        {**good, "encoder": [{"gelu": {}}]}, {**good, "dims": {**good["dims"], "d_model": 10**5000}},
        {**good, "source": {"folder": "x"}}, {**good, "encoder": [*good["encoder"], "gelu", "glue"]},
    ]  # fmt: skip
    nested: list = []
    for _ in range(5000):
        nested = [nested]
    for data in [*wrong, {**good, "encoder": nested}]:
        with pytest.raises(SpecError, match=r"^stored spec:1: "):
            Spec.from_canonical(data)


def test_random_mutations_either_load_or_are_refused(tmp_path):
    text = shipped_specs()["tiny"].read_text()
    alphabet = "{}[]:,-$&*!|>'\"%@`#?~\n\t 0aé\x00"
    loaded = 0
    for seed in range(300):
        rng = random.Random(seed)
        mutant = text
        for _ in range(rng.randint(1, 4)):
            mutant = mutate(mutant, rng, alphabet)
        path = write(tmp_path, mutant)
        try:
            load_spec(path)
            loaded += 1
        except SpecError as error:
            assert "\n" not in str(error)
            assert re.match(r"(tiny\.yaml|.*mini\.yaml):\d+: ", str(error))
    assert 0 < loaded < 300


def mutate(text: str, rng: random.Random, alphabet: str) -> str:
    """Returns `text` with a character or a line deleted, doubled, swapped with the next one, or replaced."""
    parts = text.splitlines(keepends=True) if rng.random() < 0.5 else list(text)
    at = rng.randrange(len(parts) - 1)
    action = rng.randrange(4)
    if action == 0:
        del parts[at]
    elif action == 1:
        parts.insert(at, parts[at])
    elif action == 2:
        parts[at], parts[at + 1] = parts[at + 1], parts[at]
    else:
        parts[at] = rng.choice(alphabet)
    return "".join(parts)
