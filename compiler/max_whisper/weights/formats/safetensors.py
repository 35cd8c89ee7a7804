"""The format safetensors: a file, or a folder in the layout of the Hub with one file or several."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from max_whisper.errors import WeightsError
from max_whisper.files import is_folder, is_there
from max_whisper.messages import quote
from max_whisper.tensors.dtypes import BY_FORMAT
from max_whisper.tensors.safetensors_file import open_tensors, read_header
from max_whisper.weights.file_kinds import is_lfs_pointer, is_pickle, other_kind
from max_whisper.weights.hub_files import INDEX, PICKLE_ADVICE, WEIGHTS, read_index, weights_missing
from max_whisper.weights.source import SourceTensor, TensorSource, register


@register("safetensors")
class Safetensors(TensorSource):
    """The tensors of a safetensors file, or of a folder of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tensors = _folder_tensors(path) if is_folder(path) else _file_tensors(path)
        self._open = functools.cache(open_tensors)  # the files are mapped, and read when a tensor is used

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        if is_folder(path):
            return is_there(path / WEIGHTS) or is_there(path / INDEX)
        return path.suffix == ".safetensors"

    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def info(self, name: str) -> SourceTensor:
        return self._tensors[name]

    def read(self, name: str) -> NDArray[Any]:
        return self._open(self._tensors[name].file)[name]


def _folder_tensors(folder: Path) -> dict[str, SourceTensor]:
    """Returns the tensors of a folder in the layout of the Hub, sharded or not."""
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
    tensors: dict[str, SourceTensor] = {}
    for file in sorted(set(files.values())):
        if not is_there(folder / file):
            raise WeightsError(f"{index} names the file {file}, which is missing: get the checkpoint again")
        for name, tensor in _file_tensors(folder / file).items():
            if files.get(name) != file:
                claim = f"says it is in {files[name]}" if name in files else "does not name it"
                raise WeightsError(f"{folder / file} holds tensor {quote(name)}, but {INDEX} {claim}")
            tensors[name] = tensor
    for name, file in files.items():
        if name not in tensors:
            raise WeightsError(f"{index} says that tensor {quote(name)} is in {file}, but it is not: get both again")
    return tensors


def _file_tensors(path: Path) -> dict[str, SourceTensor]:
    """Returns the tensors of a file."""
    if is_pickle(path):
        raise WeightsError(f"{path} is a PyTorch pickle. {PICKLE_ADVICE}")
    try:
        header = read_header(path)
    except WeightsError as e:
        read = not isinstance(e.__cause__, OSError)
        if read and path.suffix != ".safetensors" and not is_lfs_pointer(path):
            raise WeightsError(
                f"{path} is in none of the formats that are read (safetensors, CTranslate2, ggml): get it again, or "
                "give another file"
            ) from e
        raise WeightsError(f"{e}{other_kind(path)}") from e
    return {name: SourceTensor(BY_FORMAT[info.dtype], info.shape, path) for name, info in header.items()}
