"""A checkpoint: a source of weights that is checked against a spec, and the files that came with it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import MaxWhisperError, UserError, WeightsError
from max_whisper.files import expanded, is_folder, is_there
from max_whisper.messages import nearest, printable, quote
from max_whisper.progress import OnProgress, ignore_progress
from max_whisper.tensors.cast import lossless, to_bfloat16, to_float32
from max_whisper.tensors.dtypes import FLOAT32, FLOAT_DTYPES, ComputeDtype
from max_whisper.weights.hub import fetch
from max_whisper.weights.hub_files import VOCABULARIES
from max_whisper.weights.source import TensorSource, open_source

FileFinder = Callable[[str], "Path | None"]

TIED, EMBEDDING = "proj_out.weight", "model.decoder.embed_tokens.weight"  # in the names of specs
FLOATS = " or ".join(dtype.name for dtype in FLOAT_DTYPES)
SHOWN = 4  # names of each kind in an error message, at most
COMPARED = 2000  # names among which a similar one is searched, at most


def open_checkpoint(
    weights: str | Path | None,
    *,
    repo: str | None = None,
    revision: str | None = None,
    folder: Path | None = None,
    offline: bool = False,
    progress: OnProgress = ignore_progress,
) -> Checkpoint:
    """Returns the checkpoint that `weights` names; only headers are read.

    weights: a Hub repository ("openai/whisper-tiny"), or a folder or file in one of the formats. A path that exists
        wins over a repository of the same name. None is the spec's own source: `folder`, else `repo`.
    revision: of the Hub repository that is read; None is its main branch.
    offline, progress: see `hub.fetch`.

    Raises UserError for a source that does not exist, WeightsError for a broken one, HubError if the Hub fails.
    """
    chosen = folder if weights is None else weights
    if chosen is not None:
        if chosen == "":
            raise UserError("no weights: expected a Hub repository, a folder or a safetensors file, got an empty name")
        path = expanded(chosen)
        if is_folder(path):
            return Checkpoint(open_source(path))
        if is_there(path):
            source = open_source(path)
            return Checkpoint(source, files=_with_fallback(source, folder, repo, revision, offline, progress))
        if isinstance(chosen, Path) or _looks_like_path(chosen):
            raise UserError(
                f"there is no file or folder {path}: give one, or a Hub repository like openai/whisper-tiny"
            )
        repo = chosen
    if repo is None:
        raise UserError("no weights: the spec names no source; give a Hub repository, a folder or a safetensors file")
    snapshot = fetch(repo, revision, offline=offline, progress=progress)
    return Checkpoint(open_source(snapshot.folder), repo=snapshot.repo, commit=snapshot.commit)


class Checkpoint:
    """The tensors of a source by the names of specs, and the files that came with them.

    repo, commit: where it is from, if that is the Hub; the commit has 40 hexadecimal digits.
    """

    def __init__(
        self,
        source: TensorSource,
        *,
        files: FileFinder | None = None,
        repo: str | None = None,
        commit: str | None = None,
    ) -> None:
        """Takes the tensors of a source, and its files unless `files` finds them elsewhere."""
        self.source = source
        self.repo = repo
        self.commit = commit
        self._find_file = files or source.file
        self._names = frozenset(source.names())

    def describe(self) -> str:
        """Returns a few words that say where the checkpoint is from, for messages."""
        return printable(self.source if self.commit is None else f"{self.repo} (commit {self.commit[:12]})")

    def file(self, name: str) -> Path | None:
        """Returns a file that came with the weights, such as "vocab.json"; None if there is no such file.

        For a single file of weights without a vocabulary beside it, the files are those of the spec's source; if there
        is none, or it cannot be read, this raises WeightsError, UserError or HubError.
        """
        return self._find_file(name)

    def beside(self, name: str) -> Path | None:
        """Returns a file in the folder of the weights, so that it describes these; None if there is none."""
        return self.source.file(name)

    def check(self, expected: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        """Refuses the checkpoint unless it holds exactly these tensors, by name and shape, in a float dtype.

        An unexpected tensor is an error, because it is part of a model that the spec does not describe (a layer more,
        an adapter); `proj_out.weight`, the copy of the token embedding that some checkpoints carry, is not, as long as
        it is equal to the embedding.

        Raises WeightsError with the number of differences of each kind, and the first SHOWN of each.
        """
        missing, wrong, matched = [], [], set()
        for name, shape in expected:
            stored = self._find(name)
            if stored is None:
                missing.append((name, shape))
                continue
            matched.add(stored)
            info = self.source.info(stored)
            if tuple(info.shape) != tuple(shape):
                wrong.append(f"{quote(name)} expected in shape {list(shape)}, found {list(info.shape)}")
            elif info.dtype not in FLOAT_DTYPES:
                wrong.append(f"{quote(name)} expected as {FLOATS}, found {info.dtype.name}")
        unexpected = [name for name in self.source.names() if name not in matched]
        tied, embedding = self.source.renames.renamed(TIED), self._find(EMBEDDING)
        if tied in unexpected and embedding is not None and embedding in matched:
            unexpected.remove(tied)
            self._check_tied(tied, embedding)
        if not (missing or unexpected or wrong):
            return
        counts = {"missing": len(missing), "unexpected": len(unexpected), "of another shape or dtype": len(wrong)}
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        rename = self.source.renames.renamed
        wanted = [rename(name) for name, _ in missing]
        absent = [f"{quote(n)} {list(shape)}{_near(rename(n), unexpected)}" for n, shape in missing[:SHOWN]]
        foreign = [f"{quote(n)}{_near(n, wanted)}" for n in unexpected[:SHOWN]]
        raise WeightsError(
            f"{self.describe()} does not fit the spec: tensors {summary}"
            f"{_listed('missing', absent, missing)}{_listed('unexpected', foreign, unexpected)}"
            f"{_listed('different', wrong[:SHOWN], wrong)}"
        )

    def read(self, name: str, dtype: ComputeDtype) -> NDArray[Any]:
        """Returns a tensor in the source's shape, as float32 or as the uint16 bits of bfloat16 (rounded, ties to even).

        The array may be a view of the file. Raises WeightsError for a tensor that is not there, of a dtype that is no
        float, or that holds NaN, infinities or, for bfloat16, elements that are too large: such a model could not work.
        """
        stored = self._find(name)
        if stored is None:
            raise WeightsError(f"{self.describe()} has no tensor {quote(name)}")
        info = self.source.info(stored)
        where = f"tensor {quote(stored)} in {info.file}"
        if info.dtype not in FLOAT_DTYPES:
            raise WeightsError(f"{where} is {info.dtype.name}: expected {FLOATS}")
        given = self.source.read(stored)
        if not isinstance(given, np.ndarray) or (given.dtype, given.shape) != (info.dtype.numpy, tuple(info.shape)):
            found = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
            raise WeightsError(
                f"{where}: the format '{type(self.source).__name__}' says that it is {info.dtype.name} "
                f"{tuple(info.shape)}, and reads {found}: correct its `info` or its `read`"
            )
        array = to_float32(given, info.dtype)
        broken = array.size - np.count_nonzero(np.isfinite(array))
        if broken:
            raise WeightsError(f"{where}: {broken} of {array.size} elements are NaN or infinite; get the file again")
        if dtype == FLOAT32.name:
            return np.require(array, requirements=["ALIGNED"])
        bits = to_bfloat16(array)
        if np.any((bits & 0x7FFF) == 0x7F80):
            raise WeightsError(f"{where} has elements too large for bfloat16: build with float32")
        return bits

    def lossless(self, names: Iterable[str]) -> dict[str, str]:
        """Returns, by name, the 16-bit dtype that holds a tensor without loss, where one does: see `cast.lossless`."""
        dtypes = {name: lossless(self.read(name, "float32")) for name in names}
        return {name: dtype.name for name, dtype in dtypes.items() if dtype}

    def _find(self, name: str) -> str | None:
        """Returns the name that a tensor of the spec has in the source, or None."""
        return next((n for n in self.source.renames.candidates(name) if n in self._names), None)

    def _check_tied(self, tied: str, embedding: str) -> None:
        """Refuses a checkpoint whose output projection is not the token embedding: the spec's logits would be wrong."""
        one, other = self.source.info(tied), self.source.info(embedding)
        if one.dtype == other.dtype and np.array_equal(self.source.read(tied), self.source.read(embedding)):
            return
        raise WeightsError(
            f"{self.describe()} is not tied: {tied!r} ({one.dtype.name} {list(one.shape)}) differs from "
            f"{embedding!r} ({other.dtype.name} {list(other.shape)}), but the spec uses one for both"
        )


def _with_fallback(
    source: TensorSource,
    folder: Path | None,
    repo: str | None,
    revision: str | None,
    offline: bool,
    progress: OnProgress,
) -> FileFinder:
    """Returns a function that finds the files of a single file of weights: beside it, or else in the spec's source."""

    @functools.cache
    def finder() -> FileFinder:
        if any(source.file(name) for name in VOCABULARIES):
            return source.file
        lacking = f"{source.path} has no vocabulary beside it ({' or '.join(VOCABULARIES)})"
        if folder is not None:
            return _files_of(folder)
        if repo is None:
            raise WeightsError(f"{lacking}, and the spec names no source: put the checkpoint's files there")
        try:
            return _files_of(fetch(repo, revision, weights=False, offline=offline, progress=progress).folder)
        except MaxWhisperError as e:
            raise type(e)(f"{lacking}, and that of the spec's source is not available: {e}") from e

    return lambda name: finder()(name)


def _files_of(folder: Path) -> FileFinder:
    """Returns a function that finds files in a folder by name, and whatever else has the name: reading that fails."""
    return lambda name: folder / name if is_there(folder / name) else None


def _looks_like_path(text: str) -> bool:
    """Returns whether a string that names nothing here was meant as a path; repositories are called `owner/name`."""
    return text.startswith((".", "/", "~")) or text.count("/") > 1 or text.endswith(".safetensors")


def _listed(kind: str, shown: list[str], items: Sequence[Any]) -> str:
    """Returns a part of an error message: the first items of a kind, and how many more there are."""
    more = f" and {len(items) - len(shown)} more" if len(items) > len(shown) else ""
    return f"; {kind}: {', '.join(shown)}{more}" if items else ""


def _near(name: str, others: Iterable[str]) -> str:
    """Returns a hint at the most similar of the other names, if one is similar."""
    match = nearest(name, (other[:100] for other in itertools.islice(others, COMPARED)))
    return f" (near: {match})" if match else ""
