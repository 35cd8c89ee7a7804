"""Where weights come from (the Hub, a folder, a file), what they are called, and what they hold."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import MaxWhisperError, UserError, WeightsError
from max_whisper.files import expanded, is_folder, is_there
from max_whisper.messages import nearest, printable, quote
from max_whisper.progress import OnProgress, unheard
from max_whisper.tensors.cast import FLOAT_DTYPES, exact_half, to_bfloat16, to_float32
from max_whisper.tensors.safetensors_file import TensorInfo, open_tensors, read_header
from max_whisper.weights.hub import fetch
from max_whisper.weights.layout import INDEX, PICKLE_ADVICE, VOCABULARIES, WEIGHTS, read_index, weights_missing

Dtype = Literal["float32", "bfloat16"]
FileFinder = Callable[[str], "Path | None"]

PREFIX = "model."  # WhisperForConditionalGeneration.save_pretrained writes it, WhisperModel.save_pretrained does not
TIED, EMBEDDING = "proj_out.weight", "model.decoder.embed_tokens.weight"
SHOWN = 4  # names of each kind in an error message
COMPARED = 2000  # names among which a similar one is looked for


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint: the file that it is in, and what the file's header says about it."""

    file: Path
    info: TensorInfo


def open_checkpoint(
    weights: str | Path | None,
    *,
    repo: str | None = None,
    revision: str | None = None,
    folder: Path | None = None,
    offline: bool = False,
    progress: OnProgress = unheard,
) -> Checkpoint:
    """The checkpoint that `weights` names; only headers are read.

    weights: a Hub repository ("openai/whisper-tiny"), a folder in Hub layout or a .safetensors file. A path that
        exists wins over a repository of the same name. None is the spec's own source: `folder`, else `repo`.
    revision: of the Hub repository that is read; None is its main branch.
    offline, progress: see `hub.fetch`.

    Raises UserError for a source that does not exist, WeightsError for a broken one, HubError if the Hub fails.
    """
    source = folder if weights is None else weights
    if source is not None:
        if source == "":
            raise UserError("no weights: expected a Hub repository, a folder or a safetensors file, got an empty name")
        path = expanded(source)
        if is_folder(path):
            return Checkpoint(f"folder {path}", _folder_tensors(path), _files_of(path), path)
        if is_there(path):
            beside = _beside(path, folder, repo, revision, offline, progress)
            return Checkpoint(f"file {path}", _file_tensors(path), beside, path.parent)
        if isinstance(source, Path) or _looks_like_path(source):
            raise UserError(
                f"there is no file or folder {path}: give one, or a Hub repository like openai/whisper-tiny"
            )
        repo = source
    if repo is None:
        raise UserError("no weights: the spec names no source; give a Hub repository, a folder or a safetensors file")
    snapshot = fetch(repo, revision, offline=offline, progress=progress)
    return Checkpoint(
        f"{repo} (commit {snapshot.commit[:12]})",
        _folder_tensors(snapshot.folder),
        _files_of(snapshot.folder),
        snapshot.folder,
        repo=repo,
        commit=snapshot.commit,
    )


class Checkpoint:
    """The tensors of one checkpoint by name, and the files that came with them.

    repo, commit: where it is from, if that is the Hub; the commit has 40 hexadecimal digits.
    tensors: every tensor in it, under the name that the file gives it.
    """

    def __init__(
        self,
        description: str,
        tensors: dict[str, StoredTensor],
        find_file: FileFinder,
        folder: Path,
        *,
        repo: str | None = None,
        commit: str | None = None,
    ) -> None:
        self.repo = repo
        self.commit = commit
        self.tensors = tensors
        self._description = printable(description)
        self._find_file = find_file
        self._folder = folder
        self._open = functools.cache(open_tensors)  # memory maps: nothing is read before it is used

    def describe(self) -> str:
        """The source in a few words, for messages."""
        return self._description

    def file(self, name: str) -> Path | None:
        """A file that came with the weights, such as "vocab.json"; None if there is no such file.

        For a single safetensors file without a vocabulary beside it, the files are those of the spec's source; if
        there is none, or it cannot be read, this raises WeightsError, UserError or HubError.
        """
        return self._find_file(name)

    def beside(self, name: str) -> Path | None:
        """A file in the folder of the weights themselves, which says something about them; None if there is none."""
        path = self._folder / name
        return path if is_there(path) else None

    def check(self, expected: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        """Refuse the checkpoint unless it holds exactly these tensors, by name and shape, in a float dtype.

        Names count as equal with and without a leading `model.`. An unexpected tensor is an error, because it is
        part of a model that the spec does not describe (a layer more, an adapter); `proj_out.weight`, the copy of the
        token embedding that some checkpoints carry, is not, as long as it is equal to the embedding.

        Raises WeightsError with the number of differences of each kind, and the first SHOWN of each.
        """
        missing, wrong, found = [], [], set()
        for name, shape in expected:
            stored = self._find(name)
            if stored is None:
                missing.append((name, shape))
                continue
            found.add(stored)
            info = self.tensors[stored].info
            if info.shape != tuple(shape):
                wrong.append(f"{quote(name)} expected in shape {list(shape)}, found {list(info.shape)}")
            elif info.dtype not in FLOAT_DTYPES:
                wrong.append(f"{quote(name)} expected as {' or '.join(FLOAT_DTYPES)}, found {info.dtype}")
        unexpected = [name for name in self.tensors if name not in found]
        if TIED in unexpected and self._find(EMBEDDING) in found:
            unexpected.remove(TIED)
            self._check_tied()
        if not (missing or unexpected or wrong):
            return
        counts = {"missing": len(missing), "unexpected": len(unexpected), "of another shape or dtype": len(wrong)}
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        wanted = [name for name, _ in missing]
        absent = [f"{quote(n)} {list(shape)}{_near(n, unexpected)}" for n, shape in missing[:SHOWN]]
        foreign = [f"{quote(n)}{_near(n, wanted)}" for n in unexpected[:SHOWN]]
        raise WeightsError(
            f"{self.describe()} does not fit the spec: tensors {summary}"
            f"{_listed('missing', absent, missing)}{_listed('unexpected', foreign, unexpected)}"
            f"{_listed('different', wrong[:SHOWN], wrong)}"
        )

    def read(self, name: str, dtype: Dtype) -> NDArray[Any]:
        """A tensor in the file's shape, as float32 or as the uint16 bits of bfloat16 (rounded to nearest even).

        The array may be a read-only view of the file. Raises WeightsError for a tensor that is not there, of a dtype
        that is no float, or that holds NaN, infinities or (for bfloat16) numbers too large: such a model says nothing.
        """
        stored = self._find(name)
        if stored is None:
            raise WeightsError(f"{self.describe()} has no tensor {quote(name)}")
        tensor = self.tensors[stored]
        where = f"tensor {quote(stored)} in {tensor.file}"
        if tensor.info.dtype not in FLOAT_DTYPES:
            raise WeightsError(f"{where} is {tensor.info.dtype}: expected {', '.join(FLOAT_DTYPES)}")
        numbers = to_float32(self._open(tensor.file)[stored], tensor.info.dtype)
        broken = numbers.size - np.count_nonzero(np.isfinite(numbers))
        if broken:
            raise WeightsError(f"{where}: {broken} of {numbers.size} numbers are NaN or infinite; get the file again")
        if dtype == "float32":
            return np.require(numbers, requirements=["ALIGNED"])
        bits = to_bfloat16(numbers)
        if np.any((bits & 0x7FFF) == 0x7F80):
            raise WeightsError(f"{where} has numbers too large for bfloat16: build with float32")
        return bits

    def exact_halves(self, names: Iterable[str]) -> dict[str, str]:
        """The tensors that a format of 16 bits holds as exactly as float32 does, and the format: see `exact_half`."""
        found = {name: exact_half(self.read(name, "float32")) for name in names}
        return {name: dtype for name, dtype in found.items() if dtype}

    def _find(self, name: str) -> str | None:
        """The name under which the file has a tensor of the spec."""
        candidates = (name, PREFIX + name, name.removeprefix(PREFIX))
        return next((candidate for candidate in candidates if candidate in self.tensors), None)

    def _check_tied(self) -> None:
        """Refuse a checkpoint whose output projection is not the token embedding: the spec's logits would be wrong."""
        embedding = self._find(EMBEDDING)
        assert embedding is not None
        one, other = self.tensors[TIED], self.tensors[embedding]
        if one.info.dtype == other.info.dtype and np.array_equal(
            self._open(one.file)[TIED], self._open(other.file)[embedding]
        ):
            return
        raise WeightsError(
            f"{self.describe()} is not tied: {TIED!r} ({one.info.dtype} {list(one.info.shape)}) differs from "
            f"{embedding!r} ({other.info.dtype} {list(other.info.shape)}), but the spec uses one for both"
        )


def _folder_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a folder in Hub layout, sharded or not."""
    if is_there(folder / WEIGHTS):
        return _file_tensors(folder / WEIGHTS)
    index = folder / INDEX
    if not is_there(index):
        try:
            names = [path.name for path in folder.iterdir()]
        except OSError as e:
            raise WeightsError(f"{folder} cannot be read: {e.strerror}") from e
        raise weights_missing(f"folder {folder}", names)
    files = read_index(index)
    tensors: dict[str, StoredTensor] = {}
    for file in sorted(set(files.values())):
        if not is_there(folder / file):
            raise WeightsError(f"{index} names the file {file}, which is not there: get the checkpoint again")
        for name, tensor in _file_tensors(folder / file).items():
            if files.get(name) != file:
                said = f"says it is in {files[name]}" if name in files else "does not name it"
                raise WeightsError(f"{folder / file} holds tensor {quote(name)}, but {INDEX} {said}")
            tensors[name] = tensor
    for name, file in files.items():
        if name not in tensors:
            raise WeightsError(f"{index} says that tensor {quote(name)} is in {file}, but it is not")
    return tensors


def _file_tensors(path: Path) -> dict[str, StoredTensor]:
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise WeightsError(f"{path} is a PyTorch pickle. {PICKLE_ADVICE}")
    return {name: StoredTensor(path, info) for name, info in read_header(path).items()}


def _beside(
    path: Path,
    folder: Path | None,
    repo: str | None,
    revision: str | None,
    offline: bool,
    progress: OnProgress,
) -> FileFinder:
    """Finds the files that belong to a single safetensors file: those beside it, else those of the spec's source."""

    @functools.cache
    def home() -> Path:
        if any(is_there(path.parent / name) for name in VOCABULARIES):
            return path.parent
        lacking = f"{path} has no vocabulary beside it ({' or '.join(VOCABULARIES)})"
        if folder is not None:
            return folder
        if repo is None:
            raise WeightsError(f"{lacking}, and the spec names no source: put the checkpoint's files there")
        try:
            return fetch(repo, revision, weights=False, offline=offline, progress=progress).folder
        except MaxWhisperError as e:
            raise type(e)(f"{lacking}, and that of the spec's source cannot be had: {e}") from e

    return lambda name: _files_of(home())(name)


def _files_of(folder: Path) -> FileFinder:
    """Finds what is in a folder. What is there but is no file is found, too: reading it says so."""
    return lambda name: folder / name if is_there(folder / name) else None


def _looks_like_path(text: str) -> bool:
    """Whether a string that names nothing here was meant as a path; repositories are called `owner/name`."""
    return text.startswith((".", "/", "~")) or text.count("/") > 1 or text.endswith(".safetensors")


def _listed(kind: str, shown: list[str], items: Sequence[Any]) -> str:
    """A part of an error message: what there is of a kind, and how much more."""
    more = f" and {len(items) - len(shown)} more" if len(items) > len(shown) else ""
    return f"; {kind}: {', '.join(shown)}{more}" if items else ""


def _near(name: str, others: Iterable[str]) -> str:
    """A hint at the most similar of the other names, if one is similar."""
    match = nearest(name, (other[:100] for other in itertools.islice(others, COMPARED)))
    return f" (near: {match})" if match else ""
