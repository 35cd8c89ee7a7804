"""Correct specs: the shipped ones, and those of a user."""

from __future__ import annotations

import json

import pytest
from max_whisper.lowering.ops import Program, Value
from max_whisper.spec import Spec, TensorSpec, load_spec, shipped_specs
from max_whisper.spec.layers.positions import sinusoids
from support.models.mini import MINI, changed, recorded, weights_of, write

# width, heads, encoder layers, decoder layers, mels, vocabulary: table 1 of the paper and the model cards on the Hub
SIZES = {
    "tiny": (384, 6, 4, 4, 80, 51865),
    "base": (512, 8, 6, 6, 80, 51865),
    "small": (768, 12, 12, 12, 80, 51865),
    "medium": (1024, 16, 24, 24, 80, 51865),
    "large-v2": (1280, 20, 32, 32, 80, 51865),
    "large-v3": (1280, 20, 32, 32, 128, 51866),
    "large-v3-turbo": (1280, 20, 32, 4, 128, 51866),
    "tiny.en": (384, 6, 4, 4, 80, 51864),
    "base.en": (512, 8, 6, 6, 80, 51864),
    "small.en": (768, 12, 12, 12, 80, 51864),
    "medium.en": (1024, 16, 24, 24, 80, 51864),
    "distil-small.en": (768, 12, 12, 4, 80, 51864),
    "distil-large-v3": (1280, 20, 32, 2, 128, 51866),
}


def hub_tensors(size: str) -> dict[str, tuple[int, ...]]:
    """Returns the names and shapes of the tensors in the Hub checkpoint of a model, written down from its layout."""
    d, _, encoder_layers, decoder_layers, mels, vocab = SIZES[size]
    shapes: dict[str, tuple[int, ...]] = {}

    def put(name, weight, bias=True):
        shapes[f"{name}.weight"] = weight
        if bias:
            shapes[f"{name}.bias"] = weight[:1]

    def block(name, attentions):
        for attention in attentions:
            for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                put(f"{name}.{attention}.{projection}", (d, d), bias=projection != "k_proj")
            put(f"{name}.{attention}_layer_norm", (d,))
        put(f"{name}.fc1", (4 * d, d))
        put(f"{name}.fc2", (d, 4 * d))
        put(f"{name}.final_layer_norm", (d,))

    put("model.encoder.conv1", (d, mels, 3))
    put("model.encoder.conv2", (d, d, 3))
    put("model.encoder.embed_positions", (1500, d), bias=False)
    for i in range(encoder_layers):
        block(f"model.encoder.layers.{i}", ["self_attn"])
    put("model.encoder.layer_norm", (d,))
    put("model.decoder.embed_tokens", (vocab, d), bias=False)
    put("model.decoder.embed_positions", (448, d), bias=False)
    for i in range(decoder_layers):
        block(f"model.decoder.layers.{i}", ["self_attn", "encoder_attn"])
    put("model.decoder.layer_norm", (d,))
    return shapes


def hub_parameters(size: str) -> int:
    """Returns the number of parameters, from the dimensions alone."""
    d, _, encoder_layers, decoder_layers, mels, vocab = SIZES[size]
    attention = 4 * d * d + 3 * d + 2 * d  # four projections, three biases, the norm before it
    feed_forward = 8 * d * d + 5 * d + 2 * d
    encoder = 3 * mels * d + d + 3 * d * d + d + 1500 * d + 2 * d
    decoder = vocab * d + 448 * d + 2 * d
    return (
        encoder
        + encoder_layers * (attention + feed_forward)
        + decoder
        + decoder_layers * (2 * attention + feed_forward)
    )


def lowered(spec: Spec, batch: int = 2) -> tuple[Program, Program]:
    """Returns the encoder and the decoder as lists of ops, after checking the shapes of their outputs."""
    encoder = recorded(spec, "encoder", Value((batch, spec.n_frames, spec.n_mels)))
    decoder = recorded(spec, "decoder", Value((batch, "length"), "int64"))
    assert encoder.outputs["y"].shape == (batch, spec.n_audio_ctx, spec.d_model)
    assert decoder.outputs["y"].shape == (batch, "length", spec.n_vocab)
    return encoder, decoder


def choices(program: Program) -> list[str]:
    """Returns the activation functions and the kinds of attention, in order."""
    kinds = ("activation", "full_attention", "cached_attention", "cross_attention")
    return [op.attributes.get("function", op.kind) for op in program.ops if op.kind in kinds]


def memory_weights(spec: Spec) -> set[str]:
    return {t.name for node in spec.decoder.walk() for t in node.layer.memory_tensors(node.input_shape)}


def test_all_models_ship():
    assert set(SIZES) <= set(shipped_specs())


@pytest.mark.parametrize("size", SIZES)
def test_shipped_spec(size):
    spec = load_spec(f"{size}.yaml")
    d, heads, encoder_layers, decoder_layers, mels, vocab = SIZES[size]
    assert spec.repo == ("distil-whisper/" if size.startswith("distil") else "openai/whisper-") + size
    assert (spec.revision, spec.folder, spec.file) == ("main", None, shipped_specs()[size])
    assert spec.name == spec.repo.split("/")[1]
    assert (spec.n_mels, spec.n_frames, spec.n_audio_ctx) == (mels, 3000, 1500)
    assert (spec.d_model, spec.n_vocab, spec.n_text_ctx) == (d, vocab, 448)
    tensors = spec.tensors()
    assert {tensor.name: tensor.shape for tensor in tensors} == hub_tensors(size)
    assert len(tensors) == len(hub_tensors(size)) and not any(tensor.computed for tensor in tensors)
    assert sum(tensor.size for tensor in tensors) == hub_parameters(size)
    assert [layer.heads for layer in spec.cross_attentions()] == [heads] * decoder_layers
    assert sum(node.layer.kind == "attention" for node in spec.encoder.walk()) == encoder_layers
    assert load_spec(size).hash == spec.hash
    encoder, decoder = lowered(spec)
    assert weights_of(encoder) | weights_of(decoder) | memory_weights(spec) == set(hub_tensors(size))


def test_whisper_tiny_has_the_parameters_of_its_checkpoint():
    assert hub_parameters("tiny") == 37_760_640


def test_a_derived_spec_is_a_few_lines():
    for name, path in shipped_specs().items():
        assert name == "tiny" or len(path.read_text().splitlines()) <= 15 or "extends" not in path.read_text()


def test_hashes_differ_between_models():
    assert len({load_spec(size).hash for size in SIZES}) == len(SIZES)


def test_paths_are_unique_and_readable():
    spec = load_spec("tiny")
    paths = [node.path for side in (spec.encoder, spec.decoder) for node in side.walk()]
    assert len(set(paths)) == len(paths)
    assert paths[:9] == [
        "encoder.conv1d[0]",
        "encoder.gelu[0]",
        "encoder.conv1d[1]",
        "encoder.gelu[1]",
        "encoder.positions",
        "encoder.layers[0]",
        "encoder.layers[0].residual[0]",
        "encoder.layers[0].residual[0].layernorm",
        "encoder.layers[0].residual[0].attention",
    ]
    assert "decoder.layers[3].residual[2].linear[1]" in paths
    assert [layer.path for layer in spec.cross_attentions()][-1] == "decoder.layers[3].residual[1].cross_attention"
    assert {tensor.layer_path for tensor in spec.tensors()} <= set(paths)


def test_shapes():
    shapes = {node.path: (node.input_shape, node.output_shape) for node in load_spec("tiny").encoder.walk()}
    assert shapes["encoder.conv1d[0]"] == ((3000, 80), (3000, 384))
    assert shapes["encoder.conv1d[1]"] == ((3000, 384), (1500, 384))
    assert shapes["encoder.layers[2].residual[1].linear[0]"] == ((1500, 384), (1500, 1536))
    decoder = {node.path: (node.input_shape, node.output_shape) for node in load_spec("tiny").decoder.walk()}
    assert decoder["decoder.embedding"] == ((448, 0), (448, 384))
    assert decoder["decoder.logits"] == ((448, 384), (448, 51865))


def test_every_layer_is_tapped_once_with_its_output():
    spec = load_spec("tiny")
    for side, program in zip((spec.encoder, spec.decoder), lowered(spec, batch=1), strict=True):
        nodes = {node.path: node for node in side.walk() if node.layer.kind != "repeat"}
        assert sorted(program.layers) == sorted(nodes)
        assert all(value.shape[2] == nodes[path].output_shape[1] for path, value in program.layers.items())
    assert [*lowered(spec)[0].layers][5] == "encoder.layers[0].residual[0].layernorm"


def test_tensors_are_in_the_order_of_the_model_and_tied_ones_are_listed_once():
    names = [tensor.name for tensor in load_spec("tiny").tensors()]
    assert names[0] == "model.encoder.conv1.weight" and names[-1] == "model.decoder.layer_norm.bias"
    assert names.count("model.decoder.embed_tokens.weight") == 1
    assert names.index("model.encoder.layers.1.fc1.weight") < names.index("model.encoder.layers.2.fc1.weight")


def test_flops():
    """The counts equal the closed form for Whisper."""
    d, layers, n, vocab = 384, 4, 1500, 51865
    block = 2 * n * 12 * d * d + 4 * n * n * d
    convolutions = 2 * 3000 * 3 * 80 * d + 2 * n * 3 * d * d
    spec = load_spec("tiny")
    assert spec.flops_per_window() == convolutions + layers * block + layers * 2 * 2 * n * d * d
    token = layers * (2 * (4 + 2 + 8) * d * d + 4 * 10 * d + 4 * n * d) + 2 * d * vocab
    assert spec.flops_per_token(9) == token
    nodes = {node.path: node for side in (spec.encoder, spec.decoder) for node in side.walk()}
    assert nodes["encoder.conv1d[1]"].flops_per_window == 2 * n * 3 * d * d
    assert nodes["encoder.layers[0]"].flops_per_window == block
    assert nodes["encoder.layers[0]"].flops_per_token(9) == 0
    assert nodes["decoder.layers[0].residual[1].cross_attention"].flops_per_window == 2 * 2 * n * d * d
    assert nodes["decoder.logits"].flops_per_token(0) == 2 * d * vocab
    assert nodes["decoder.logits"].flops_per_window == nodes["decoder.embedding"].flops_per_token(0) == 0


def test_a_spec_of_ones_own(tmp_path):
    """It has other channels, layers and activations, no repeat in the decoder, and weights in a folder."""
    text = changed(
        ("{repo: someone/mini}", "{folder: weights/mini}"), ("d_model: 12", "d_model: 18"), ("silu", "gelu_tanh")
    )
    path = write(tmp_path, text)
    spec = load_spec(path)
    assert (spec.name, spec.file, spec.repo, spec.folder) == ("mini", path, None, tmp_path / "weights/mini")
    assert (spec.n_frames, spec.d_model) == (100, 18)
    encoder, decoder = lowered(spec)
    assert choices(encoder) == ["gelu", *["full_attention", "gelu_tanh"] * 2]
    assert choices(decoder) == ["cached_attention", "cross_attention"]
    shapes = {tensor.name: tensor.shape for tensor in spec.tensors()}
    assert shapes["enc.1.fc1.weight"] == (24, 18) and shapes["dec.tokens.weight"] == (100, 18)
    assert load_spec(str(path)).hash == spec.hash


def test_source_may_be_left_out(tmp_path):
    spec = load_spec(write(tmp_path, changed(("source: {repo: someone/mini}\n", ""))))
    assert (spec.repo, spec.revision, spec.folder) == (None, "main", None)
    assert "source" not in spec.canonical()


def test_computed_positions(tmp_path):
    spec = load_spec(write(tmp_path, changed(("weights: enc.pos", "sinusoidal: true"))))
    computed = [tensor for tensor in spec.tensors() if tensor.computed]
    assert computed == [TensorSpec("encoder.positions.sinusoids", (50, 12), "encoder.positions", sinusoids)]
    encoder, _ = lowered(spec)
    assert "encoder.positions.sinusoids" in weights_of(encoder)


def test_a_window_of_another_length(tmp_path):
    text = changed(("n_audio_ctx: 50", "n_audio_ctx: 50\n  n_frames: 200"), ("stride: 2, padding: 1", "stride: 4"))
    spec = load_spec(write(tmp_path, text))
    assert spec.n_frames == 200
    lowered(spec)


def test_linear_without_bias(tmp_path):
    spec = load_spec(write(tmp_path, changed(('fc1"}', 'fc1", bias: false}'))))
    names = [tensor.name for tensor in spec.tensors()]
    assert "enc.0.fc1.weight" in names and "enc.0.fc1.bias" not in names
    lowered(spec)


def test_nested_repeats(tmp_path):
    nested = """\
  - repeat:
      times: 2
      as: i
      layers:
        - repeat: {times: 3, as: j, layers: [layernorm: {weights: "more.{i}.{j}"}]}
"""
    spec = load_spec(write(tmp_path, changed(("  - repeat:\n", nested + "  - repeat:\n"))))
    norms = [node for node in spec.encoder.walk() if node.layer.kind == "layernorm"]
    assert [node.layer.weights for node in norms[:6]] == [f"more.{i}.{j}" for i in range(2) for j in range(3)]
    assert norms[5].path == "encoder.layers[1].layers[2].layernorm"
    assert norms[6].path == "encoder.layers[2].residual[0].layernorm"
    lowered(spec)


def test_aliases_and_yaml_1_2_numbers(tmp_path):
    text = changed(('heads: $n_heads, weights: "', 'heads: &heads 3, weights: "'), ("heads: $n_heads", "heads: *heads"))
    spec = load_spec(write(tmp_path, text))
    assert spec.cross_attentions()[0].heads == 3
    assert spec.canonical()["decoder"][4] == {"layernorm": {"eps": 1e-6, "weights": "dec.norm"}}


def test_a_byte_order_mark_and_windows_line_ends(tmp_path):
    path = tmp_path / "mini.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINI.replace("\n", "\r\n").encode())
    assert load_spec(path).hash == load_spec(write(tmp_path, MINI, "other.yaml")).hash


def test_a_folder_does_not_hide_a_shipped_spec(tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_spec("tiny").repo == "openai/whisper-tiny"
    write(tmp_path, changed(("name: mini", "name: mine")), "tiny.yaml")
    assert load_spec("tiny.yaml").name == "mine"


def test_extends(tmp_path):
    write(tmp_path, MINI)
    encoder = MINI[MINI.index("encoder:") : MINI.index("decoder:")].replace("times: 2", "times: $deep")
    text = "extends: mini.yaml\nname: child\ndims: {d_model: 24, deep: 1}\n" + encoder
    child = write(tmp_path, text, "child.yaml")
    spec = load_spec(child)
    assert (spec.name, spec.file, spec.repo, spec.d_model, spec.n_mels) == ("child", child, "someone/mini", 24, 16)
    assert dict(spec.dims) == dict(load_spec(tmp_path / "mini.yaml").dims) | {"d_model": 24, "deep": 1}
    grandchild = write(tmp_path, "extends: child\nname: grandchild\ndims: {deep: 3}\n", "grandchild.yaml")
    assert "expected a spec file beside" in _refused(grandchild)  # a name without .yaml is a shipped spec's
    grandchild = write(tmp_path, "extends: child.yaml\nname: grandchild\ndims: {deep: 3}\n", "grandchild.yaml")
    assert len([node for node in load_spec(grandchild).encoder.walk() if node.layer.kind == "repeat"]) == 3


def _refused(path) -> str:
    with pytest.raises(Exception, match="expected") as caught:
        load_spec(path)
    return str(caught.value)


def test_extends_and_the_source(tmp_path):
    """A revision belongs to its repository: another repository does not inherit it, but it can be changed alone."""
    write(tmp_path, changed(("repo: someone/mini", "repo: someone/mini, revision: v1")))

    def source(line):
        spec = load_spec(write(tmp_path, f"extends: mini.yaml\n{line}\n", "child.yaml"))
        return spec.repo, spec.revision, spec.folder

    assert source("") == ("someone/mini", "v1", None)
    assert source("source: {revision: v2}") == ("someone/mini", "v2", None)
    assert source("source: {repo: other/mini}") == ("other/mini", "main", None)
    assert source("source: {folder: here}") == (None, "main", tmp_path / "here")


@pytest.mark.parametrize("size", ["tiny", "large-v3-turbo"])
def test_canonical_round_trip(size):
    spec = load_spec(size)
    text = json.dumps(spec.canonical())
    again = Spec.from_canonical(json.loads(text))
    assert again.hash == spec.hash and again.tensors() == spec.tensors() and again.canonical() == spec.canonical()
    assert (again.name, again.repo, again.dims) == (spec.name, spec.repo, spec.dims)
    assert [*map(weights_of, lowered(again))] == [*map(weights_of, lowered(spec))]
    assert "$" not in text and len(text) < 8000


def test_canonical_round_trip_of_every_kind(tmp_path):
    text = changed(
        ("weights: enc.pos", "sinusoidal: true"), ("- gelu", "- relu"), ("{repo: someone/mini}", "{folder: w}")
    )
    spec = load_spec(write(tmp_path, text))
    again = Spec.from_canonical(json.loads(json.dumps(spec.canonical())))
    assert again.hash == spec.hash and again.tensors() == spec.tensors() and again.file is None
    assert str(tmp_path) not in json.dumps(spec.canonical())


def test_the_hash_follows_the_meaning(tmp_path):
    def digest(text):
        return load_spec(write(tmp_path, text)).hash

    same = digest(MINI)
    assert len(same) == 64
    assert digest("# a comment\n" + MINI.replace("  - gelu\n", "  - gelu   # here too\n\n")) == same
    assert digest(changed(("heads: $n_heads", "heads: 3"))) == same
    assert digest(changed(("stride: 2, padding: 1", "padding: 1, stride: 2"))) == same
    assert digest(changed(('fc1"}', 'fc1", bias: true}'))) == same
    different = [
        changed(("d_ffn: 24", "d_ffn: 36")),
        changed(("d_model: 12", "d_model: 15")),
        changed(("times: 2", "times: 3")),
        changed(("silu", "relu")),
        changed(("eps: 1e-6", "eps: 1e-5")),
        changed(("enc.{i}.fc1", "enc.{i}.up")),
        changed(("n_text_ctx: 20", "n_text_ctx: 21")),
        changed(("someone/mini", "someone/other")),
    ]
    assert len({same, *map(digest, different)}) == len(different) + 1
