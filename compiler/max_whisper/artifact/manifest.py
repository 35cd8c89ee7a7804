"""manifest.json: what an artifact is, and everything that must hold for it to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from blake3 import blake3

from max_whisper.errors import ArtifactError

FILE = "manifest.json"
VERSION = 4
MAX_BYTES = 16 << 20  # a manifest of large-v3 has 0.2 MB

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
UNSEALED = "0" * 64


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Immutable; reading refuses what it does not know."""


class Target(Record, frozen=True):
    """The machine that the code was compiled for."""

    device: str  # "cpu", "cuda" or "hip"
    arch: str  # "x86_64", "aarch64"; of a GPU as its maker calls it: "sm_90a", "gfx942"
    features: list[str]  # of the CPU, as Linux calls them, that the code may use

    def __str__(self) -> str:
        return self.arch if self.device == "cpu" else f"{self.device}:{self.arch}"


class SpecName(Record, frozen=True):
    name: str
    hash: str  # sha256 of its canonical form


class Source(Record, frozen=True):
    """Where the weights came from; neither for a local folder or file."""

    repo: str | None
    commit: str | None


class File(Record, frozen=True):
    size: Natural
    blake3: Hash


class Tensor(Record, frozen=True):
    """One of weights.safetensors."""

    name: str
    dtype: str  # "F32", "BF16" or "I8"
    shape: list[Natural]


class Port(Record, frozen=True):
    """An input or output of a graph."""

    name: str
    dtype: str
    shape: list[int | str]  # a name is a dimension that may vary


class Graph(Record, frozen=True):
    file: str
    inputs: list[Port]
    outputs: list[Port]


class Tokens(Record, frozen=True):
    """Ids of the special tokens and the decoding rules of one vocabulary, all from the checkpoint's files."""

    eot: Natural
    sot: Natural
    translate: Natural
    transcribe: Natural
    startoflm: Natural
    startofprev: Natural
    nospeech: Natural
    notimestamps: Natural
    timestamp_begin: Natural
    n_timestamps: Natural  # from 0.00 s on, one every 20 ms
    max_initial_timestamp: Natural  # the latest that may come first, counted from 0.00 s on
    languages: dict[str, Natural]  # code -> id in id order; empty for an English-only model
    suppress: list[Natural]  # never chosen
    begin_suppress: list[Natural]  # not chosen as the first token
    logprob_threshold: float  # a text of a lower average is unlikely


HALVES = {"F16": "float16", "BF16": "bfloat16"}
REQUIRED_DIMS = ("n_mels", "n_frames", "n_audio_ctx", "d_model", "n_vocab", "n_text_ctx")


class Manifest(Record, frozen=True):
    """Everything that loading checks. It holds no time and no path, so that equal inputs give equal bytes."""

    manifest_version: Annotated[int, msgspec.Meta(ge=1)]
    hash: Hash  # BLAKE3 of this file with zeros in place of the hash itself
    builder: str  # version of max-whisper
    max: str  # version of MAX, which must be the same to run
    target: Target
    spec: SpecName
    source: Source
    dtype: str  # of matrices: "float32", "bfloat16" or "int8"
    batch: Annotated[int, msgspec.Meta(ge=1)]  # windows computed at once
    dims: dict[str, Natural]  # of the spec, n_frames among them
    tokens: Tokens
    alignment_heads: list[tuple[Natural, Natural]]  # (layer, head) of the cross-attention that give words their times
    graphs: dict[str, Graph]
    files: dict[str, File]  # every file of the folder but this one
    tensors: list[Tensor]

    def __post_init__(self) -> None:
        """The runtime relies on these."""
        for name in REQUIRED_DIMS:
            if name not in self.dims:
                raise ValueError(f"expected a dimension '{name}'")
        tokens = self.tokens
        ids = [tokens.eot, tokens.sot, tokens.translate, tokens.transcribe, tokens.notimestamps]
        last = max([*ids, *tokens.languages.values(), *tokens.suppress, *tokens.begin_suppress])
        if last >= self.dims["n_vocab"]:
            raise ValueError(f"expected token ids below {self.dims['n_vocab']}, found token {last}")

    @property
    def exact_halves(self) -> dict[str, str]:
        """The tensors that have 16 bits because these hold them exactly, and their dtypes (lowering/storage.py)."""
        if self.dtype != "float32":
            return {}
        return {tensor.name: HALVES[tensor.dtype] for tensor in self.tensors if tensor.dtype in HALVES}

    def sealed(self) -> bytes:
        """The file's content, its hash filled in."""
        text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(self, hash=UNSEALED)), indent=1) + b"\n"
        return text.replace(UNSEALED.encode(), blake3(text).hexdigest().encode(), 1)


class _Version(msgspec.Struct):
    manifest_version: int


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact folder. Raises ArtifactError for one that is missing, damaged or too new."""
    path = folder / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ArtifactError(f"{path}: expected at most {MAX_BYTES} bytes; build the artifact again")
        text = path.read_bytes()
    except OSError as e:
        raise ArtifactError(f"{path}: {e.strerror}; expected the manifest of an artifact, build it again") from e
    try:
        version = msgspec.json.decode(text, type=_Version).manifest_version
        if version > VERSION:
            raise ArtifactError(
                f"{path}: manifest version {version} was written by a newer max-whisper, this one reads up to "
                f"{VERSION}; upgrade max-whisper or build the artifact again"
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ArtifactError(f"{path}: {e}; the manifest is damaged, build the artifact again") from e
    found = blake3(text.replace(manifest.hash.encode(), UNSEALED.encode(), 1)).hexdigest()
    if found != manifest.hash:
        raise ArtifactError(
            f"{path}: expected content with BLAKE3 {manifest.hash[:16]}…, found {found[:16]}…; "
            "the manifest was changed after the build, build the artifact again"
        )
    return manifest
