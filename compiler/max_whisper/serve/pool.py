"""Loads models when they are asked for, and frees their memory when they have rested for a while."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from max_whisper.artifact.manifest import MANIFEST_FILE, WhisperManifest
from max_whisper.artifact.read import read_manifest
from max_whisper.errors import ArtifactError, UserError
from max_whisper.messages import quote, suggestion
from max_whisper.runtime.model import Model, load
from max_whisper.serve.errors import RequestError

OPENAI_NAME = "whisper-1"
"""The name of OpenAI's own Whisper, which clients send by default; it stands for the first model."""
CHECK_SECONDS = 1.0
"""The seconds between two looks at what rests."""


@dataclass
class Entry:
    """A model of the server, which is loaded or not.

    Attributes:
        name: What requests call it.
        folder: The folder of its artifact.
        created: When the artifact was made, in seconds since 1970.
        model: The model; None while it is not loaded.
        users: The number of requests that use it.
        rests_since: When the last of them ended, by `time.monotonic`.
        loading: What loads the model, for all who wait for it; None while nothing does.
    """

    name: str
    folder: Path
    created: int
    model: Model | None = None
    users: int = 0
    rests_since: float = 0.0
    loading: asyncio.Task[None] | None = None


class ModelPool:
    """The models of the server by their names. Its methods belong to the event loop; loading does not block that."""

    def __init__(
        self,
        folders: Mapping[str, Path],
        unload_after: float | None,
        changed: Callable[[str, float | None], None] = lambda name, seconds: None,
    ) -> None:
        """Takes the folders of the artifacts by name, the first of which is the default.

        unload_after: the seconds of rest after which a model is freed; None keeps all. changed: called with the name of
        a model that was loaded and the seconds that it took, or that was freed and None.
        """
        self._entries = {name: _entry(name, folder) for name, folder in folders.items()}
        self._unload_after = unload_after
        self._changed = changed

    @property
    def entries(self) -> list[Entry]:
        """The models in the order in which they were given; the first is the default."""
        return [*self._entries.values()]

    @property
    def default(self) -> Entry:
        """The model of requests that name none."""
        return self.entries[0]

    def entry(self, name: str | None) -> Entry:
        """Returns the model of a name; "whisper-1" and None stand for the default.

        Raises RequestError, with status 404 as OpenAI's API has it, for a name that is none.
        """
        if name is None:
            return self.default
        if name in self._entries:
            return self._entries[name]
        if name == OPENAI_NAME:
            return self.default
        known = ", ".join(self._entries)
        raise RequestError(
            404,
            f"The model {quote(name)} does not exist on this server, expected one of {known} or {OPENAI_NAME}"
            f"{suggestion(name, self._entries)}",
            param="model",
            code="model_not_found",
        )

    def preload(self) -> None:
        """Loads the default model in this thread, before the event loop runs.

        Raises MaxWhisperError where its artifact is refused.
        """
        entry, started = self.default, time.monotonic()
        entry.model, entry.rests_since = load(entry.folder), time.monotonic()
        self._changed(entry.name, time.monotonic() - started)

    @asynccontextmanager
    async def lease(self, entry: Entry) -> AsyncIterator[Model]:
        """Yields a model, which is loaded first if need be, and stays loaded for the time of the block.

        Who is cancelled need not wait for the end of loading. Raises MaxWhisperError where its artifact is refused.
        """
        entry.users += 1
        try:
            while entry.model is None:
                if entry.loading is None:
                    entry.loading = asyncio.ensure_future(self._load(entry))
                await asyncio.shield(entry.loading)
            yield entry.model
        finally:
            entry.users -= 1
            entry.rests_since = time.monotonic()

    async def _load(self, entry: Entry) -> None:
        started = time.monotonic()
        try:
            entry.model = await asyncio.to_thread(_load, entry)
            entry.rests_since = time.monotonic()
            self._changed(entry.name, entry.rests_since - started)
        finally:
            entry.loading = None

    async def free_what_rests(self) -> None:
        """Frees models that have rested for long enough, until it is cancelled."""
        while self._unload_after is not None:
            await asyncio.sleep(min(CHECK_SECONDS, max(self._unload_after / 2, 0.05)))
            for entry in self.entries:
                rested = time.monotonic() - entry.rests_since
                if entry.model is not None and entry.users == 0 and rested >= self._unload_after:
                    freed, entry.model = [entry.model], None
                    self._changed(entry.name, None)  # at once: while it is freed, a request may load it again
                    await asyncio.to_thread(_free, freed)


def _entry(name: str, folder: Path) -> Entry:
    """Returns a model that is not loaded. Raises ArtifactError for a folder without one that can be served."""
    manifest = read_manifest(folder)
    if not isinstance(manifest, WhisperManifest):
        raise UserError(f"{folder}: it is an artifact of the family {manifest.family}, which does not transcribe")
    return Entry(name, folder, int((folder / MANIFEST_FILE).stat().st_mtime))


def _free(models: list[Model]) -> None:
    """Frees models that nobody else holds."""
    models.clear()
    gc.collect()  # the parts of a model refer to each other


def _load(entry: Entry) -> Model:
    """Loads a model. An artifact that is gone since the server started is no mistake of the client's."""
    try:
        return load(entry.folder)
    except UserError as error:
        raise ArtifactError(str(error)) from error
