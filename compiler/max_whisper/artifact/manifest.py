"""The records of manifest.json, which describes an artifact, and lists everything that must hold for it to run."""

from __future__ import annotations

from typing import Annotated

import msgspec
from blake3 import blake3

from max_whisper.plan import BuildPlan
from max_whisper.records import Dim, Hash, Identifier, Name, Natural, Record
from max_whisper.tokens import Tokens

MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.safetensors"
VOCABULARY_FILE = "vocab.tiktoken"
SPEC_FILE = "spec.json"

MANIFEST_VERSION = 7
"""The version of the format, which every incompatible change of the format raises by one."""
WHISPER, VAD = "whisper", "vad"
"""The families of models; a manifest that names none is a Whisper's."""
NO_HASH = "0" * 64
"""The place of the manifest's own hash while that is computed."""


class Source(Record, frozen=True, omit_defaults=True):
    """The origin of the weights.

    Attributes:
        repo: The Hub repository, with the name of the file if only one was read; None for a local folder or file.
        commit: The commit of the repository; None for a local folder or file.
        package: The Python package with its version; None for any other origin.
    """

    repo: Name | None
    commit: Identifier | None
    package: Name | None = None


class File(Record, frozen=True):
    """A file of the artifact.

    Attributes:
        size: Its size in bytes.
        blake3: The BLAKE3 of its content.
    """

    size: Natural
    blake3: Hash


class Port(Record, frozen=True):
    """An input or an output of a graph.

    Attributes:
        name: Its name.
        dtype: Its dtype, as MAX names it.
        shape: Its dimensions: a number, or the name of a dimension that varies.
    """

    name: Name
    dtype: Identifier
    shape: Annotated[list[Dim | Name], msgspec.Meta(max_length=8)]


class Graph(Record, frozen=True):
    """A compiled graph.

    Attributes:
        file: The MEF file that holds it.
        inputs: Its inputs, in order.
        outputs: Its outputs, in order.
    """

    file: Name
    inputs: list[Port]
    outputs: list[Port]


class Manifest(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The content of manifest.json, as far as it is the same for each family of models.

    It holds no time and no path, so that equal inputs make equal bytes.

    Attributes:
        manifest_version: The version of the format.
        hash: The BLAKE3 of the file, with NO_HASH in place of the hash itself.
        builder: The version of max-whisper that built the artifact.
        max: The version of MAX that compiled the graphs; only the same version can run them.
        family: The family of the model; a manifest of a Whisper does not name it.
        plan: The plan of the build: its machine, and how each tensor of weights.safetensors is stored.
        source: The origin of the weights.
        dims: The dimensions of the spec and, for a Whisper, `n_frames`.
        graphs: The compiled graphs, by name.
        files: All files of the artifact but this one, by name.
    """

    manifest_version: Annotated[int, msgspec.Meta(ge=1)]
    hash: Hash
    builder: Identifier
    max: Identifier
    family: Name = WHISPER
    plan: BuildPlan
    source: Source
    dims: dict[Name, Dim]
    graphs: dict[Name, Graph]
    files: dict[str, File]

    def sealed(self) -> bytes:
        """Returns the content of the file, with its hash filled in."""
        text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(self, hash=NO_HASH)), indent=1) + b"\n"
        return text.replace(NO_HASH.encode(), blake3(text).hexdigest().encode(), 1)


class WhisperManifest(Manifest, frozen=True, kw_only=True, omit_defaults=True):
    """The manifest of a Whisper.

    Attributes:
        tokens: The special tokens, and the decoding rules.
    """

    tokens: Tokens
