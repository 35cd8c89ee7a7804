"""Shows a spec or an artifact as tables: layers, shapes, parameters, FLOPs, bytes, files and graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from max_whisper.artifact.load import check_artifact
from max_whisper.artifact.manifest import MANIFEST_FILE, Manifest, Port, WhisperManifest
from max_whisper.compile.stored_spec import read_spec
from max_whisper.console import Table, table_console
from max_whisper.errors import UserError
from max_whisper.files import expanded
from max_whisper.plan import BuildPlan, Kernels
from max_whisper.spec import Spec, TensorSpec, load_spec
from max_whisper.spec.counts import cross_kv_size, self_kv_size, weights_read
from max_whisper.spec.family import DEFAULT
from max_whisper.spec.layer import Layer
from max_whisper.tensors.dtypes import DTYPES
from max_whisper.tools.layers import shown_layers

KERNELS: Mapping[Kernels, str] = {"ours": "max-whisper's", "max": "MAX's own"}


def inspect(what: str, *, every: bool = False) -> None:
    """Prints the tables of an artifact, or of a spec.

    Args:
        what: The folder of an artifact, a spec file or the name of a shipped spec.
        every: Whether every copy of a repeated layer is shown, instead of the first alone.

    Raises:
        UserError: There is no such artifact or spec.
        SpecError: The spec is wrong.
        ArtifactError: The artifact is damaged.
    """
    console = table_console()
    folder = expanded(what)
    if not folder.is_dir():
        spec, plan = load_spec(what), None
    elif not (folder / MANIFEST_FILE).exists():
        raise UserError(
            f"{folder} is no artifact (it has no {MANIFEST_FILE}): expected one, a spec file or a spec's name"
        )
    else:
        manifest = check_artifact(folder, machine=False)
        spec, plan = read_spec(folder, manifest), manifest.plan
        console.print(_artifact_table(folder, manifest), _graph_table(manifest))
    console.print(_layer_table(spec, every))
    console.print(_total_table(spec, plan))


def _layer_table(spec: Spec, every: bool) -> Table:
    table = Table(title=f"{spec.name}, layer by layer")
    whisper = spec.family == DEFAULT
    flops = ("FLOPs/window", "FLOPs/token") if whisper else ("FLOPs/chunk",)
    for name in ("layer", "output", "parameters", *flops, "weights"):
        table.add_column(name, justify="right" if name in ("parameters", *flops) else "left")
    for tree in spec.parts.values():
        for node, copies in shown_layers(tree, every=every):
            if node.children:
                if copies > 1:
                    table.add_row(f"{node.path}  × {copies}", style="bold")
                continue
            table.add_row(
                node.path,
                " × ".join(map(str, node.output_shape)),
                _parameters(node.tensors),
                _short(node.flops_per_window),
                *([_short(node.flops_per_token(spec.n_text_ctx - 1))] if whisper else []),
                _weights(node.layer),
            )
        table.add_section()
    return table


def _parameters(tensors: Iterable[TensorSpec]) -> str:
    """Returns the number of parameters; tables that are computed at build time are no parameters."""
    parameters = sum(tensor.size for tensor in tensors if tensor.computed is None)
    computed = sum(tensor.size for tensor in tensors if tensor.computed is not None)
    return " + ".join(
        filter(None, [f"{parameters:,}" if parameters else "", f"{computed:,} computed" if computed else ""])
    )


def _weights(layer: Layer) -> str:
    """Returns the prefix of the layer's tensors in the checkpoint."""
    return getattr(layer, "weights", None) or (f"{layer.tied} (tied)" if hasattr(layer, "tied") else "")


def _total_table(spec: Spec, plan: BuildPlan | None) -> Table:
    """Returns the table of sums. The bytes read are those of each weight, once, and of the KV caches.

    Without a plan, all elements are float32.
    """
    dtypes = {tensor.name: tensor.dtype for tensor in plan.tensors} if plan else {}
    float32 = DTYPES["float32"]

    def size(tensor: TensorSpec) -> int:
        return tensor.size * DTYPES[dtypes.get(tensor.name, float32.name)].bytes

    computed = [tensor for tensor in spec.tensors() if tensor.computed is not None]
    parameters = [tensor for tensor in spec.tensors() if tensor.computed is None]
    table = Table("", "", title="totals", show_header=False)
    table.add_row("parameters", _size_and_count(parameters))
    if computed:
        table.add_row("computed tables", _size_and_count(computed))
    table.add_row("weights", f"{sum(map(size, spec.tensors())) / 1e6:,.1f} MB")
    if spec.family != DEFAULT:
        table.add_row("per chunk", f"{_short(spec.flops_per_window())}FLOP")
        return table
    per_window, per_token = weights_read(spec, size)
    cross_cache = cross_kv_size(spec) * (DTYPES[plan.cross_kv_dtype] if plan else float32).bytes
    self_cache = self_kv_size(spec) * spec.n_text_ctx * float32.bytes
    table.add_row("KV caches of a window", f"{(cross_cache + self_cache) / 1e6:,.1f} MB")
    table.add_row(
        "per window",
        f"{_short(spec.flops_per_window())}FLOP, {per_window / 1e6:,.1f} MB of weights read",
    )
    for position in (0, spec.n_text_ctx - 1):
        caches = cross_cache + self_cache * (position + 1) // spec.n_text_ctx
        read = per_token + caches
        table.add_row(
            f"token at position {position}", f"{_short(spec.flops_per_token(position))}FLOP, {read / 1e6:,.1f} MB read"
        )
    return table


def _size_and_count(tensors: list[TensorSpec]) -> str:
    tensor = "tensor" if len(tensors) == 1 else "tensors"
    return f"{sum(tensor.size for tensor in tensors):,} in {len(tensors)} {tensor}"


def _artifact_table(folder: Path, manifest: Manifest) -> Table:
    plan, source = manifest.plan, manifest.source
    table = Table("", "", title=f"{folder}", show_header=False)
    table.add_row("spec", f"{plan.spec.name}, sha256 {plan.spec.hash}")
    repo = f"{source.repo} at {source.commit}" if source.repo else "a local folder or file"
    table.add_row("weights from", f"the Python package {source.package}" if source.package else repo)
    table.add_row(
        "built by",
        f"max-whisper {manifest.builder} with MAX {manifest.max}",
    )
    table.add_row("dtype, batch", f"{plan.dtype}, {plan.batch}")
    table.add_row("kernels", KERNELS[plan.kernels])
    table.add_row("target", f"{plan.target} with {' '.join(plan.target.features)}")
    if isinstance(manifest, WhisperManifest):
        languages = len(manifest.tokens.languages)
        table.add_row("languages", f"{languages}" if languages else "English only")
    for name, file in manifest.files.items():
        table.add_row(name, f"{file.size:,} bytes, BLAKE3 {file.blake3}")
    return table


def _graph_table(manifest: Manifest) -> Table:
    table = Table("graph", "file", "inputs", "outputs", title="compiled graphs")
    for name, graph in manifest.graphs.items():
        inputs, outputs = (_ports(ports) for ports in (graph.inputs, graph.outputs))
        table.add_row(name, graph.file, inputs, outputs)
    return table


def _ports(ports: list[Port]) -> list[str]:
    """Returns a line for each port; ports that each layer has, as `self_keys.0`, share a line."""
    by_stem: dict[str, list[Port]] = {}
    for port in ports:
        stem, _, index = port.name.rpartition(".")
        by_stem.setdefault(stem if index.isdigit() else port.name, []).append(port)
    return [
        f"{stem if len(group) == 1 else f'{stem}.0 … {len(group) - 1}'}: {group[0].dtype} {_shape(group[0])}"
        for stem, group in by_stem.items()
    ]


def _shape(port: Port) -> str:
    return f"[{', '.join(map(str, port.shape))}]"


def _short(number: int) -> str:
    """Returns a number with three digits, 12345678 as `12.3 M`; nothing for 0."""
    for limit, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number) if number else ""
