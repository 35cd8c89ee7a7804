"""Opens checkpoints, checks their tensors against a spec, and reads them."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import MaxWhisperError, UserError, WeightsError
from max_whisper.files import expanded, is_folder, is_there
from max_whisper.messages import nearest, printable, quote
from max_whisper.progress import OnProgress, ignore_progress
from max_whisper.spec import Spec
from max_whisper.spec.source import PackageFile
from max_whisper.tensors.cast import lossless_dtype, to_bfloat16, to_float32
from max_whisper.tensors.dtypes import FLOAT32, FLOAT_DTYPES, ComputeDtype
from max_whisper.weights.alignment import AlignmentHeads
from max_whisper.weights.hub import fetch
from max_whisper.weights.hub_files import PICKLE_ADVICE, FileFinder, is_pickle_name
from max_whisper.weights.packages import installed_file
from max_whisper.weights.source import TensorSource, open_source
from max_whisper.weights.vocabulary import Vocabulary

TIED, EMBEDDING = "proj_out.weight", "model.decoder.embed_tokens.weight"
"""The names, in specs, of the output projection of some checkpoints, and of the table that it is a copy of."""
HUB_FILE = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)/(?P<file>[\w.-]+\.(bin|safetensors))", re.ASCII)
"""One file of a Hub repository."""
FLOATS = " or ".join(dtype.name for dtype in FLOAT_DTYPES)
MAX_LISTED = 4
"""The most tensors of each kind in an error message."""


def open_checkpoint(
    weights: str | Path | None,
    *,
    repo: str | None = None,
    revision: str | None = None,
    folder: Path | None = None,
    package: PackageFile | None = None,
    offline: bool = False,
    progress: OnProgress = ignore_progress,
) -> Checkpoint:
    """Returns the checkpoint that `weights` names, of which only headers are read.

    Args:
        weights: A Hub repository ("openai/whisper-tiny"), one file of a repository that has several
            ("ggerganov/whisper.cpp/ggml-base.bin"), or a folder or file in one of the formats; a path that exists takes
            precedence over a repository of the same name. None is the spec's own source: `folder`, `package` or `repo`.
        repo: The Hub repository that the spec names, if any.
        revision: The branch, tag or commit of the Hub repository that is read; None is its main branch.
        folder: The local folder that the spec names, if any.
        package: The file of a Python package that the spec names, if any.
        offline: As for `hub.fetch`.
        progress: As for `hub.fetch`.

    Raises:
        UserError: The source does not exist.
        WeightsError: The checkpoint is broken.
        HubError: The Hub failed.
    """
    if weights is None and package is not None:
        path, version = installed_file(package)
        return Checkpoint(open_source(path), package=version)
    chosen = folder if weights is None else weights
    if chosen is not None:
        if chosen == "":
            raise UserError("no weights: expected a Hub repository, a folder or a file, got an empty name")
        path = expanded(chosen)
        if is_folder(path):
            return Checkpoint(open_source(path))
        if is_there(path):
            source = open_source(path)
            return Checkpoint(source, files=_with_fallback(source, folder, repo, revision, offline, progress))
        if isinstance(chosen, str) and (match := HUB_FILE.fullmatch(chosen)):
            if is_pickle_name(match["file"]):
                raise WeightsError(f"{chosen} is a PyTorch pickle, by its name. {PICKLE_ADVICE}")
            try:
                snapshot = fetch(match["repo"], revision, file=match["file"], offline=offline, progress=progress)
            except MaxWhisperError as e:
                raise type(e)(f"there is no file {path}; as a file of a Hub repository: {e}") from e
            source = open_source(snapshot.folder / match["file"])
            files = _with_fallback(source, folder, repo, None, offline, progress)
            return Checkpoint(source, files=files, repo=chosen, commit=snapshot.commit)
        if isinstance(chosen, Path) or _looks_like_path(chosen):
            raise UserError(
                f"there is no file or folder {path}: give one, or a Hub repository like openai/whisper-tiny"
            )
        repo = chosen
    if repo is None:
        raise UserError("no weights: the spec names no source; give a Hub repository, a folder or a file")
    snapshot = fetch(repo, revision, offline=offline, progress=progress)
    return Checkpoint(open_source(snapshot.folder), repo=snapshot.repo, commit=snapshot.commit)


class Checkpoint:
    """The tensors of a source by their names in specs, and the files that came with them.

    Attributes:
        source: The source, which has the tensors by the names of its format.
        repo: The Hub repository that it is from, if it is from the Hub; with the name of the file, if it is only one.
        commit: The commit of that repository, as 40 hexadecimal digits.
        package: The Python package that it is from, with its version, if it is from one.
    """

    def __init__(
        self,
        source: TensorSource,
        *,
        files: FileFinder | None = None,
        repo: str | None = None,
        commit: str | None = None,
        package: str | None = None,
    ) -> None:
        """Makes a checkpoint of a source; `files` finds its other files, if these are elsewhere."""
        self.source = source
        self.repo = repo
        self.commit = commit
        self.package = package
        self._find_file = files or source.file
        self._names = frozenset(source.names())

    def describe(self) -> str:
        """Returns the origin of the checkpoint for messages."""
        if self.package is not None:
            return printable(f"{self.source.path.name} of the Python package {self.package}")
        return printable(self.source if self.commit is None else f"{self.repo} (commit {self.commit[:12]})")

    def file(self, name: str) -> Path | None:
        """Returns the path of a file that came with the weights, such as "vocab.json"; None if there is none.

        For a single file of weights without a vocabulary beside it, the files are those of the spec's source; without
        such a source, or if it cannot be read, this raises WeightsError, UserError or HubError.
        """
        return self._find_file(name)

    def vocabulary(self, n_vocab: int) -> Vocabulary:
        """Returns the text tokens, the special tokens and the decoding rules; raises as `file` does."""
        return self.source.vocabulary(self.file, n_vocab)

    def alignment_heads(self, spec: Spec) -> AlignmentHeads:
        """Returns the cross-attention heads that follow the audio; raises as `file` does."""
        return self.source.alignment_heads(self.file, spec)

    def check(self, expected: Sequence[tuple[str, tuple[int, ...]]], *, cut: Collection[str] = ()) -> None:
        """Checks that the checkpoint holds exactly the expected tensors, by name and shape, in a float dtype.

        The tensors `cut` may have more rows than expected.

        An unexpected tensor is an error, because it is part of a model that the spec does not describe, such as another
        layer or an adapter. The exception is `proj_out.weight`, a copy of the token embedding that some checkpoints
        have, if it is equal to the embedding.

        Raises a WeightsError with the number of differences of each kind, and the first MAX_LISTED of each.
        """
        missing, wrong, matched = [], [], set()
        for name, shape in expected:
            stored = self._find(name)
            if stored is None:
                missing.append((name, shape))
                continue
            matched.add(stored)
            info = self.source.info(stored)
            rows = min(info.shape[:1], shape[:1]) if name in cut else info.shape[:1]
            if (*rows, *info.shape[1:]) != tuple(shape):
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
        renamed = [rename(name) for name, _ in missing]
        absent = [f"{quote(n)} {list(shape)}{_near(rename(n), unexpected)}" for n, shape in missing[:MAX_LISTED]]
        unknown = [f"{quote(n)}{_near(n, renamed)}" for n in unexpected[:MAX_LISTED]]
        raise WeightsError(
            f"{self.describe()} does not fit the spec: tensors {summary}"
            f"{_listed('missing', absent, missing)}{_listed('unexpected', unknown, unexpected)}"
            f"{_listed('different', wrong[:MAX_LISTED], wrong)}"
        )

    def rows(self, name: str) -> int:
        """Returns the number of rows of a tensor that `check` has found."""
        stored = self._find(name)
        assert stored is not None
        return int(self.source.info(stored).shape[0])

    def read(self, name: str, dtype: ComputeDtype) -> NDArray[Any]:
        """Returns a tensor in the source's shape, as float32 or as the uint16 bits of bfloat16 (rounded, ties to even).

        The array may be a view of the file. Raises WeightsError for a tensor that is missing, that has no float dtype,
        or that holds NaN, infinities or elements too large for bfloat16, with which no model could work.
        """
        stored = self._find(name)
        if stored is None:
            raise WeightsError(f"{self.describe()} has no tensor {quote(name)}")
        info = self.source.info(stored)
        where = f"tensor {quote(stored)} in {info.file}"
        if info.dtype not in FLOAT_DTYPES:
            raise WeightsError(f"{where} is {info.dtype.name}: expected {FLOATS}")
        elements = self.source.read(stored)
        expected = info.dtype.numpy, tuple(info.shape)
        if not isinstance(elements, np.ndarray) or (elements.dtype, elements.shape) != expected:
            is_array = isinstance(elements, np.ndarray)
            actual = f"{elements.dtype} {elements.shape}" if is_array else type(elements).__name__
            raise WeightsError(
                f"{where}: the format '{type(self.source).__name__}' says that it is {info.dtype.name} "
                f"{tuple(info.shape)}, and reads {actual}: correct its `info` or its `read`"
            )
        array = to_float32(elements, info.dtype)
        not_finite = array.size - np.count_nonzero(np.isfinite(array))
        if not_finite:
            raise WeightsError(
                f"{where}: {not_finite} of {array.size} elements are NaN or infinite; get the file again"
            )
        if dtype == FLOAT32.name:
            return np.require(array, requirements=["ALIGNED"])  # a view of a file may lie at any address
        bits = to_bfloat16(array)
        if np.any((bits & 0x7FFF) == 0x7F80):
            raise WeightsError(f"{where} has elements too large for bfloat16: build with float32")
        return bits

    def lossless_dtypes(self, names: Iterable[str]) -> dict[str, str]:
        """Returns the 16-bit dtype that holds a tensor without loss, by name, for the tensors that have one."""
        dtypes = {name: lossless_dtype(self.read(name, "float32")) for name in names}
        return {name: dtype.name for name, dtype in dtypes.items() if dtype}

    def _find(self, name: str) -> str | None:
        """Returns the name that a tensor of the spec has in the source; None if the source does not have it."""
        return next((n for n in self.source.renames.candidates(name) if n in self._names), None)

    def _check_tied(self, tied: str, embedding: str) -> None:
        """Raises WeightsError where the output projection is not the token embedding: the logits would be wrong."""
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
    """Returns a finder for the files that belong to a single file of weights: beside it, or in the spec's source."""

    @functools.cache
    def finder() -> FileFinder:
        if any(source.file(name) for name in source.vocabularies):
            return source.file
        problem = f"{source.path} has no vocabulary beside it ({' or '.join(source.vocabularies)})"
        if folder is not None:
            return _files_of(folder)
        if repo is None:
            raise WeightsError(f"{problem}, and the spec names no source: put the checkpoint's files there")
        try:
            return _files_of(fetch(repo, revision, weights=False, offline=offline, progress=progress).folder)
        except MaxWhisperError as e:
            raise type(e)(f"{problem}, and that of the spec's source is not available: {e}") from e

    return lambda name: finder()(name)


def _files_of(folder: Path) -> FileFinder:
    """Returns a finder for the files in a folder; it also returns a folder of the name, which then cannot be read."""
    return lambda name: folder / name if is_there(folder / name) else None


def _looks_like_path(text: str) -> bool:
    """Returns whether text that is no existing path was meant as one; repositories are called `owner/name`."""
    return text.startswith((".", "/", "~")) or text.count("/") > 1 or text.endswith((".safetensors", ".onnx"))


def _listed(kind: str, shown: list[str], items: Sequence[Any]) -> str:
    """Returns the part of an error message that lists the first items of a kind, and how many more there are."""
    more = f" and {len(items) - len(shown)} more" if len(items) > len(shown) else ""
    return f"; {kind}: {', '.join(shown)}{more}" if items else ""


def _near(name: str, candidates: Iterable[str]) -> str:
    """Returns a hint at the most similar of some names; "" if none is similar."""
    match = nearest(name, (candidate[:100] for candidate in candidates))
    return f" (near: {match})" if match else ""
