"""The artifact of a Whisper: its files, its graphs, and what must hold between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from max_whisper.artifact.family import ArtifactFamily, Signature, Signatures, register, shape_of
from max_whisper.artifact.manifest import VOCABULARY_FILE, WHISPER, Port, WhisperManifest
from max_whisper.errors import ArtifactError
from max_whisper.tokens import N_BOUNDS, Tokens

MAX_TOKEN_BYTES = 1 << 10
"""The most bytes of a line of the vocabulary, on average."""


def check(manifest: WhisperManifest) -> None:
    """Raises ValueError where the vocabulary, the special tokens or the alignment heads do not fit the model."""
    limit, size = MAX_TOKEN_BYTES * manifest.dims["n_vocab"], manifest.files[VOCABULARY_FILE].size
    if size > limit:
        raise ValueError(f"expected at most {limit} bytes of {VOCABULARY_FILE}, found {size}")
    check_tokens(manifest.tokens, manifest.dims["n_vocab"])
    _check_alignment_heads(manifest)


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


def _check_alignment_heads(manifest: WhisperManifest) -> None:
    """Raises ValueError unless the alignment heads are in order, each once, and exist in the graphs."""
    heads = manifest.plan.alignment_heads
    if not heads or any(left >= right for left, right in pairwise(heads)):
        raise ValueError(f"expected alignment_heads in order, each once, found {heads[:100]}")
    known = _heads("cross_", manifest.graphs["decoder"].inputs)
    for layer, head in heads:
        if layer >= len(known) or head >= known[layer][0]:
            raise ValueError(f"expected alignment_heads that the graphs have, found layer {layer}, head {head}")


def signatures(manifest: WhisperManifest) -> Signatures:
    """Returns the inputs and outputs that each graph must have, as lowering/families/whisper.py makes them.

    The numbers of heads come from the caches among the inputs of the decoder.
    """
    dims, batch = manifest.dims, manifest.plan.batch
    n_vocab, n_audio_ctx, n_text_ctx = dims["n_vocab"], dims["n_audio_ctx"], dims["n_text_ctx"]
    ports = manifest.graphs["decoder"].inputs
    cross_heads = _heads("cross_", ports)

    def caches(prefix: str, dtype: str, rows: int | None, length: int) -> Signature:
        signature: Signature = []
        for i, (n, channels) in enumerate(_heads(prefix, ports)):
            for part in ("keys", "values"):
                signature.append((f"{prefix}{part}.{i}", dtype, (rows, n, length, channels)))
                if dtype == "int8":
                    signature.append((f"{prefix}{part}_scales.{i}", "float32", (rows, n, length)))
        return signature

    cross_kv = caches("cross_", manifest.plan.cross_kv_dtype, batch, n_audio_ctx)
    texts, length = (None, None) if manifest.plan.several_texts else (batch, 1)
    state = [*caches("self_", "float32", texts, n_text_ctx), *cross_kv]

    def rules(chosen: int | None) -> Signature:
        return [
            ("mask", "float32", (n_vocab,)),
            ("allowed", "int64", (texts, chosen, N_BOUNDS)),
            ("noise", "float32", (texts, chosen, n_vocab)),
        ]

    def next_tokens(chosen: int | None) -> Signature:
        return [("token", "int64", (texts, chosen)), ("logprob", "float32", (texts, chosen))]

    position: Signature = [("position", "int64", ())]
    scalars = [*position, ("first_scored", "int64", ()), ("no_speech", "int64", ())]
    features: Signature = [("features", "float32", (batch, n_audio_ctx, dims["d_model"]))]
    aligned = Counter(layer for layer, _ in manifest.plan.alignment_heads)
    keys = [port for i in aligned for port in cross_kv if port[0] in (f"cross_keys.{i}", f"cross_keys_scales.{i}")]

    def queries(rows: int | None) -> Signature:
        return [(f"queries.{i}", "float32", (rows, None, cross_heads[i][0] * cross_heads[i][1])) for i in aligned]

    scored: Signature = [
        ("no_speech_prob", "float32", (texts, 1)),
        ("logits", "float32", (texts, None, n_vocab)),
    ]
    scores: Signature = [(f"scores.{i}", "float32", (batch, n, None, n_audio_ctx)) for i, n in aligned.items()]
    return {
        "encoder": ([("mel", "float32", (batch, dims["n_mels"], dims["n_frames"]))], features),
        "cross_kv": (features, cross_kv),
        "decoder": (
            [("tokens", "int64", (texts, None)), *scalars, *rules(1), *state],
            [*next_tokens(1), *scored, *queries(texts)],
        ),
        "step": ([("tokens", "int64", (texts, length)), *position, *rules(length), *state], next_tokens(length)),
        "alignment": ([*queries(batch), *keys], scores),
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


def check_files(folder: Path, manifest: WhisperManifest) -> None:
    """Raises ArtifactError unless there is a line for each text token; the tokenizer checks the lines themselves."""
    path, expected = folder / VOCABULARY_FILE, manifest.tokens.eot
    lines = path.read_bytes().count(b"\n")
    if lines != expected:
        raise ArtifactError(f"{path}: expected {expected} tokens, found {lines}; build the artifact again")


register(
    ArtifactFamily(
        name=WHISPER,
        manifest=WhisperManifest,
        files=(VOCABULARY_FILE,),
        graphs={
            "encoder": "encoder.mef",
            "cross_kv": "encoder.mef",
            "decoder": "decoder.mef",
            "step": "decoder.mef",
            "alignment": "decoder.mef",
        },
        first_graphs=("encoder", "cross_kv"),
        dims=("n_mels", "n_frames", "n_audio_ctx", "d_model", "n_vocab", "n_text_ctx"),
        check=check,
        signatures=signatures,
        check_files=check_files,
    )
)
