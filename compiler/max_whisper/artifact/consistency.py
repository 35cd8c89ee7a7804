"""Checks that the parts of a manifest fit together: dimensions, token ids, files, the plan, and the ports of graphs.

The runtime and MAX rely on all of this: with an id out of range, or a shape that is not the graph's, they would read
out of bounds. Each field by itself is checked by its type (manifest.py), and whether the compiled code has the ports of
the manifest is checked once MAX has loaded it (load.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from max_whisper.artifact.manifest import SPEC_FILE, VOCABULARY_FILE, WEIGHTS_FILE, Manifest, Port
from max_whisper.plan import MATRIX_DTYPES, BuildPlan
from max_whisper.tensors.stored import StoredTensor
from max_whisper.tokens import N_BOUNDS, Tokens

FILE_OF_GRAPH = {
    "encoder": "encoder.mef",
    "cross_kv": "encoder.mef",
    "decoder": "decoder.mef",
    "step": "decoder.mef",
    "alignment": "decoder.mef",
}
REQUIRED_DIMS = ("n_mels", "n_frames", "n_audio_ctx", "d_model", "n_vocab", "n_text_ctx")
MAX_SPEC_BYTES = 16 << 20
MAX_TOKEN_BYTES = 1 << 10
"""The most bytes of a line of the vocabulary, on average."""
MAX_DIMS = 8
"""The most dimensions of a tensor."""

Shape: TypeAlias = "tuple[int | None, ...]"
"""The shape of a port, with None for a dimension that varies."""
Signature: TypeAlias = "list[tuple[str, str, Shape]]"
"""The name, dtype and shape of each input, or of each output, of a graph."""


def check_consistency(manifest: Manifest) -> None:
    """Raises a ValueError that says what was expected and what was found where two parts contradict each other."""
    _check_files(manifest)
    for name in REQUIRED_DIMS:
        if name not in manifest.dims:
            raise ValueError(f"expected a dimension '{name}'")
    _check_sizes(manifest)
    check_tokens(manifest.tokens, manifest.dims["n_vocab"])
    _check_plan(manifest.plan)
    _check_alignment_heads(manifest)
    for name, (inputs, outputs) in _signatures(manifest).items():
        _check_ports(f"graph {name}: input", inputs, manifest.graphs[name].inputs)
        _check_ports(f"graph {name}: output", outputs, manifest.graphs[name].outputs)


def shape_of(port: Port) -> Shape:
    """Returns the shape of a port."""
    return tuple(dim if isinstance(dim, int) else None for dim in port.shape)


def _check_files(manifest: Manifest) -> None:
    """Raises ValueError unless the manifest lists exactly the files and graphs that an artifact has."""
    for name in manifest.files:
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"expected plain file names, found '{name}', which leaves the folder")
    graphs = manifest.graphs
    expected = [
        WEIGHTS_FILE,
        VOCABULARY_FILE,
        SPEC_FILE,
        *(graph.file for graph in graphs.values()),
        *FILE_OF_GRAPH.values(),
    ]
    missing = [name for name in dict.fromkeys(expected) if name not in manifest.files]
    missing += [name for name in FILE_OF_GRAPH if name not in graphs]
    if missing:
        raise ValueError(f"expected {', '.join(missing)} to be listed")
    unknown = [*(manifest.files.keys() - set(expected)), *(graphs.keys() - FILE_OF_GRAPH.keys())]
    if unknown:
        raise ValueError(f"expected no '{min(unknown)}' to be listed")
    for name, file in FILE_OF_GRAPH.items():
        if graphs[name].file != file:
            raise ValueError(f"expected graph {name} in {file}, found {graphs[name].file}")


def _check_sizes(manifest: Manifest) -> None:
    """Raises ValueError where a file that is read into memory as a whole is too large."""
    limits = {SPEC_FILE: MAX_SPEC_BYTES, VOCABULARY_FILE: MAX_TOKEN_BYTES * manifest.dims["n_vocab"]}
    for name, limit in limits.items():
        if manifest.files[name].size > limit:
            raise ValueError(f"expected at most {limit} bytes of {name}, found {manifest.files[name].size}")


def check_tokens(tokens: Tokens, n_vocab: int) -> None:
    """Raises ValueError unless the ids are below n_vocab and in Whisper's order (see `Tokens.in_order`)."""
    order = tokens.in_order
    last = max([*order, tokens.timestamp_begin + tokens.n_timestamps - 1, *tokens.suppress, *tokens.begin_suppress])
    if last >= n_vocab:
        raise ValueError(f"expected token ids below {n_vocab}, found token {last}")
    if wrong := next((pair for pair in pairwise(order) if pair[0] >= pair[1]), None):
        raise ValueError(f"expected special tokens in Whisper's order, found {wrong[0]} before {wrong[1]}")
    if tokens.timestamp_begin != tokens.notimestamps + 1:
        raise ValueError(f"expected timestamps from {tokens.notimestamps + 1} on, found {tokens.timestamp_begin}")
    for code in tokens.languages:
        if code != code.strip().lower():
            raise ValueError(f"expected languages in lower case, found '{code}'")


def _check_plan(plan: BuildPlan) -> None:
    """Raises ValueError where the target, kernels, dtype and tensors of a plan do not fit together."""
    if plan.kernels not in plan.target.kernels:
        raise ValueError(f"expected kernels for {plan.target}, found '{plan.kernels}'")
    if plan.dtype not in MATRIX_DTYPES[plan.kernels]:
        raise ValueError(f"expected a dtype that kernels '{plan.kernels}' support, found {plan.dtype}")
    for tensor in plan.tensors:
        _check_tensor(plan, tensor)
    names = Counter(name for tensor in plan.tensors for name in (tensor.name, tensor.scales) if name is not None)
    if twice := next((name for name, count in names.items() if count > 1), None):
        raise ValueError(f"expected each tensor once, found '{twice}' twice")
    if not any(tensor.matrix and tensor.dtype == plan.dtype for tensor in plan.tensors):
        raise ValueError(f"expected matrices of dtype {plan.dtype}, the dtype of the build, found none")


def _check_tensor(plan: BuildPlan, tensor: StoredTensor) -> None:
    """Raises ValueError for a rank, a layout or a dtype that no tensor has in a build of this plan."""
    least = 2 if tensor.matrix else 1
    if not least <= len(tensor.shape) <= MAX_DIMS:
        raise ValueError(f"expected {least} to {MAX_DIMS} dimensions of '{tensor.name}', found {tensor.shape[:100]}")
    if tensor.packed and not (tensor.matrix and plan.packed):
        raise ValueError(f"expected '{tensor.name}' not to be packed")
    expected: list[str] = [plan.dtype if tensor.matrix else "float32"]
    if tensor.matrix and not tensor.packed:
        expected += {*plan.lossless_dtypes, plan.logits_dtype} - {plan.dtype}
    if tensor.dtype not in expected:
        raise ValueError(
            f"expected '{tensor.name}' as {' or '.join(expected)} in a build of {plan.dtype}, found {tensor.dtype}"
        )


def _check_alignment_heads(manifest: Manifest) -> None:
    """Raises ValueError unless the alignment heads are in order, each once, and exist in the graphs."""
    heads = manifest.plan.alignment_heads
    if not heads or any(left >= right for left, right in pairwise(heads)):
        raise ValueError(f"expected alignment_heads in order, each once, found {heads[:100]}")
    known = _heads("cross_", manifest.graphs["decoder"].inputs)
    for layer, head in heads:
        if layer >= len(known) or head >= known[layer][0]:
            raise ValueError(f"expected alignment_heads that the graphs have, found layer {layer}, head {head}")


def _signatures(manifest: Manifest) -> dict[str, tuple[Signature, Signature]]:
    """Returns the inputs and outputs that each graph must have, as lowering/families/whisper.py makes them.

    The numbers of heads come from the caches among the inputs of the decoder.
    """
    dims, batch = manifest.dims, manifest.plan.batch
    n_vocab, n_audio_ctx, n_text_ctx = dims["n_vocab"], dims["n_audio_ctx"], dims["n_text_ctx"]
    ports = manifest.graphs["decoder"].inputs
    cross_heads = _heads("cross_", ports)

    def caches(prefix: str, dtype: str, length: int) -> Signature:
        return [
            (f"{prefix}{part}.{i}", dtype, (batch, n, length, channels))
            for i, (n, channels) in enumerate(_heads(prefix, ports))
            for part in ("keys", "values")
        ]

    cross_kv = caches("cross_", manifest.plan.cross_kv_dtype, n_audio_ctx)
    rules: Signature = [
        ("mask", "float32", (n_vocab,)),
        ("allowed", "int64", (batch, N_BOUNDS)),
        ("noise", "float32", (batch, n_vocab)),
    ]
    state = [*rules, *caches("self_", "float32", n_text_ctx), *cross_kv]
    position: Signature = [("position", "int64", ())]
    scalars = [*position, ("first_scored", "int64", ()), ("no_speech", "int64", ())]
    features: Signature = [("features", "float32", (batch, n_audio_ctx, dims["d_model"]))]
    chosen: Signature = [("token", "int64", (batch, 1)), ("logprob", "float32", (batch, 1))]
    aligned = Counter(layer for layer, _ in manifest.plan.alignment_heads)
    queries = [(f"queries.{i}", "float32", (batch, None, cross_heads[i][0] * cross_heads[i][1])) for i in aligned]
    scored: Signature = [
        ("no_speech_prob", "float32", (batch, 1)),
        ("logits", "float32", (batch, None, n_vocab)),
    ]
    scores: Signature = [(f"scores.{i}", "float32", (batch, n, None, n_audio_ctx)) for i, n in aligned.items()]
    return {
        "encoder": ([("mel", "float32", (batch, dims["n_mels"], dims["n_frames"]))], features),
        "cross_kv": (features, cross_kv),
        "decoder": ([("tokens", "int64", (batch, None)), *scalars, *state], [*chosen, *scored, *queries]),
        "step": ([("tokens", "int64", (batch, 1)), *position, *state], chosen),
        "alignment": ([*queries, *(cross_kv[2 * i] for i in aligned)], scores),
    }


def _heads(prefix: str, ports: Iterable[Port]) -> list[tuple[int, int]]:
    """Returns the number of heads, and the channels of a head, of each attention, from the shape of its cached keys."""
    heads = []
    for port in ports:
        if port.name.startswith(f"{prefix}keys."):
            shape = shape_of(port)
            if len(shape) != 4 or not shape[1] or not shape[3]:
                raise ValueError(f"expected [batch, heads, length, channels] of '{port.name}', found {port.shape}")
            heads.append((shape[1], shape[3]))
    return heads


def _check_ports(where: str, expected: Signature, ports: Sequence[Port]) -> None:
    """Raises ValueError unless the ports of a graph are the expected ones."""
    if len(expected) != len(ports):
        raise ValueError(f"{where}s: expected {len(expected)}, found {len(ports)}")
    for number, ((name, dtype, shape), port) in enumerate(zip(expected, ports, strict=True)):
        if (name, dtype, shape) != (port.name, port.dtype, shape_of(port)):
            raise ValueError(
                f"{where} {number}: expected '{name}' as {dtype} {_format(shape)}, found '{port.name}' as {port.dtype} "
                f"{_format(shape_of(port))}"
            )


def _format(shape: Shape) -> str:
    return "[" + ", ".join("any" if dim is None else str(dim) for dim in shape) + "]"
