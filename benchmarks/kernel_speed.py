"""Times each kernel that a transcription spends time in, alone, beside the CPU's peak rate or the memory's bandwidth.

    python -m benchmarks.kernel_speed [--only gemm …] [--threads 2]

A kernel that reads weights takes them in turn from more copies than the caches hold, as in a decode step. Activations
may be in a cache, where the kernel before would have left them. Times are medians of calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod
from statistics import median
from time import perf_counter
from typing import Any

import click
import numpy as np
from max_whisper.tensors.pack import packed_shape
from rich.console import Console
from rich.table import Table

from benchmarks.common import help_text, since, use_cpus

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, "int64": 8}
COLD = 120e6  # bytes that no cache holds
LEAST_CALLS = 10
ONE = 0x3F80  # in bfloat16
ROWS, CONTEXT, POSITION, VOCABULARY, WIDTH, HEADS = 1500, 448, 50, 51865, 384, 6  # of tiny
DENSE = [(384, 384), (384, 1536), (1536, 384), (768, 3072)]
LINEAR = {  # what a linear layer does besides the product
    "bare": {},
    "norm, bias": {"has_norm": True, "has_bias": True},
    "norm, bias, GELU": {"has_norm": True, "has_bias": True, "activation": "gelu"},
    "bias, residual": {"has_bias": True, "has_residual": True},
}
DTYPES = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Operand:
    """A tensor that a kernel reads or writes."""

    dtype: str
    names: str  # of its dimensions, which may be of any size; those of one name are equal
    shape: tuple[int, ...]
    value: float | tuple[int, ...] | None = None  # of every number, or of every row; None is random, of bfloat16 1
    read: bool = True
    cold: bool = False  # comes from memory, not from a cache
    mutable: bool = False

    @property
    def bytes(self) -> int:
        """The bytes that a call moves."""
        return prod(self.shape) * BYTES[self.dtype] if self.read else 0


@dataclass(frozen=True)
class Case:
    """A call of a kernel, with what it computes and moves."""

    kernel: str
    what: str
    dtype: str  # of its weights, keys or products
    inputs: list[Operand]
    outputs: list[Operand]
    products: dict[str, int] = field(default_factory=dict)  # operations by dtype
    parameters: dict[str, Any] = field(default_factory=dict)
    unread: int = 0  # bytes of the inputs

    @property
    def flops(self) -> int:
        return sum(self.products.values())

    @property
    def moved(self) -> int:
        """The bytes that a call reads and writes."""
        return sum(x.bytes for x in [*self.inputs, *self.outputs]) - self.unread

    @property
    def graph(self) -> tuple[Any, ...]:
        """The key of the graph: equal for all cases that one graph can serve."""
        return self.kernel, *sorted(self.parameters.items()), *(x.dtype for x in self.inputs)


def f32(names: str, *shape: int, value: float | None = None, read: bool = True) -> Operand:
    return Operand("float32", names, shape, value, read)


def number(value: int) -> Operand:
    return Operand("int64", "", (), value)


EPS = f32("", value=1e-5)


def scales(out: int, dtype: str) -> Operand:
    return f32("two scaled", 2, out, value=0.01, read=dtype == "int8")


def linear_operands(
    width: int, rows: int, out: int, dtype: str, changes: dict[str, Any]
) -> tuple[list[Operand], dict[str, Any]]:
    """Returns the operands of a linear layer that follow its weights, and its parameters."""
    flags = {"has_norm": False, "has_bias": False, "has_residual": False, "activation": "none", **changes}
    norm = f32("channels", width, read=flags["has_norm"])
    operands = [
        scales(out, dtype),
        f32("out", out, read=flags["has_bias"]),
        norm,
        norm,
        f32("1 rows out", 1, rows, out, read=flags["has_residual"]),
        EPS,
    ]
    return operands, flags


def gemm() -> Iterator[Case]:
    for dtype, (width, out), (what, changes) in product(DTYPES, DENSE, LINEAR.items()):
        operands, flags = linear_operands(width, ROWS, out, dtype, changes)
        packed = Operand(dtype, "panels words places", packed_shape(out, width, dtype))
        x, y = f32("1 rows channels", 1, ROWS, width), f32("1 1 rows out", 1, 1, ROWS, out)
        inputs = [x, packed, *operands, number(width), number(width), number(0)]
        what = f"{ROWS} × {width} × {out}, {what}"
        yield Case("gemm", what, dtype, inputs, [y], {dtype: 2 * ROWS * width * out}, flags)


def projections_case(kernel: str, dtype: str, rows: int, width: int, matrix: Operand, peak: str) -> Case:
    x, bias = f32("1 rows channels", 1, rows, width), f32("channels", width)
    inputs = [x, *[matrix] * 3, *[scales(width, dtype)] * 3, *[bias] * 4, EPS]
    what, flops = f"{rows} × {width} × 3 · {width}", 3 * 2 * rows * width * width
    return Case(kernel, what, dtype, inputs, [x] * 3, {peak: flops}, {"has_norm": True})


def gemm_qkv() -> Iterator[Case]:
    for dtype, width in product(DTYPES, (384, 768)):
        packed = Operand(dtype, "panels words places", packed_shape(width, width, dtype))
        yield projections_case("gemm_qkv", dtype, ROWS, width, packed, dtype)


def gemv_qkv() -> Iterator[Case]:
    for dtype, width in product(DTYPES, (384, 768)):
        matrix = Operand(dtype, "channels channels", (width, width), cold=True)
        yield projections_case("gemv_qkv", dtype, 1, width, matrix, "float32")


def full_attention() -> Iterator[Case]:
    for dtype, heads in product(DTYPES, (6, 12)):
        rows = f32("1 rows channels", 1, ROWS, heads * 64)
        what, flops = f"{heads} heads of 64, {ROWS} rows", 4 * ROWS * ROWS * heads * 64
        inputs = [rows, rows, rows, number(heads)]
        yield Case("full_attention", what, dtype, inputs, [rows], {dtype: flops}, {"dtype": dtype})


def gemv() -> Iterator[Case]:
    shapes = (*DENSE[:3], (WIDTH, VOCABULARY))
    for dtype, (width, out), rows in product(DTYPES, shapes, (1, 4)):
        operands, flags = linear_operands(width, rows, out, dtype, LINEAR["norm, bias"])
        matrix = Operand(dtype, "out channels", (out, width), cold=True)
        x, y = f32("1 rows channels", 1, rows, width), f32("1 rows out", 1, rows, out)
        what = f"{rows} × {width} × {out}, norm, bias"
        yield Case("gemv", what, dtype, [x, matrix, *operands], [y], {"float32": 2 * rows * width * out}, flags)


def cross_attention() -> Iterator[Case]:
    for dtype, rows in product(DTYPES, (1, 4)):
        memory = Operand(dtype, "1 heads keys width", (1, HEADS, ROWS, 64), cold=True)
        scales = f32("one heads keys", 1, HEADS, ROWS)
        q = f32("1 rows channels", 1, rows, WIDTH)
        what, flops = f"{rows} over {ROWS}, {HEADS} heads of 64", 4 * rows * ROWS * WIDTH
        yield Case("cross_attention", what, dtype, [q, memory, scales, memory, scales], [q], {"float32": flops})


def cached_attention() -> Iterator[Case]:
    row = f32("1 rows channels", 1, 1, WIDTH)
    cache = Operand("float32", "1 heads room width", (1, HEADS, CONTEXT, 64), mutable=True)
    for position in (POSITION, CONTEXT - 1):
        unread = 2 * (CONTEXT - 1 - position) * row.bytes
        what, flops = f"1 at position {position}, {HEADS} heads of 64", 4 * (position + 1) * WIDTH
        inputs = [row, row, row, cache, cache, number(position)]
        yield Case("cached_attention", what, "float32", inputs, [row], {"float32": flops}, unread=unread)


def fused_choose_token() -> Iterator[Case]:
    vector, noise = f32("channels", WIDTH), f32("1 1 n_vocab", 1, 1, VOCABULARY, value=0)
    mask = f32("n_vocab", VOCABULARY, value=0)
    allowed = Operand("int64", "1 1 4", (1, 1, 4), (0, VOCABULARY, VOCABULARY, VOCABULARY))  # every token, as text
    outputs = [Operand("int64", "1 1", (1, 1)), f32("1 1", 1, 1)]
    for dtype in DTYPES:
        table = Operand(dtype, "n_vocab channels", (VOCABULARY, WIDTH), cold=True)
        x = f32("1 1 channels", 1, 1, WIDTH)
        inputs = [x, table, scales(VOCABULARY, dtype), vector, vector, EPS, mask, allowed, noise]
        what = f"of {VOCABULARY}, {WIDTH} wide"
        yield Case("fused_choose_token", what, dtype, inputs, outputs, {"float32": 2 * VOCABULARY * WIDTH})


def token_embedding() -> Iterator[Case]:
    """Yields cases that read one row of each table."""
    y, positions = f32("1 1 channels", 1, 1, WIDTH), f32("context channels", CONTEXT, WIDTH)
    for dtype in DTYPES:
        table = Operand(dtype, "n_vocab channels", (VOCABULARY, WIDTH))
        unread = sum(x.bytes - x.bytes // x.shape[0] for x in (table, positions)) + scales(VOCABULARY, dtype).bytes
        inputs = [Operand("int64", "1 1", (1, 1), 7), table, scales(VOCABULARY, dtype), positions, number(POSITION)]
        yield Case("token_embedding", f"1 of {VOCABULARY}, {WIDTH} wide", dtype, inputs, [y], unread=unread)


def layernorm() -> Iterator[Case]:
    for width in (384, 768):
        x, vector = f32("1 rows channels", 1, ROWS, width), f32("channels", width)
        yield Case("layernorm", f"{ROWS} × {width}", "float32", [x, vector, vector, EPS], [x])


MAKERS = (
    gemm,
    gemm_qkv,
    full_attention,
    gemv,
    gemv_qkv,
    cross_attention,
    cached_attention,
    fused_choose_token,
    token_embedding,
    layernorm,
)
KERNELS = {maker.__name__: maker for maker in MAKERS}


@click.command(help=help_text(__doc__))
@click.option("--only", multiple=True, type=click.Choice([*KERNELS]), help="Leave out the others.")
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
@click.option("--seconds", default=0.3, show_default=True, type=click.FloatRange(0.01), help="For each case.")
def main(only: tuple[str, ...], threads: int, seconds: float) -> None:
    use_cpus(threads)
    from max_whisper.tools.bench.peak_rates import Probes, arithmetic_ms, higher

    probes = Probes()
    before = probes.measure()
    chosen = [case for kernel in only or KERNELS for case in KERNELS[kernel]()]
    models = compiled(chosen)
    measured = [(case, milliseconds(case, models[case.graph], seconds)) for case in chosen]
    peaks = higher(before, probes.measure())
    table = Table("kernel", "case", "dtype")
    for name in ("ms", "GFLOP/s", "GB/s", "bound by", "of the peak"):
        table.add_column(name, justify="right")
    for case, ms in measured:
        products, reading = arithmetic_ms(case.products, peaks), case.moved / peaks["memory"] / 1e6
        table.add_row(
            case.kernel,
            case.what,
            case.dtype,
            f"{ms:.4f}",
            f"{case.flops / ms / 1e6:,.1f}" if case.flops else "",
            f"{case.moved / ms / 1e6:,.1f}",
            "arithmetic" if products > reading else "memory",
            f"{max(products, reading) / ms:.0%}",
        )
    console = Console(width=150, highlight=False)
    console.print(table)
    limits = [f"{name} {value:,.1f} {'GB/s' if name == 'memory' else 'GFLOP/s'}" for name, value in peaks.items()]
    console.print(f"the machine: {', '.join(limits)}; starting a call is in its time")


def compiled(cases: list[Case]) -> dict[tuple[Any, ...], Any]:
    """Returns a compiled graph of one kernel alone for each key of the cases."""
    from max import engine
    from max.driver import CPU
    from max.dtype import DType
    from max.graph import BufferType, DeviceRef, Graph, Module, TensorType, ops
    from max_whisper.compile.modules import cache_folder
    from max_whisper.compile.mojo_packages import kernels_package

    host, module, package = DeviceRef.CPU(), Module(), kernels_package(cache_folder())

    def type_of(x: Operand) -> Any:
        kind = BufferType if x.mutable else TensorType
        return kind(DType[x.dtype], [int(name) if name.isdigit() else name for name in x.names.split()], host)

    kinds = {case.graph: case for case in cases}
    for i, case in enumerate(kinds.values()):
        parameters = {key: DType[value] if key == "dtype" else value for key, value in case.parameters.items()}
        custom = ops.inplace_custom if any(x.mutable for x in case.inputs) else ops.custom
        types = [type_of(x) for x in case.inputs]
        with Graph(str(i), input_types=types, module=module, custom_extensions=[package]) as graph:
            outputs = [type_of(x) for x in case.outputs]
            graph.output(*custom(case.kernel, host, graph.inputs, outputs, parameters=parameters))
    models = engine.InferenceSession(devices=[CPU()]).load_all(module, custom_extensions=[package])
    return {kind: models[str(i)] for i, kind in enumerate(kinds)}


def milliseconds(case: Case, model: Any, seconds: float) -> float:
    """Returns the median time of a call, after a call with each copy of the weights that does not count."""
    cold = sum(x.bytes for x in case.inputs if x.cold)
    copies = int(COLD / cold) + 1 if cold else 1
    kept = [None if x.cold else buffer(x) for x in case.inputs]
    calls = [
        [buffer(x) if mine is None else mine for x, mine in zip(case.inputs, kept, strict=True)] for _ in range(copies)
    ]
    for inputs in calls:
        model.execute(*inputs)
    times: list[float] = []
    end = perf_counter() + seconds
    while len(times) < LEAST_CALLS or perf_counter() < end:
        start = perf_counter()
        model.execute(*calls[len(times) % copies])
        times.append(since(start))
    return median(times)


def buffer(x: Operand) -> Any:
    from max.driver import Buffer
    from max.dtype import DType

    if x.dtype == "bfloat16":
        return Buffer.from_numpy(np.full(x.shape, ONE, np.uint16)).view(DType.bfloat16)
    if x.value is not None:
        return Buffer.from_numpy(np.full(x.shape, x.value, x.dtype))
    if x.dtype == "float32":
        return Buffer.from_numpy(np.random.default_rng(0).standard_normal(x.shape, np.float32))
    return Buffer.from_numpy(np.random.default_rng(0).integers(-127, 127, x.shape, x.dtype))


if __name__ == "__main__":
    main()
