"""Loads the models of a command, and compiles those that are not compiled yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from max_whisper.cli.group import current
from max_whisper.cli.progress import reporting
from max_whisper.errors import SpecError, UserError
from max_whisper.files import expanded, is_folder
from max_whisper.runtime.transcription.part_options import PartOptions

if TYPE_CHECKING:
    from max_whisper.runtime.model import Model


def load_model(name: str, offline: bool) -> Model:
    """Returns the model of an artifact's folder, or of a spec, which is built to its default folder unless it is there.

    Raises MaxWhisperError where there is no such model, it cannot be built, or its artifact is refused.
    """
    with current().interrupts.held():  # a signal while MAX is imported would end the process by another one
        from max_whisper.runtime.model import load

    return load(artifact_folder(name, offline))


def artifact_folder(name: str, offline: bool) -> Path:
    """Returns the folder of an artifact: the folder itself, or that of a spec, which is built unless it is there.

    Args:
        name: The folder, or the file or name of a spec.
        offline: Whether a build must not connect to the Hub.

    Raises:
        MaxWhisperError: There is no such model, or it cannot be built.
    """
    folder = expanded(name)
    if not is_folder(folder):
        with current().interrupts.held():  # a signal while MAX is imported would end the process by another one
            from max_whisper.artifact.manifest import MANIFEST_FILE
            from max_whisper.compile.build import build as build_artifact
            from max_whisper.compile.build import default_folder
            from max_whisper.spec import load_spec
            from max_whisper.spec.family import DEFAULT

        if folder.suffix not in (".yaml", ".yml") and len(folder.parts) > 1:
            raise UserError(f"there is no folder {folder}: make it with max-whisper build --spec SPEC --out {folder}")
        try:
            family = load_spec(name).family
        except SpecError as error:
            if folder.suffix in (".yaml", ".yml"):
                raise
            raise UserError(f"--model {name}: there is no such folder with an artifact, nor a spec; {error}") from error
        if family != DEFAULT:
            raise UserError(f"--model {name}: it is a spec of the family {family}, which does not transcribe")
        folder = default_folder(name)
        if not (folder / MANIFEST_FILE).exists():
            with reporting(f"building {folder}, for the first time") as progress:
                build_artifact(name, out=folder, offline=offline, progress=progress)
    return folder


def prepare_detector(parts: PartOptions) -> None:
    """Finds the voice detector that a transcription needs, and compiles it, with progress, if it is not there yet.

    Raises MaxWhisperError where there is none, where it cannot be compiled, or where options conflict.
    """
    parts.check()
    if parts.detector == "silero":
        prepare_silero(parts.vad_model)


def prepare_silero(folder: str | os.PathLike[str] | None, instead: str | None = None) -> None:
    """Finds Silero VAD, and compiles it, with progress, if it is not in the cache yet.

    folder: that of a detector to take in its place. instead: what the user may do without one, for messages. Raises
    MaxWhisperError where there is none, or it cannot be compiled.
    """
    with current().interrupts.held():
        from max_whisper.runtime.vad.cached import BY_LOUDNESS, find_detector, is_cached

    if folder is not None or is_cached():
        find_detector(folder)
        return
    with reporting("compiling the voice detector, for the first time") as progress:
        find_detector(None, progress, instead or BY_LOUDNESS)
