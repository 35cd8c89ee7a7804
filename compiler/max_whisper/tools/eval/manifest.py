"""Reads the list of recordings to evaluate with: a TSV file with a header and a line for each recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from max_whisper.errors import UserError
from max_whisper.files import expanded, is_there, read_all
from max_whisper.messages import quote, suggestion
from max_whisper.runtime.decoding.languages import language_code
from max_whisper.tokens import LANGUAGES

NO_SPEECH = "zxx"
"""The language of a recording in which nobody speaks; this is its code in ISO 639-2."""
REQUIRED = ("file", "language", "text")
OPTIONAL = ("kind",)
LARGEST_FILE = 256 * 2**20  # bytes


@dataclass(frozen=True)
class Recording:
    """A recording and what is said in it.

    Attributes:
        name: The name of its file, as the manifest has it.
        path: The file. It may lie anywhere: a manifest is its user's own.
        language: The code of its language, or NO_SPEECH.
        text: What is said, as it was published; "" where nothing is, or where it is not known.
        kind: What kind of recording it is, such as "noisy"; "" where the manifest does not say.
    """

    name: str
    path: Path
    language: str
    text: str
    kind: str = ""


def read_manifest(file: str | Path) -> list[Recording]:
    """Returns the recordings that a manifest lists.

    The manifest is text in UTF-8 with tabs between the cells and no quotation marks around them. The columns `file`
    (relative to the manifest), `language` and `text` are needed, `kind` is read, and others are ignored.

    Args:
        file: The manifest.

    Raises:
        UserError: It cannot be read, a line of it is wrong, or a recording is not there.
    """
    path = expanded(file)
    lines = _lines(path)
    number, header = next(lines, (1, []))
    _check_header(f"{path}:{number}", header)
    folder = path.absolute().parent  # a recording named "-" must not become standard input
    recordings: list[Recording] = []
    first_lines: dict[Path, int] = {}
    for number, cells in lines:
        place = f"{path}:{number}"
        if len(cells) != len(header):
            _refuse(place, f"expected {len(header)} cells with tabs between them, as the header has, got {len(cells)}")
        recording = _recording(place, folder, dict(zip(header, cells, strict=True)))
        first = first_lines.setdefault(recording.path.resolve(), number)
        if first != number:
            _refuse(place, f"{quote(recording.name)} is in line {first} already: remove one")
        recordings.append(recording)
    if not recordings:
        raise UserError(f"{path} lists no recordings: add a line for each, with a file, its language and its text")
    return recordings


def chosen(recordings: Sequence[Recording], *, languages: str | None, kinds: str | None) -> list[Recording]:
    """Returns the recordings of some languages and kinds.

    Args:
        recordings: The recordings of a manifest.
        languages: Codes with commas between them, NO_SPEECH among them; None for all.
        kinds: Kinds with commas between them; None for all.

    Raises:
        UserError: No recording has one of them, or none has both.
    """
    wanted_languages = _words("--languages", languages, (recording.language for recording in recordings))
    wanted_kinds = _words("--kinds", kinds, (recording.kind for recording in recordings))
    found = [one for one in recordings if one.language in wanted_languages and one.kind in wanted_kinds]
    if not found:
        raise UserError(f"no recording is both of --languages {languages} and of --kinds {kinds}: leave one out")
    return found


def _words(option: str, text: str | None, known: Iterable[str]) -> set[str]:
    there = {*known}
    if text is None:
        return there
    words = {word.strip() for word in text.split(",")} - {""}
    for word in sorted(words - there) or ([] if words else [""]):
        hint = suggestion(word, there) or f"; there are {', '.join(sorted(there - {''})) or 'none'}"
        raise UserError(f"{option}: no recording of the manifest has {quote(word)}{hint}")
    return words


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of each line that is not empty."""
    try:
        data = read_all(path, LARGEST_FILE)
    except OSError as e:
        raise UserError(f"{path} cannot be read ({e.strerror}); give a manifest, which is a TSV file") from e
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as e:
            raise UserError(f"{path}:{number}: it is not text in UTF-8 ({e.reason}); save the manifest as UTF-8") from e
        if text.strip():
            yield number, [cell.strip() for cell in text.split("\t")]


def _check_header(place: str, header: Sequence[str]) -> None:
    for column in REQUIRED:
        if column not in header:
            near = suggestion(column, header)
            _refuse(place, f"the header has no column {quote(column)}{near or f'; it needs {_listed(REQUIRED)}'}")
    for column, number in Counter(header).items():
        if number > 1 and column in REQUIRED + OPTIONAL:
            _refuse(place, f"the header has the column {quote(column)} {number} times: remove all but one")


def _recording(place: str, folder: Path, row: dict[str, str]) -> Recording:
    name, text = row["file"], row["text"]
    if not name:
        _refuse(place, "the cell of the file is empty; name a recording")
    path = folder / expanded(name)
    if not is_there(path):
        _refuse(place, f"there is no file {path}; correct the name, or remove the line")
    if row["language"] == NO_SPEECH:
        language = NO_SPEECH
        if text:
            _refuse(place, f"{NO_SPEECH} means that nobody speaks, but there is a text: correct one of them")
    else:
        try:
            language = language_code(row["language"], LANGUAGES)
        except UserError as e:
            _refuse(place, f"{e}; {NO_SPEECH} stands for no speech")
    return Recording(name, path, language, text, row.get("kind", ""))


def _refuse(place: str, problem: str) -> NoReturn:
    raise UserError(f"{place}: {problem}")


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
