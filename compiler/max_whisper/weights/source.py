"""The contract of a source of weights, and the registry of formats.

A new format is one file in `formats/` with one class, for which `formats/safetensors.py` is an example. A format with
other names than transformers' also has a table in `names.py`. This is a whole format:

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

From then on `build --weights` accepts it, and `Checkpoint` checks its tensors against the spec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

from numpy.typing import NDArray

from max_whisper.files import is_folder, is_there
from max_whisper.registry import import_modules
from max_whisper.spec import Spec
from max_whisper.tensors.dtypes import Dtype
from max_whisper.weights.alignment import AlignmentHeads, read_alignment_heads
from max_whisper.weights.hub_files import CONFIGURATION, PREPROCESSOR, PROCESSOR, VOCABULARIES, FileFinder
from max_whisper.weights.json_files import Configuration, FeatureExtractor, Processor, read_json
from max_whisper.weights.names import TRANSFORMERS, RenameTable
from max_whisper.weights.vocabulary import Vocabulary, read_vocabulary

DEFAULT = "safetensors"

Claim: TypeAlias = "tuple[Path, Configuration | FeatureExtractor]"
"""What a file says about its model, in the fields of config.json or of preprocessor_config.json."""


@dataclass(frozen=True)
class SourceTensor:
    """A tensor of a source, as far as it is known before it is read.

    Attributes:
        dtype: Its dtype, from the table in `tensors/dtypes.py`.
        shape: Its shape.
        file: The file that holds it, for error messages.
    """

    dtype: Dtype
    shape: tuple[int, ...]
    file: Path


class TensorSource(ABC):
    """The base class of all formats: the tensors of a checkpoint by their names in the format, and its other files.

    A format overrides `recognizes`, `names`, `info` and `read`, and `renames` if it has names of its own. Its
    constructor, if it has one, reads headers only, and raises WeightsError for a broken checkpoint. It need not
    compare anything with a spec: `Checkpoint` does that for every format.

    What is no tensor is read from JSON files in the layout of the Hub. A format that has it elsewhere overrides
    `vocabulary`, `alignment_heads` and `claims`.

    Attributes:
        format: The name under which the format was registered.
        renames: The translation of the names in specs to those of the format.
        vocabularies: The names of the files that hold a vocabulary, of which one is enough. If none lies beside a
            single file of weights, the files of the spec's own source are used.
        path: The file or folder of the checkpoint.
    """

    format: ClassVar[str]
    renames: ClassVar[RenameTable] = TRANSFORMERS
    vocabularies: ClassVar[tuple[str, ...]] = VOCABULARIES

    def __init__(self, path: Path) -> None:
        """Opens a checkpoint.

        Args:
            path: A file or folder that the format recognizes.

        Raises:
            WeightsError: The checkpoint is broken.
        """
        self.path = path

    @classmethod
    @abstractmethod
    def recognizes(cls, path: Path) -> bool:
        """Returns whether a file or folder looks like this format; must not raise.

        Args:
            path: The file or folder, which exists.
        """

    @abstractmethod
    def names(self) -> Collection[str]:
        """Returns the names of all tensors."""

    @abstractmethod
    def info(self, name: str) -> SourceTensor:
        """Returns the dtype, the shape and the file of a tensor.

        Args:
            name: A name that `names` returns.
        """

    @abstractmethod
    def read(self, name: str) -> NDArray[Any]:
        """Returns the elements of a tensor.

        Args:
            name: A name that `names` returns.

        Returns:
            An array, which may be a view of a file, of the shape and dtype that `info` returns; bfloat16, which numpy
            lacks, as uint16.

        Raises:
            WeightsError: The tensor cannot be read.
        """

    def file(self, name: str) -> Path | None:
        """Returns the path of a file that came with the tensors; None if there is nothing of this name.

        Args:
            name: The name of the file, such as "vocab.json". A folder of that name is returned, too: reading it then
                fails with a clear error.
        """
        path = (self.path if is_folder(self.path) else self.path.parent) / name
        return path if is_there(path) else None

    def vocabulary(self, file: FileFinder, n_vocab: int) -> Vocabulary:
        """Returns the text tokens, the special tokens and the decoding rules.

        Args:
            file: Finds a file that belongs to the checkpoint: what `TensorSource.file` does, except that a single file
                of weights without a vocabulary beside it has the files of the spec's own source.
            n_vocab: The number of tokens of the model.

        Raises:
            WeightsError: The vocabulary is missing or broken, or does not fit the model.
        """
        return read_vocabulary(file, n_vocab)

    def alignment_heads(self, file: FileFinder, spec: Spec) -> AlignmentHeads:
        """Returns the cross-attention heads that follow the audio.

        Args:
            file: As for `vocabulary`.
            spec: The spec of the model, whose tensors have been compared with those of the checkpoint.

        Raises:
            WeightsError: The checkpoint lists something other than heads.
        """
        return read_alignment_heads(file, [layer.heads for layer in spec.cross_attentions()], spec.n_vocab)

    def claims(self) -> Iterator[Claim]:
        """Yields what the checkpoint says about its model that its tensors do not show, such as the number of heads.

        Fields that are None are not compared with the spec. Raises WeightsError for a broken file.
        """
        if (path := self.file(CONFIGURATION)) is not None:
            yield path, read_json(path, Configuration)
        if (path := self.file(PREPROCESSOR)) is not None:
            yield path, read_json(path, FeatureExtractor)
        if (path := self.file(PROCESSOR)) is not None and (mel := read_json(path, Processor).feature_extractor):
            yield path, mel

    def __str__(self) -> str:
        return f"{'folder' if is_folder(self.path) else 'file'} {self.path}"


SourceType = TypeVar("SourceType", bound=type[TensorSource])
_formats: dict[str, type[TensorSource]] = {}


def register(name: str) -> Callable[[SourceType], SourceType]:
    """Returns a class decorator that makes a subclass of `TensorSource` the one that opens checkpoints of a format.

    Args:
        name: The name of the format, which no other class may have; the decorator raises ValueError if one has.
    """

    def add(cls: SourceType) -> SourceType:
        if name in _formats:
            raise ValueError(f"two classes for the format {name!r}: {_formats[name].__name__} and {cls.__name__}")
        cls.format = name
        _formats[name] = cls
        return cls

    return add


def known_formats() -> Mapping[str, type[TensorSource]]:
    """Returns the classes of all formats by name."""
    import_modules("max_whisper.weights.formats")
    return _formats


def open_source(path: Path) -> TensorSource:
    """Returns the source for a file or folder, by its format; raises WeightsError for a broken checkpoint.

    A file or folder that no format recognizes is opened as safetensors, whose error says what is missing.
    """
    known = known_formats()
    return next((kind for kind in known.values() if kind.recognizes(path)), known[DEFAULT])(path)
