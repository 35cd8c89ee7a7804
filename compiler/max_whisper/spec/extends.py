"""`extends`: one spec written as the difference to another.

The child's keys win. `dims` are merged name by name; so is a `source` that gives only a `revision`, while one that
names a repository or a folder replaces the parent's (a revision belongs to its repository). `encoder` and `decoder`
are replaced whole. Every value keeps the file and line where it was written.
"""

from __future__ import annotations

from pathlib import Path

from max_whisper.messages import nearest, quote
from max_whisper.spec.catalog import shipped_specs
from max_whisper.spec.document import Node, Scalar, Table, read_document


def read_merged(path: Path, shown: str) -> Table:
    """The spec at `path` with everything it extends merged in. Raises SpecError."""
    return _read(path, shown, {})


def _read(path: Path, shown: str, chain: dict[Path, str]) -> Table:
    document = read_document(path, shown)
    if not isinstance(document, Table):
        raise document.place.error(f"expected a mapping with name, dims, encoder and decoder, got {document}")
    chain = chain | {path.resolve(): shown}
    if "extends" not in document.entries:
        return document
    parent_path, parent_shown = _parent(document.entries["extends"], path, shown)
    if parent_path.resolve() in chain:
        names = " -> ".join([*chain.values(), parent_shown])
        raise document.keys["extends"].at("extends").error(f"expected a spec that does not extend this one: {names}")
    parent = _read(parent_path, parent_shown, chain)
    return _merge(parent, document)


def _parent(value: Node, child: Path, shown: str) -> tuple[Path, str]:
    """The file that `extends: value` in the file `child` means, and what messages call it."""
    place = value.place.at("extends")
    if not isinstance(value, Scalar) or not isinstance(value.value, str) or not value.value:
        raise place.error(f"expected the file or the name of another spec, got {value}")
    name = value.value
    folder = child.parent
    shipped = shipped_specs()
    key = name.removesuffix(".yaml")
    try:
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise place.error(f"expected a spec inside the folder of this file, or a shipped one, got {quote(name)}")
        if target.is_file():
            return target, str(Path(shown).parent / name)
        beside = [path.name for path in folder.glob("*.yaml") if path != child]
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        beside = []
    if key in shipped:
        return shipped[key], f"{key}.yaml"
    known = [*beside, *(f"{name}.yaml" for name in shipped)]
    match = nearest(name, known) or nearest(f"{name}.yaml", known)
    hint = f"; did you mean {quote(match)}?" if match else ""
    raise place.error(f"expected a spec file beside this one, or a shipped spec, got {quote(name)}{hint}")


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
