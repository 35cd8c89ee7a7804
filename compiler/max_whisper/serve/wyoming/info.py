"""Describes the models of the server as Wyoming's `info` does."""

from __future__ import annotations

from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.artifact.read import read_manifest
from max_whisper.serve.pool import Entry, ModelPool
from max_whisper.serve.version import PROGRAM, program_version


def info_event(pool: ModelPool) -> Event:
    """Returns the answer to `describe`, which reads the manifests of all models, and loads none."""
    program = AsrProgram(
        name=PROGRAM,
        attribution=Attribution(PROGRAM, ""),
        installed=True,
        description="Whisper, compiled ahead of time",
        version=program_version(),
        models=[_model(entry) for entry in pool.entries],
        supports_transcript_streaming=True,
    )
    return Info(asr=[program]).event()


def _model(entry: Entry) -> AsrModel:
    manifest = read_manifest(entry.folder)
    assert isinstance(manifest, WhisperManifest)  # the pool has no other
    spec, repository = manifest.plan.spec.name, manifest.source.repo
    origin = Attribution(repository, f"https://huggingface.co/{repository}") if repository else Attribution(spec, "")
    return AsrModel(
        name=entry.name,
        attribution=origin,
        installed=True,
        description=f"{spec}, {manifest.plan.dtype}",
        version=manifest.builder,
        languages=[*(manifest.tokens.languages or ("en",))],
    )
