"""Writes the parts of the documentation that come from the code, and is the site generator's hook.

    python docs/generate.py            bring all pages up to date
    python docs/generate.py --check    exit with 1 where a page is not

A part stands between two comments in a page, `<!-- generated: NAME -->` and `<!-- end -->`, and the function in PARTS
of that name returns what belongs there. Pages are kept in git with their generated parts, so that they can be read
without building the site. Building the site brings them up to date, and a test fails where one is not.
"""

from __future__ import annotations

import ast
import html
import inspect
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click
import msgspec
from max_whisper import DecodingOptions, PartOptions, StreamOptions, SubtitleOptions, TranscribeOptions, records
from max_whisper.artifact import manifest
from max_whisper.artifact.read import read_manifest
from max_whisper.cli.main import main
from max_whisper.compile.options import BuildOptions
from max_whisper.errors import ArtifactError
from max_whisper.option_kinds import Bounded, Choice, Kind, Numbers
from max_whisper.options import Option, Options, spelled
from max_whisper.plan import BuildPlan, SpecIdentity, Target
from max_whisper.spec.family import DEFAULT, families
from max_whisper.spec.layer import Layer, LayerField, kinds
from max_whisper.tensors.stored import StoredTensor
from max_whisper.tokens import Tokens

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "specs/nano/README.md": "whisper-nano.md",
}
"""Pages of the site that lie elsewhere in the repository, where forges look for them, and their names in the site."""

ATTACHED = {
    "benchmarks/peers/peers.svg": "peers.svg",
    "specs/nano/training.png": "training.png",
    "specs/nano/words.txt": "words.txt",
}
"""Files that these pages show or link to."""

PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


# --- the spec language


def layer_kinds() -> str:
    """Returns a section for each kind of layer, with a table of its fields."""
    return "\n\n".join(_layer_kind(name, kind) for name, kind in sorted(kinds().items()))


def _layer_kind(name: str, kind: type[Layer]) -> str:
    heading = f"### `{name}`\n\n{inspect.cleandoc(kind.__doc__ or '')}"
    if not kind.fields:
        return f"{heading}\n\nIt has no fields: write `- {name}`."
    written = f"\n\nWritten `{name}: [...]`, with the layers in place of the fields." if kind.inline else ""
    rows = [
        (f"`{item.key}`", _type_of(item), _default_of(item), _capital(item.description))
        for item in kind.fields.values()
    ]
    return f"{heading}{written}\n\n{table(('field', 'values', 'default', 'meaning'), rows)}"


def _type_of(item: LayerField) -> str:
    if item.type is int or item.type is float:
        name = "integer" if item.type is int else "number"
        return f"{name}, {_number(item.minimum)} to {_number(item.maximum)}"
    if item.type is bool:
        return "`true` or `false`"
    if get_origin(item.type) is Literal:
        return _words(item.type)
    if item.type == tuple[Layer, ...]:
        return "list of layers"
    return {"weights": "name in the checkpoint", "index": "name"}.get(item.role, "text")


def _default_of(item: LayerField) -> str:
    if item.required:
        return "required"
    if item.default is None:
        return "none"
    return f"`{str(item.default).lower() if isinstance(item.default, bool) else item.default}`"


def dimensions() -> str:
    """Returns a table of the dimensions that have a meaning, of Whisper first."""
    rows = [
        (f"`{family.name}`", f"`{name}`", "required" if name in family.required_dims else "optional", _capital(meaning))
        for family in sorted(families().values(), key=lambda family: family.name != DEFAULT)
        for name, meaning in family.known_dims.items()
    ]
    return table(("family", "dimension", "", "meaning"), rows)


# --- the artifact


RECORDS = (
    manifest.Manifest,
    manifest.WhisperManifest,
    BuildPlan,
    Target,
    SpecIdentity,
    StoredTensor,
    manifest.Source,
    Tokens,
    manifest.Graph,
    manifest.Port,
    manifest.File,
)
"""The records of manifest.json, the outermost first."""


def manifest_fields() -> str:
    """Returns a table of the fields of each record in manifest.json."""
    version = f"The version that this max-whisper writes and reads is **{manifest.MANIFEST_VERSION}**."
    return "\n\n".join([version, *map(_record, RECORDS)])


def _record(kind: type[msgspec.Struct]) -> str:
    annotations, meanings = _annotations(kind), _meanings(kind)
    hints = get_type_hints(kind)
    rows = [
        (f"`{name}`", _words(hints[name]) or f"`{type_}`", _meaning(meanings[name], type_))
        for name, type_ in annotations.items()
    ]
    about = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:")[0]
    return f"### `{kind.__name__}`\n\n{about}\n\n{table(('field', 'type', 'meaning'), rows)}"


def _words(type_: Any) -> str:
    """Returns the words that a Literal allows; "" for any other type."""
    return " or ".join(f"`{word}`" for word in get_args(type_)) if get_origin(type_) is Literal else ""


def _meaning(text: str, type_: str) -> str:
    """Returns what a field means; one that is a record itself is explained by that record's section."""
    text = re.sub(r"<\|\w+\|>", r"`\g<0>`", text)  # special tokens are no tags of HTML
    is_record = type_ in {record.__name__ for record in RECORDS}
    return _capital(text) or (f"See [`{type_}`](#{type_.lower()})." if is_record else "")


def _annotations(kind: type) -> dict[str, str]:
    """Returns the type of each field as the source has it, without what `Annotated` adds."""
    plain = {}
    for node in _class_body(kind):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotation = node.annotation
            if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
                assert isinstance(annotation.slice, ast.Tuple)
                annotation = annotation.slice.elts[0]
            plain[node.target.id] = ast.unparse(annotation)
    return plain


def _meanings(kind: type) -> dict[str, str]:
    """Returns what the docstring's section `Attributes`, or else the comment behind a field, says of each field."""
    found = {}
    lines = inspect.getsource(kind).splitlines()
    for node in _class_body(kind):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comments = [line.partition("  # ")[2] for line in lines[node.lineno - 1 : node.end_lineno]]
            found[node.target.id] = next((comment for comment in comments if comment), "")
    section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    for name, text in re.findall(r"^    (\w+)(?: \([^)]*\))?: (.*(?:\n {8}.*)*)", section, re.MULTILINE):
        found[name] = " ".join(text.split())
    return found


def _class_body(kind: type) -> Sequence[ast.stmt]:
    (node,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(node, ast.ClassDef)
    return node.body


def plain_types() -> str:
    """Returns a table of the types that fields of records are made of, with the values that each allows."""
    meanings = _module_meanings(records)
    rows = []
    for name, value in vars(records).items():
        if get_origin(value) is not Annotated:
            continue
        base, meta = get_args(value)
        bounds = [f"from {_number(meta.ge)}"] if meta.ge is not None else []
        bounds += [f"to {_number(meta.le)}"] if meta.le is not None else []
        bounds += [f"below {_number(meta.lt)}"] if meta.lt is not None else []
        bounds += [f"that matches `{meta.pattern}`"] if meta.pattern is not None else []
        kind = {int: "integer", str: "text"}[base]
        rows.append((f"`{name}`", " ".join([kind, *bounds]), meanings.get(name, "")))
    return table(("type", "values", "meaning"), rows)


def _module_meanings(module: ModuleType) -> dict[str, str]:
    """Returns the texts that follow the variables of a module."""
    body = ast.parse(inspect.getsource(module)).body
    return {
        node.targets[0].id: " ".join(text.value.value.split())
        for node, text in pairwise(body)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


COMMIT = "169d4a4341b33bc18d8881c4b69c2e104e1cc0af"


def refused_versions() -> str:
    """Returns what loading says of a manifest that is older or newer than this version reads."""
    target = {"device": "cpu", "arch": platform.machine(), "features": []}
    plan = {"target": target, "dtype": "int8", "kernels": "ours", "batch": 1}
    source = {"repo": "openai/whisper-tiny", "commit": COMMIT}
    said = []
    for version, builder in ((manifest.MANIFEST_VERSION - 1, "0.0.9"), (manifest.MANIFEST_VERSION + 1, "0.9.0")):
        fields = {"manifest_version": version, "builder": builder, "plan": plan, "source": source}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / manifest.MANIFEST_FILE).write_text(json.dumps(fields))
            (folder / manifest.SPEC_FILE).touch()
            try:
                read_manifest(folder)
            except ArtifactError as error:
                said.append(f"error: {error}".replace(name, "artifacts/tiny"))
    return "\n>\n".join(f"> `{sentence}`" for sentence in said)


# --- options


def options_of_python() -> str:
    """Returns a table for each option class, with the type, default, range and meaning of each option."""
    shown = {
        "How a recording is transcribed": TranscribeOptions,
        "Which parts of a recording are transcribed": PartOptions,
        "How sound is transcribed while it is said": StreamOptions,
        "How the text of a window is found": DecodingOptions,
        "How subtitles are cut": SubtitleOptions,
        "How a model is built": BuildOptions,
    }
    return "\n\n".join(_option_class(title, options) for title, options in shown.items())


def _option_class(title: str, options: type[Options]) -> str:
    defaults = {item.name: item.default for item in fields(options)}  # type: ignore[arg-type]
    rows: dict[str, list[Sequence[str]]] = {}
    for name, option in options.declared.items():
        rows.setdefault(option.heading, []).append((f"`{name}`", _option(option, defaults[name])))
    tables = [
        (f"### {spelled(heading, '`{}`'.format)}\n\n" if heading else "") + table(("option", "meaning"), below)
        for heading, below in rows.items()
    ]
    return "\n\n".join([f"## {title}", f"`max_whisper.{options.__name__}`", *tables])


def _option(option: Option, default: Any) -> str:
    shown = "Required." if default is MISSING else f"Default: {_shown_default(default, option.kind)}."
    return f"{spelled(option.kind.help, '`{}`'.format)}<br>Values: {_values(option.kind)}. {shown}"


def _shown_default(default: Any, kind: Kind) -> str:
    unset = f", {spelled(kind.unset, '`{}`'.format)}" if default is None and kind.unset not in ("", "none") else ""
    return f"`{default!r}`{unset}"


def _values(kind: Kind) -> str:
    if isinstance(kind, Choice):
        return ", ".join(f"`{word}`" for word in kind.words)
    if isinstance(kind, Bounded):
        several = "numbers, each " if isinstance(kind, Numbers) else ""
        words = "".join(f", or `{word}`" for word in getattr(kind, "words", ()))
        return f"{several}{_number(kind.low)} to {_number(kind.high)}{words}"
    return kind.values


# --- the command line


def commands() -> str:
    """Returns a section for each command: its help, its usage and its options."""
    context = click.Context(main, info_name="max-whisper", **main.context_settings)
    return "\n\n".join(_command(command, name, context) for name, command in main.commands.items())


def _command(command: click.Command, name: str, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    parts = [f"## `{context.command_path}`", inspect.cleandoc(command.help or "")]
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts.append(f"```text\n{usage}\n```")
    if examples := getattr(command, "examples", ()):
        parts.append("```sh\n" + "\n".join(map(_example, examples, ("", *examples))) + "\n```")
    rows: dict[str, list[Sequence[str]]] = {}
    for param in command.get_params(context):
        if record := param.get_help_record(context):
            option, text = record
            rows.setdefault(getattr(param, "heading", "Options"), []).append((f"`{option}`", " ".join(text.split())))
    parts += [f"**{heading}**\n\n{table(('option', 'meaning'), below)}" for heading, below in rows.items()]
    return "\n\n".join(parts)


def _example(line: str, before: str) -> str:
    """Returns a line of examples as a shell reads it: an indented line goes on, or says what the line before does."""
    return f"# {line.strip()}" if line.startswith(" ") and not before.endswith("\\") else line


# --- examples


def examples() -> str:
    """Returns a section for each program in examples/, with its source."""
    paths = [*sorted((ROOT / "examples").glob("*.py")), *sorted((ROOT / "examples" / "own_spec").iterdir())]
    return "\n\n".join(_example_program(path) for path in paths if path.is_file() and path.name not in NO_EXAMPLES)


NO_EXAMPLES = {"make_recordings.py"}
"""Files of examples/ that are not for users: this one made the recordings."""


def _example_program(path: Path) -> str:
    language = {".py": "python", ".yaml": "yaml"}[path.suffix]
    return (
        f"## `{path.relative_to(ROOT / 'examples')}`\n\n```{language}\n{path.read_text(encoding='utf-8').rstrip()}\n```"
    )


# --- pages


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "dimensions": dimensions,
    "examples": examples,
    "layer-kinds": layer_kinds,
    "manifest": manifest_fields,
    "options": options_of_python,
    "plain-types": plain_types,
    "refused-versions": refused_versions,
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(CODE.sub(_without_bars, cell) for cell in line)} |" for line in lines)


CODE = re.compile(r"`[^`]*\|[^`]*`")


def _without_bars(code: re.Match[str]) -> str:
    """Returns code that contains bars as HTML, because generators and forges escape bars in tables differently."""
    return f"<code>{html.escape(code[0][1:-1]).replace('|', '&#124;')}</code>"


def _number(value: float) -> str:
    for power in (24, 31, 53):
        if value in (2**power, 2**power - 1):
            return f"2^{power}" if value == 2**power else f"2^{power} - 1"
    if value == 2**63 - 1:
        return "2^63 - 1"
    return f"{value:,}" if isinstance(value, int) and value > 9999 else f"{value:g}"


def _capital(text: str) -> str:
    """Returns a phrase as a sentence."""
    if not text:
        return ""
    first = text[0].upper() if text[:2].islower() else text[0]
    return f"{first}{text[1:]}" + ("" if text.endswith((".", "?")) else ".")


def generated(page: str) -> str:
    """Returns a page with its generated parts as they should be."""
    return PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n\n{part[3]}", page)


def stale() -> dict[Path, str]:
    """Returns the pages whose generated parts are not what the code says, with what they should be."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    return {path: text for path, page in pages.items() if (text := generated(page)) != page}


# --- hooks of the site generator


def on_pre_build(config: MkDocsConfig) -> None:
    """Brings the generated parts up to date before the pages are read."""
    for path, text in stale().items():
        path.write_text(text, encoding="utf-8")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie outside of docs/, and what these show."""
    from mkdocs.structure.files import File

    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_in_site(text, Path(source).parent)))
    for source, name in ATTACHED.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Points the links of a page in docs/ at those pages of the site that lie outside of docs/."""
    return _in_site(markdown, Path("docs"))


LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")


def _in_site(markdown: str, folder: Path) -> str:
    """Returns a page with its relative links as the site has them. folder: where the page is in the repository."""

    def linked(link: re.Match[str]) -> str:
        target = os.path.normpath(folder / link[2])
        site = (OUTSIDE | ATTACHED).get(target)
        if site is None and target.startswith("docs/") and folder != Path("docs"):
            site = target.removeprefix("docs/")
        return f"{link[1]}{site or link[2]}{link[3] or ''}{link[4]}"

    return LINK.sub(linked, markdown)


if __name__ == "__main__":
    wrong = stale()
    if "--check" in sys.argv[1:]:
        for path in wrong:
            print(f"{path.relative_to(ROOT)} is not up to date: run python docs/generate.py")
        sys.exit(1 if wrong else 0)
    on_pre_build(None)  # type: ignore[arg-type]  # it needs no configuration
    print(f"{len(wrong)} pages were brought up to date")
