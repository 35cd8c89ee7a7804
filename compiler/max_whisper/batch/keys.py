"""Makes the key of a result, which is the same wherever and whenever the same recording is transcribed in the same way.

A key is the hash of what the text depends on: the bytes of the recording, the artifact, and the options. Where the
recording lies, its name, the number of processes and the format of the results are no part of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from max_whisper.artifact.read import read_manifest
from max_whisper.files import expanded, open_regular
from max_whisper.options import options_of
from max_whisper.runtime.decoding.languages import language_code
from max_whisper.runtime.transcription.options import RECORDING_OPTIONS
from max_whisper.tokens import LANGUAGES

SAME_TEXT = ("draft", "explain", "token_logprobs")
"""The options that change neither the text nor anything else of a row."""
_CHUNK = 1 << 20


def content_hash(source: str | os.PathLike[str] | bytes) -> str:
    """Returns the BLAKE3 of a recording in hexadecimal.

    A file is read piece by piece, and not mapped: one that is cut short meanwhile would end the process.

    Args:
        source: The path of a regular file, or all of its bytes.

    Raises:
        OSError: The file cannot be read; `strerror` says why.
    """
    if isinstance(source, bytes):
        return blake3(source).hexdigest()
    content = blake3()
    with open_regular(Path(source)) as file:
        while data := file.read(_CHUNK):
            content.update(data)
    return content.hexdigest()


def run_hash(artifact: str | os.PathLike[str], options: Mapping[str, Any]) -> str:
    """Returns the hash of an artifact and the options of a transcription, in hexadecimal.

    Options that have their default values have no part in it, so that an option that a later version adds changes no
    key. Nor have those that change no text.

    Args:
        artifact: The folder of the artifact.
        options: Those of `Model.transcribe`, by name.

    Raises:
        UserError: There is no such option, or a value is wrong.
        ArtifactError: The manifest of the artifact, or of the folder that `vad_model` names, cannot be read.
    """
    changed: dict[str, Any] = {}
    for given in options_of(options, *RECORDING_OPTIONS):
        default = type(given)()
        values = {name: getattr(given, name) for name in given.declared if name not in SAME_TEXT}
        changed |= {name: value for name, value in values.items() if value != getattr(default, name)}
    if "language" in changed:  # "de", "German" and "Deutsch" are one
        changed["language"] = language_code(changed["language"], LANGUAGES)
    if "vad_model" in changed:
        changed["vad_model"] = read_manifest(expanded(changed["vad_model"])).hash
    return blake3(
        msgspec.json.encode([read_manifest(expanded(artifact)).hash, changed], order="deterministic")
    ).hexdigest()


def key_of(content: str, run: str) -> str:
    """Returns the key of a result, 64 hexadecimal digits.

    Args:
        content: The hash of the recording, which `content_hash` returned.
        run: The hash of the artifact and the options, which `run_hash` returned.
    """
    return blake3(f"{content} {run}".encode()).hexdigest()
