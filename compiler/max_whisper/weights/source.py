"""Sources of weights, and the registry of their formats.

A new format is one file in `formats/` with one class, and a table in `names.py` where it has names of its own:

    @register("npy")
    class NpyFolder(TensorSource):
        \"\"\"A folder with one .npy file for each tensor.\"\"\"

        renames = OPENAI

        @classmethod
        def recognizes(cls, path: Path) -> bool:
            return is_folder(path) and any(path.glob("*.npy"))

        def names(self) -> list[str]:
            return [file.stem for file in self.path.glob("*.npy")]

        def info(self, name: str) -> SourceTensor:
            file = self.path / f"{name}.npy"
            return SourceTensor(FLOAT32, np.load(file, mmap_mode="r").shape, file)

        def read(self, name: str) -> NDArray[Any]:
            return np.load(self.path / f"{name}.npy")

`build --weights` takes it from then on, and `Checkpoint` checks its tensors against the spec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from numpy.typing import NDArray

from max_whisper.files import is_folder, is_there
from max_whisper.registry import import_modules
from max_whisper.tensors.dtypes import Dtype
from max_whisper.weights.names import TRANSFORMERS, RenameTable

DEFAULT = "safetensors"


@dataclass(frozen=True)
class SourceTensor:
    """What a source knows of one of its tensors before it is read."""

    dtype: Dtype
    shape: tuple[int, ...]
    file: Path  # the file that holds it, for messages


class TensorSource(ABC):
    """The tensors of a checkpoint under the names of its format, and the files that came with them.

    The constructor reads no more than headers, and raises WeightsError for a checkpoint that is broken.
    """

    renames: ClassVar[RenameTable] = TRANSFORMERS
    """How the names of specs become those of the format."""

    def __init__(self, path: Path) -> None:
        """Opens a file or folder that the format recognizes."""
        self.path = path

    @classmethod
    @abstractmethod
    def recognizes(cls, path: Path) -> bool:
        """Returns whether a file or folder looks like one of this format; never raises."""

    @abstractmethod
    def names(self) -> Collection[str]:
        """Returns the names of all tensors."""

    @abstractmethod
    def info(self, name: str) -> SourceTensor:
        """Returns dtype, shape and file of a tensor that `names` lists."""

    @abstractmethod
    def read(self, name: str) -> NDArray[Any]:
        """Returns a tensor in the shape and dtype that `info` gives, or raises WeightsError. It may be a view."""

    def file(self, name: str) -> Path | None:
        """Returns a file that came with the tensors, such as "vocab.json"; None if there is none.

        Whatever has the name is returned: if it is no file, reading it fails with a clear error.
        """
        path = (self.path if is_folder(self.path) else self.path.parent) / name
        return path if is_there(path) else None

    def __str__(self) -> str:
        return f"{'folder' if is_folder(self.path) else 'file'} {self.path}"


SourceType = TypeVar("SourceType", bound=type[TensorSource])
_formats: dict[str, type[TensorSource]] = {}


def register(name: str) -> Callable[[SourceType], SourceType]:
    """Makes a class the one that opens checkpoints of a format. Raises ValueError where there is another."""

    def add(cls: SourceType) -> SourceType:
        if name in _formats:
            raise ValueError(f"two classes for the format {name!r}: {_formats[name].__name__} and {cls.__name__}")
        _formats[name] = cls
        return cls

    return add


def known_formats() -> Mapping[str, type[TensorSource]]:
    """Returns the classes of all formats by name."""
    import_modules("max_whisper.weights.formats")
    return _formats


def open_source(path: Path) -> TensorSource:
    """Returns the tensors of a file or folder, in whatever format it is. Raises WeightsError for a broken one.

    What no format recognizes is opened as safetensors, whose error says what it lacks.
    """
    known = known_formats()
    return next((kind for kind in known.values() if kind.recognizes(path)), known[DEFAULT])(path)
