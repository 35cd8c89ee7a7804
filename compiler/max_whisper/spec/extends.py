"""Merges a spec with the spec that it extends.

The child's keys win. `dims` are merged name by name. A `source` that gives only a `revision` is merged with the
parent's; one that names a repository or a folder replaces it, because a revision belongs to its repository. `encoder`
and `decoder` are replaced as a whole. Every value keeps the file and line where it was written.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from max_whisper.files import is_regular, is_there
from max_whisper.messages import nearest, quote
from max_whisper.spec.catalog import shipped_specs
from max_whisper.spec.document import MappingNode, ScalarNode, YamlNode, read_document

MAX_COMPARED = 1000
"""The most neighboring files that a misspelled name in `extends` is compared with."""
MAX_CHAIN = 16
"""The most files that may extend each other; the longest chain that ships has four."""
MAX_BYTES = 1_000_000
"""The most bytes that these files may have together."""


def read_merged(path: Path, shown: str) -> MappingNode:
    """Returns the spec at `path`, which messages call `shown`, merged with all specs that it extends.

    Raises SpecError for a chain that does not end, or is too long, and for a file that is no spec.
    """
    merged: MappingNode | None = None
    chain: dict[Path, str] = {}  # the real path of each file, and its name in messages
    size = 0
    while True:
        document = read_document(path, shown)
        if not isinstance(document, MappingNode):
            raise document.location.error(f"expected a mapping with name, dims, encoder and decoder, got {document}")
        merged = document if merged is None else _merge(document, merged)
        if "extends" not in document.entries:
            return merged
        chain[_real(path)] = shown
        size += path.stat().st_size
        path, shown = _parent(document.entries["extends"], path, shown)
        location = document.keys["extends"].at("extends")
        if _real(path) in chain:
            raise location.error(f"expected a spec that does not extend this one: {_names(chain, shown)}")
        if len(chain) == MAX_CHAIN:
            raise location.error(f"expected at most {MAX_CHAIN} specs that extend each other: {_names(chain, shown)}")
        if size > MAX_BYTES:
            raise location.error(
                f"expected at most {MAX_BYTES} bytes in specs that extend each other: {_names(chain, shown)}"
            )


def _names(chain: dict[Path, str], last: str) -> str:
    """Returns the files of a chain for a message, without the middle of a long one."""
    names = [*chain.values(), last]
    return " -> ".join(names if len(names) <= 5 else [*names[:2], "...", *names[-2:]])


def _parent(value: YamlNode, child: Path, shown: str) -> tuple[Path, str]:
    """Returns the file that `extends: value` means in the file `child`, and its name in messages."""
    location = value.location.at("extends")
    if not isinstance(value, ScalarNode) or not isinstance(value.value, str) or not value.value:
        raise location.error(f"expected the file or the name of another spec, got {value}")
    name = value.value
    folder = child.parent
    shipped = shipped_specs()
    key = name.removesuffix(".yaml")
    target = folder / name
    try:
        if not _real(target).is_relative_to(_real(folder)):
            raise location.error(f"expected a spec inside the folder of this file, or a shipped one, got {quote(name)}")
    except ValueError:  # a NUL in the name: no such file exists, which is refused below
        pass
    if is_regular(target) or (key not in shipped and is_there(target)):  # a folder called `tiny` hides no spec
        return target, str(Path(shown).parent / name)
    if key in shipped:
        return shipped[key], f"{key}.yaml"
    beside = [path.name for path in islice(folder.glob("*.yaml"), MAX_COMPARED) if path != child]
    known = [*beside, *(f"{name}.yaml" for name in shipped)]
    match = nearest(name, known) or nearest(f"{name}.yaml", known)
    hint = f"; did you mean {quote(match)}?" if match else ""
    raise location.error(f"expected a spec file beside this one, or a shipped spec, got {quote(name)}{hint}")


def _real(path: Path) -> Path:
    """Returns `path` with links resolved; unlike `Path.resolve`, it does not fail where links lead in a circle."""
    return Path(os.path.realpath(path))


def _merge(parent: MappingNode, child: MappingNode) -> MappingNode:
    """Returns the mapping of a spec merged with that of the spec it extends."""
    entries = dict(child.entries)
    for key in ("dims", "source"):
        old, new = parent.entries.get(key), entries.get(key)
        if (
            isinstance(old, MappingNode)
            and isinstance(new, MappingNode)
            and (key == "dims" or set(new.entries) == {"revision"})
        ):
            entries[key] = MappingNode(new.location, old.entries | new.entries, old.keys | new.keys)
    return MappingNode(child.location, parent.entries | entries, parent.keys | child.keys)
