"""`extends`: one spec written as the difference to another.

The child's keys win. `dims` are merged name by name; so is a `source` that gives only a `revision`, while one that
names a repository or a folder replaces the parent's (a revision belongs to its repository). `encoder` and `decoder`
are replaced whole. Every value keeps the file and line where it was written.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from max_whisper.files import is_regular, is_there
from max_whisper.messages import nearest, quote
from max_whisper.spec.catalog import shipped_specs
from max_whisper.spec.document import Node, Scalar, Table, read_document

COMPARED = 1000  # files beside this one, among which the one that was meant is looked for
MAX_CHAIN = 16  # files; the longest that ships has four
MAX_BYTES = 1_000_000  # of all files together


def read_merged(path: Path, shown: str) -> Table:
    """The spec at `path` with everything it extends merged in. Raises SpecError."""
    merged: Table | None = None
    chain: dict[Path, str] = {}  # where each file really is, and what messages call it
    size = 0
    while True:
        document = read_document(path, shown)
        if not isinstance(document, Table):
            raise document.place.error(f"expected a mapping with name, dims, encoder and decoder, got {document}")
        merged = document if merged is None else _merge(document, merged)
        if "extends" not in document.entries:
            return merged
        chain[_real(path)] = shown
        size += path.stat().st_size
        path, shown = _parent(document.entries["extends"], path, shown)
        place = document.keys["extends"].at("extends")
        if _real(path) in chain:
            raise place.error(f"expected a spec that does not extend this one: {_names(chain, shown)}")
        if len(chain) == MAX_CHAIN:
            raise place.error(f"expected at most {MAX_CHAIN} specs that extend each other: {_names(chain, shown)}")
        if size > MAX_BYTES:
            raise place.error(
                f"expected at most {MAX_BYTES} bytes in specs that extend each other: {_names(chain, shown)}"
            )


def _names(chain: dict[Path, str], last: str) -> str:
    """The files of a chain, its middle left out."""
    names = [*chain.values(), last]
    return " -> ".join(names if len(names) <= 5 else [*names[:2], "...", *names[-2:]])


def _parent(value: Node, child: Path, shown: str) -> tuple[Path, str]:
    """The file that `extends: value` in the file `child` means, and what messages call it."""
    place = value.place.at("extends")
    if not isinstance(value, Scalar) or not isinstance(value.value, str) or not value.value:
        raise place.error(f"expected the file or the name of another spec, got {value}")
    name = value.value
    folder = child.parent
    shipped = shipped_specs()
    key = name.removesuffix(".yaml")
    target = folder / name
    try:
        if not _real(target).is_relative_to(_real(folder)):
            raise place.error(f"expected a spec inside the folder of this file, or a shipped one, got {quote(name)}")
    except ValueError:  # a NUL in the name
        pass
    if is_regular(target) or (key not in shipped and is_there(target)):  # a folder called `tiny` hides no spec
        return target, str(Path(shown).parent / name)
    if key in shipped:
        return shipped[key], f"{key}.yaml"
    beside = [path.name for path in islice(folder.glob("*.yaml"), COMPARED) if path != child]
    known = [*beside, *(f"{name}.yaml" for name in shipped)]
    match = nearest(name, known) or nearest(f"{name}.yaml", known)
    hint = f"; did you mean {quote(match)}?" if match else ""
    raise place.error(f"expected a spec file beside this one, or a shipped spec, got {quote(name)}{hint}")


def _real(path: Path) -> Path:
    """`path` without links; unlike `Path.resolve`, this does not fail where they lead in a circle."""
    return Path(os.path.realpath(path))


def _merge(parent: Table, child: Table) -> Table:
    own = dict(child.entries)
    for key in ("dims", "source"):
        below, above = parent.entries.get(key), own.get(key)
        if (
            isinstance(below, Table)
            and isinstance(above, Table)
            and (key == "dims" or set(above.entries) == {"revision"})
        ):
            own[key] = Table(above.place, below.entries | above.entries, below.keys | above.keys)
    return Table(child.place, parent.entries | own, parent.keys | child.keys)
