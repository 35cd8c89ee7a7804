"""The kernels in Mojo against numpy, over shapes that do not fit their blocks.

All that is executed here is executed by one thread as well, and must be the same to the last bit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from max import engine
from max.driver import CPU, Buffer
from max.dtype import DType
from max.graph import BufferType, DeviceRef, Graph, Module, TensorType, ops
from max_whisper.artifact.cores import max_threads, usable_cores
from max_whisper.artifact.target import machine_features
from max_whisper.compile.modules import cache_folder
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.plan import INT8_FEATURE
from max_whisper.tensors.cast import to_bfloat16
from max_whisper.tensors.pack import pack
from max_whisper.tensors.quantize import dequantize, quantize

HOST = DeviceRef.CPU()
F32, I64 = DType.float32, DType.int64
DTYPES = {"float32": F32, "bfloat16": DType.bfloat16, "int8": DType.int8}
TOKEN_DTYPES = DTYPES | {"float16": DType.float16}  # of the weights that each token reads
ERRORS = {"float32": 1e-6, "bfloat16": 5e-3, "int8": 2e-2}  # of a product, beside its largest number
FEW_ROWS_ERRORS = dict.fromkeys(DTYPES, 2e-6) | {"float16": 2e-6, "int8": 2e-5}  # int8 rounds rows to 15 bits
OPTIONS = {  # what a linear layer does besides the product
    "bare": {},
    "bias": {"bias": True},
    "norm": {"norm": True, "bias": True},
    "gelu": {"bias": True, "activation": "gelu"},
    "gelu_tanh": {"activation": "gelu_tanh"},
    "relu": {"norm": True, "activation": "relu"},
    "silu": {"bias": True, "activation": "silu", "residual": True},
    "residual": {"bias": True, "residual": True},
    "norm_gelu": {"norm": True, "bias": True, "activation": "gelu"},
}
ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda x: x,
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}
EPS = 1e-5
HEADS = [(1, 7), (2, 16), (3, 20), (5, 3), (6, 64)]  # and the channels of each
HEADED = ["batch", "heads", "keys", "width"]
MEMORY = ["windows", *HEADED[1:]]


class Twice:
    """A graph that is executed with one thread for each core, and with one thread."""

    def __init__(self, graph: engine.Model) -> None:
        self._graph = graph

    def execute(self, *inputs: Any) -> list[Buffer]:
        outputs = self._graph.execute(*inputs)
        threads, cores = max_threads(), usable_cores()
        assert threads
        bind(threads, {min(cores)})
        try:
            again = self._graph.execute(*inputs)
        finally:
            bind(threads, cores)
        for one, other in zip(outputs, again, strict=True):
            assert bits(one) == bits(other)
        return outputs


def bind(threads: list[int], cores: set[int]) -> None:
    for thread in threads:
        os.sched_setaffinity(thread, cores)


def bits(buffer: Buffer) -> bytes:
    return buffer.view(DType.uint8, [buffer.num_elements * buffer.dtype.size_in_bytes]).to_numpy().tobytes()


@pytest.fixture(scope="module")
def kernels() -> Mapping[str, Twice]:
    """A graph for each kernel, with each of its forms that the models use."""
    package = kernels_package(cache_folder())
    module = Module()

    def graph(name: str, kernel: str, inputs: list[Any], outputs: list[Any], **parameters: Any) -> None:
        custom = ops.inplace_custom if any(isinstance(type_, BufferType) for type_ in inputs) else ops.custom
        with Graph(name, input_types=inputs, module=module, custom_extensions=[package]) as graph:
            graph.output(*custom(kernel, HOST, graph.inputs, outputs, parameters=parameters))

    rows = TensorType(F32, ["batch", "length", "channels"], HOST)
    number, vector = TensorType(I64, [], HOST), TensorType(F32, ["channels"], HOST)
    eps, out = TensorType(F32, [], HOST), TensorType(F32, ["batch", 1, "rows", "out"], HOST)
    scales, table = TensorType(F32, ["two", "scaled"], HOST), TensorType(F32, ["context", "channels"], HOST)
    n_vocab = TensorType(F32, ["n_vocab"], HOST)
    chosen = [TensorType(dtype, ["batch", "length"], HOST) for dtype in (I64, F32)]
    allowed, noise = (
        TensorType(I64, ["batch", "length", 4], HOST),
        TensorType(F32, ["batch", "length", "n_vocab"], HOST),
    )
    rules = [n_vocab, allowed, noise]
    logits = TensorType(F32, ["batch", "rows", "n_vocab"], HOST)
    for name, dtype in TOKEN_DTYPES.items():
        matrix = TensorType(dtype, ["out", "in"], HOST)
        packed = TensorType(dtype, ["panels", "words", "places"], HOST)
        others = [
            scales,
            TensorType(F32, ["bias"], HOST),
            vector,
            vector,
            TensorType(F32, ["some", "rows", "out"], HOST),
        ]
        for option, given in OPTIONS.items():
            flags = {f"has_{part}": given.get(part, False) for part in ("norm", "bias", "residual")}
            flags["activation"] = given.get("activation", "none")
            rows_out = TensorType(F32, ["batch", "length", "out"], HOST)
            graph(f"gemv.{name}.{option}", "gemv", [rows, matrix, *others, eps], [rows_out], **flags)
            if name in DTYPES:
                inputs = [rows, packed, *others, eps, number, number, number]
                graph(f"gemm.{name}.{option}", "gemm", inputs, [out], **flags)
        three = [scales, scales, scales, TensorType(F32, ["bias"], HOST), TensorType(F32, ["bias"], HOST)]
        for flag in (False, True):
            operands, what = [*three, vector, vector, eps], {"has_norm": flag}
            outs = [TensorType(F32, ["batch", "length", "bias"], HOST)] * 3
            for kind, weight in {"gemv": matrix, **({"gemm": packed} if name in DTYPES else {})}.items():
                kernel = f"{kind}_qkv"
                graph(f"{kernel}.{name}.{flag}", kernel, [rows, *[weight] * 3, *operands], outs, **what)
        embedding = TensorType(dtype, ["n_vocab", "channels"], HOST)
        tokens = TensorType(I64, ["batch", "length"], HOST)
        graph(f"embedding.{name}", "token_embedding", [tokens, embedding, scales, table, number], [rows])
        inputs = [rows, embedding, scales, vector, vector, eps, *rules]
        graph(f"next.{name}", "fused_choose_token", inputs, chosen)
    row_scales = TensorType(F32, ["stacked", "headed", "remembered"], HOST)
    for name, dtype in DTYPES.items():
        memory = TensorType(dtype, MEMORY, HOST)
        graph(f"memory.{name}", "cross_attention", [rows, memory, row_scales, memory, row_scales], [rows])
        some = TensorType(I64, ["some"], HOST)
        scores = TensorType(F32, ["batch", "some", "length", "keys"], HOST)
        graph(f"scores.{name}", "attention_scores", [rows, memory, row_scales, some], [scores])
    forms = [(name, name) for name in DTYPES] + [("float16", "float32"), ("int8", "bfloat16")]
    for name, memory_name in forms:
        dtype, memory = TOKEN_DTYPES[name], TensorType(DTYPES[memory_name], MEMORY, HOST)
        cache = BufferType(F32, ["batch", "heads", "context", "width"], HOST)
        square, wide = TensorType(dtype, ["channels", "channels"], HOST), TensorType(dtype, ["inner", "channels"], HOST)
        narrow, inner = TensorType(dtype, ["channels", "inner"], HOST), TensorType(F32, ["inner"], HOST)
        s = TensorType(F32, ["two", "scaled"], HOST), TensorType(F32, ["two", "widely"], HOST)
        out_projection = [square, s[0], vector]
        qkv = [square, s[0], vector, square, s[0], square, s[0], vector]
        own = [vector, vector, *qkv, cache, cache, number, *out_projection]
        cross = [vector, vector, square, s[0], vector, memory, row_scales, memory, row_scales, *out_projection]
        mlp = [vector, vector, wide, s[1], inner, narrow, s[0], vector]
        inputs, outs = [rows, *own, *cross, *mlp, eps], [rows, rows]
        graph(f"layer.{name}.{memory_name}", "decoder_layer", inputs, outs, activation="gelu")
    for centered in (False, True):
        headed, whole = TensorType(F32, HEADED, HOST), TensorType(DType.int8, HEADED, HOST)
        outs = [whole, TensorType(F32, HEADED[:3], HOST)]
        graph(f"quantize.{centered}", "quantize_rows", [headed], outs, centered=centered)
    for name, dtype in DTYPES.items():
        graph(f"attention.{name}", "full_attention", [rows, rows, rows, number], [rows], dtype=dtype)
    packed = TensorType(F32, ["panels", "words", "places"], HOST)
    inputs = [
        rows,
        packed,
        scales,
        TensorType(F32, ["bias"], HOST),
        vector,
        vector,
        TensorType(F32, ["some", "rows", "out"], HOST),
        eps,
        number,
        number,
        number,
    ]
    flags = {"has_norm": False, "has_bias": False, "has_residual": False, "activation": "none"}
    for heads, width in HEADS:
        headed = TensorType(DType.bfloat16, ["batch", heads, "rows", width], HOST)
        graph(f"heads.{heads}", "gemm", inputs, [headed], **flags)
    cache = BufferType(F32, HEADED, HOST)
    graph("cache", "cached_attention", [rows, rows, rows, cache, cache, number], [rows])
    graph("norm", "layernorm", [rows, vector, vector, eps], [rows])
    graph("choose", "choose_token", [logits, *rules], chosen)
    graph("probability", "token_probability", [logits, number], [TensorType(F32, ["batch", 1], HOST)])
    graphs = engine.InferenceSession(devices=[CPU()]).load_all(module, custom_extensions=[package])
    return {name: Twice(graph) for name, graph in graphs.items()}


@dataclass(frozen=True)
class Weights:
    """A matrix as the kernels read it, and as it is after rounding."""

    plain: Buffer
    packed: Buffer | None
    scales: np.ndarray
    exact: np.ndarray


def weights(matrix: np.ndarray, dtype: str) -> Weights:
    if dtype == "int8":
        numbers, scales = quantize(matrix)
        return Weights(
            Buffer.from_numpy(numbers), Buffer.from_numpy(pack(numbers, dtype)), scales, dequantize(numbers, scales)
        )
    none = np.full((2, 1), np.nan, np.float32)
    if dtype == "float32":
        return Weights(Buffer.from_numpy(matrix), Buffer.from_numpy(pack(matrix, dtype)), none, matrix)
    if dtype == "float16":
        halves = matrix.astype(np.float16)
        return Weights(Buffer.from_numpy(halves), None, none, halves.astype(np.float32))
    bits = to_bfloat16(matrix)
    plain, packed = (Buffer.from_numpy(x).view(DType.bfloat16) for x in (bits, pack(bits, dtype)))
    return Weights(plain, packed, none, from_bfloat16(bits))


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def normed(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPS) * weight + bias


@dataclass(frozen=True)
class Case:
    """Operands of a linear layer; what an option does not use is NaN, which would be seen if it were read."""

    option: str
    rows: np.ndarray  # of the product, [batch, rows, in]
    matrix: Weights
    bias: np.ndarray
    norm: tuple[np.ndarray, np.ndarray]
    residual: np.ndarray

    @classmethod
    def of(cls, option: str, dtype: str, rows: np.ndarray, n_out: int, width: int | None = None) -> Case:
        given, n_in = OPTIONS[option], rows.shape[2]
        unread = np.full(1, np.nan, np.float32)
        width = n_in if width is None else width
        norm = (
            (1 + 0.1 * normal(width, seed=3), normal(width, seed=4)) if "norm" in given else (unread.repeat(width),) * 2
        )
        shape = (len(rows) if n_out % 2 else 1, rows.shape[1], n_out)  # one for all windows, or one each
        return cls(
            option,
            rows,
            weights(normal(n_out, n_in, seed=1), dtype),
            normal(n_out, seed=2) if "bias" in given else unread,
            norm,
            normal(*shape, seed=5) if "residual" in given else np.full(shape, np.nan, np.float32),
        )

    @staticmethod
    def unread(n_in: int, rows: int, n_out: int) -> list[Any]:
        nan = np.full(1, np.nan, np.float32)
        return [nan, (nan.repeat(n_in),) * 2, np.full((1, rows, n_out), np.nan, np.float32)]

    @property
    def operands(self) -> list[np.ndarray]:
        return [self.matrix.scales, self.bias, *self.norm, self.residual, np.float32(EPS)]

    @property
    def expected(self) -> np.ndarray:
        given = OPTIONS[self.option]
        x = normed(self.rows, *self.norm) if "norm" in given else self.rows.astype(np.float64)
        y = x @ self.matrix.exact.T.astype(np.float64) + (self.bias if "bias" in given else 0)
        y = ACTIVATIONS[given.get("activation", "none")](y)
        return y + self.residual if "residual" in given else y


@pytest.mark.parametrize("dtype", TOKEN_DTYPES)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(
    ("batch", "length", "n_in", "n_out"),
    [(1, 1, 1, 1), (1, 1, 17, 5), (2, 3, 100, 101), (1, 9, 33, 1030), (1, 1, 384, 5187), (3, 2, 129, 4099)],
)
def test_gemv(kernels, dtype: str, option: str, batch: int, length: int, n_in: int, n_out: int):
    if "residual" in OPTIONS[option] and n_out % 2 == 0:
        n_out += 1  # a residual of its own for each window: the others are for tables of positions
    case = Case.of(option, dtype, normal(batch, length, n_in), n_out)
    y = kernels[f"gemv.{dtype}.{option}"].execute(case.rows, case.matrix.plain, *case.operands)[0].to_numpy()
    assert y.shape == case.expected.shape
    assert np.abs(y - case.expected).max() <= FEW_ROWS_ERRORS[dtype] * max(1, np.abs(case.expected).max()) * n_in**0.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(
    ("batch", "length", "n_in", "n_out"),
    [(1, 1, 2, 1), (1, 12, 32, 32), (2, 13, 33, 70), (1, 100, 129, 31), (3, 50, 384, 100)],
)
def test_gemm(kernels, dtype: str, option: str, batch: int, length: int, n_in: int, n_out: int):
    case = Case.of(option, dtype, normal(batch, length, n_in), n_out)
    places = [np.int64(n_in), np.int64(n_in), np.int64(0)]
    y = (
        kernels[f"gemm.{dtype}.{option}"]
        .execute(case.rows, case.matrix.packed, *case.operands, *places)[0]
        .to_numpy()[:, 0]
    )
    assert y.shape == case.expected.shape
    assert np.abs(y - case.expected).max() <= ERRORS[dtype] * max(4, np.abs(case.expected).max())


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 5e-7), ("bfloat16", 5e-7), ("int8", 3e-5)])
def test_the_error_of_gelu(kernels, dtype: str, bound: float):
    """The biases are what it takes, as the product is 0."""
    case = Case.of("gelu", dtype, np.zeros((1, 1, 2), np.float32), 1601)
    case = replace(case, bias=np.linspace(-8, 8, 1601, dtype=np.float32))
    places = [np.int64(2), np.int64(2), np.int64(0)]
    y = kernels[f"gemm.{dtype}.gelu"].execute(case.rows, case.matrix.packed, *case.operands, *places)[0].to_numpy()
    assert np.abs(y[:, 0] - case.expected).max() <= bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("length", "channels", "kernel", "stride", "padding"),
    [(20, 5, 3, 1, 1), (31, 16, 3, 2, 1), (9, 4, 5, 2, 4), (5, 3, 2, 1, 7)],
)
def test_gemm_as_a_convolution(kernels, dtype: str, length: int, channels: int, kernel: int, stride: int, padding: int):
    x = normal(2, length, channels)
    padded = np.pad(x, [(0, 0), (padding, padding), (0, 0)])
    n_rows = (length + 2 * padding - kernel) // stride + 1
    rows = np.stack([padded[:, i * stride : i * stride + kernel].reshape(2, -1) for i in range(n_rows)], axis=1)
    case = Case.of("gelu", dtype, rows, 7, width=channels)
    places = [np.int64(kernel * channels), np.int64(stride * channels), np.int64(padding * channels)]
    y = kernels[f"gemm.{dtype}.gelu"].execute(x, case.matrix.packed, *case.operands, *places)[0].to_numpy()[:, 0]
    assert np.abs(y - case.expected).max() <= ERRORS[dtype] * max(4, np.abs(case.expected).max())


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("dtype", TOKEN_DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 5, 3), (1, 1, 384, 384), (4, 1, 129, 260), (2, 13, 70, 40)])
def test_projections_are_three_linear_layers(kernels, dtype: str, normed: bool, shape: tuple[int, int, int, int]):
    """To the last bit, as nobody should have to know whether layers were joined."""
    batch, length, n_in, n_out = shape
    rows = normal(batch, length, n_in)
    option = "norm" if normed else "bias"
    _, bias, weight, norm_bias, residual, eps = Case.of(option, dtype, rows, n_out).operands
    matrices = [weights(normal(n_out, n_in, seed=seed), dtype) for seed in (1, 2, 3)]
    other = normal(n_out, seed=9)
    for kind, places in {"gemv": (), "gemm": (np.int64(n_in), np.int64(n_in), np.int64(0))}.items():
        if kind == "gemm" and dtype not in DTYPES:
            continue
        operands = [matrix.plain if kind == "gemv" else matrix.packed for matrix in matrices]
        together = kernels[f"{kind}_qkv.{dtype}.{normed}"].execute(
            rows, *operands, *(matrix.scales for matrix in matrices), bias, other, weight, norm_bias, eps
        )
        for y, matrix, operand, shift in zip(together, matrices, operands, (bias, 0 * bias, other), strict=True):
            alone = kernels[f"{kind}.{dtype}.{option}"].execute(
                rows, operand, matrix.scales, shift, weight, norm_bias, residual, eps, *places
            )[0]
            assert np.array_equal(y.to_numpy(), alone.to_numpy().reshape(batch, length, n_out))


def test_a_batch_is_its_rows(kernels):
    case = Case.of("norm", "float32", normal(3, 2, 40), 9)
    run = kernels["gemv.float32.norm"].execute
    whole = run(case.rows, case.matrix.plain, *case.operands)[0].to_numpy()
    for i in range(3):
        alone = run(case.rows[i : i + 1], case.matrix.plain, *case.operands)[0].to_numpy()
        assert np.array_equal(alone, whole[i : i + 1])


def attention_error(kernels, dtype: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> float:
    y = kernels[f"attention.{dtype}"].execute(q, k, v, np.int64(heads))[0].to_numpy()
    q, k = (split(x.astype(np.float64), heads) for x in (q, k))
    return float(np.abs(y - merged(softmax(products(q, k)) @ split(v, heads))).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("batch", "length", "heads", "width"),
    [(1, 1, 1, 1), (1, 5, 1, 7), (2, 37, 3, 24), (1, 200, 2, 64), (1, 33, 3, 40), (1, 385, 1, 64), (1, 800, 2, 20)],
)
def test_full_attention(kernels, dtype: str, batch: int, length: int, heads: int, width: int):
    q, k, v = (normal(batch, length, heads * width, seed=seed) for seed in range(3))
    error = attention_error(kernels, dtype, q, k, v, heads)
    assert error <= {"float32": 1e-6, "bfloat16": 1e-2, "int8": 3e-2}[dtype]


@pytest.mark.parametrize("scale", [1e-6, 8])
def test_full_attention_of_small_and_of_large_scores(kernels, scale: float):
    """Where the largest share comes late, and where all scores are nearly equal, padding must not count."""
    q, k, v = (normal(1, 401, 32, seed=seed) for seed in range(3))
    k *= np.linspace(0, scale, 401)[:, None]
    assert attention_error(kernels, "float32", q, k, v, 1) <= 1e-5
    negative = -np.abs(k) - scale  # times positive queries: every score is below that of a key of zeros
    bounds = {"float32": 1e-5, "bfloat16": 4e-2, "int8": 0.1} if scale > 1 else dict.fromkeys(DTYPES, 1e-3)
    for dtype, bound in bounds.items():
        assert attention_error(kernels, dtype, np.abs(q), negative, v, 1) <= bound


def test_full_attention_in_int8_leaves_out_what_keys_have_in_common(kernels):
    q, k, v = (normal(1, 200, 64, seed=seed) for seed in range(3))
    far = k + 50 * normal(1, 1, 64, seed=3)
    assert attention_error(kernels, "int8", q, far, v, 1) <= 2e-2


@pytest.mark.parametrize("score", [4, 6, 7.8])
def test_full_attention_in_int8_keeps_the_sum_of_many_small_weights(kernels, score: float):
    """One key has a high score, 1400 have 0: each has 1/55 to 1/2400 of its weight, and could be rounded to nothing."""
    n, width = 1401, 32
    q, k = np.zeros((1, n, width), np.float32), np.zeros((1, n, width), np.float32)
    q[..., 0], k[0, 700, 0] = score * np.sqrt(width), 1
    v = np.ones((1, n, width), np.float32) + 0.1 * normal(1, n, width)
    v[0, 700] = -1
    assert attention_error(kernels, "int8", q, k, v, 1) <= 5e-2


def test_layernorm(kernels):
    for shape in [(1, 1, 5), (2, 300, 33), (1, 7, 384)]:
        x, weight, bias = 3 + normal(*shape), normal(shape[2], seed=1), normal(shape[2], seed=2)
        y = kernels["norm"].execute(x, weight, bias, np.float32(EPS))[0].to_numpy()
        assert np.abs(y - normed(x, weight, bias)).max() <= 1e-5


@pytest.mark.parametrize("dtype", TOKEN_DTYPES)
def test_token_embedding(kernels, dtype: str):
    table, positions = weights(normal(11, 9), dtype), normal(8, 9, seed=1)
    tokens = np.array([[3, 10, 0], [1, 1, 9]])
    y = kernels[f"embedding.{dtype}"].execute(tokens, table.plain, table.scales, positions, np.int64(4))[0].to_numpy()
    assert np.abs(y - (table.exact[tokens] + positions[4:7])).max() <= 1e-6
    with pytest.raises(ValueError, match="not in the vocabulary"):
        kernels[f"embedding.{dtype}"].execute(np.array([[11]]), table.plain, table.scales, positions, np.int64(0))


@pytest.mark.parametrize(("heads", "width"), HEADS)
def test_gemm_gives_heads(kernels, heads: int, width: int):
    case = Case.of("bare", "float32", normal(2, 13, 9), heads * width)
    places = [np.int64(9), np.int64(9), np.int64(0)]
    y = kernels[f"heads.{heads}"].execute(case.rows, case.matrix.packed, *case.operands, *places)[0]
    found = from_bfloat16(y.view(DType.uint16).to_numpy())
    assert found.shape == (2, heads, 13, width)
    assert np.abs(found - split(case.expected, heads)).max() <= 4e-3 * np.abs(case.expected).max()


def chosen_by_rules(logits: np.ndarray, mask: np.ndarray, allowed: np.ndarray, noise: np.ndarray) -> tuple[int, float]:
    """openai/whisper's filters for one row, spelled out."""
    scores = logits.astype(np.float64) + mask
    text, stamps = np.full_like(scores, -np.inf), np.full_like(scores, -np.inf)
    text[allowed[0] : allowed[1]] = scores[allowed[0] : allowed[1]]
    stamps[allowed[2] : allowed[3]] = scores[allowed[2] : allowed[3]]
    together = np.log(np.exp(stamps).sum()) if np.isfinite(stamps).any() else -np.inf
    scores = stamps if together > text.max() else np.maximum(text, stamps)
    token = int(np.argmax(scores + noise))
    return token, scores[token] - np.log(np.exp(scores).sum())


RANGES = [(0, 90, 90, 120), (0, 90, 90, 90), (80, 90, 100, 120), (0, 0, 95, 120), (3, 4, 0, 0), (80, 81, 81, 120)]


@pytest.mark.parametrize("dtype", TOKEN_DTYPES)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_the_choice_of_a_token(kernels, dtype: str, temperature: float, seed: int):
    n_vocab, n_in, texts, length = 120, 40, 2, len(RANGES) // 2
    x = normal(texts, length, n_in, seed=seed)
    table = weights(normal(n_vocab, n_in, seed=seed + 10) * 0.2, dtype)
    norm = [1 + 0.1 * normal(n_in, seed=1), normal(n_in, seed=2)]
    mask = np.where(normal(n_vocab, seed=seed + 20) > 1, -np.inf, 0).astype(np.float32)
    mask[[3, 80, 89, 100, 119]] = 0
    allowed = np.array(RANGES).reshape(texts, length, 4)
    noise = (temperature * np.random.default_rng(seed).gumbel(size=(texts, length, n_vocab))).astype(np.float32)
    logits = (normed(x, *norm) @ table.exact.T).astype(np.float32)
    operands = [x, table.plain, table.scales, *norm, np.float32(EPS), mask, allowed, noise]
    together = kernels[f"next.{dtype}"].execute(*operands)
    apart = kernels["choose"].execute(np.concatenate([np.full_like(logits, 9), logits], axis=1), mask, allowed, noise)
    for found in (together, apart):
        tokens, logprobs = (buffer.to_numpy() for buffer in found)
        for place in np.ndindex(texts, length):
            token, logprob = chosen_by_rules(logits[place], mask, allowed[place], noise[place])
            assert tokens[place] == token
            assert abs(logprobs[place] - logprob) <= (2e-4 if dtype == "int8" and found is together else 2e-5)


@pytest.mark.parametrize("n_vocab", [511, 513, 5000])
def test_the_choice_among_many_tokens(kernels, n_vocab: int):
    """By several threads, whose tallies are put together; alone, without the ranges that a text cannot choose from."""
    n_in, stamps = 33, n_vocab - 40
    x, table = normal(3, 1, n_in), weights(normal(n_vocab, n_in, seed=1) * 0.2, "float32")
    norm, noise = [normal(n_in, seed=2), normal(n_in, seed=3)], np.zeros((3, 1, n_vocab))
    mask = np.zeros(n_vocab, np.float32)
    allowed = np.array([[(0, stamps, stamps, n_vocab)], [(stamps - 5, stamps, 0, 0)], [(0, 0, stamps + 3, n_vocab)]])

    def chosen(texts: slice) -> list[tuple[int, float]]:
        given = [mask, allowed[texts], noise[texts].astype(np.float32)]
        operands = [x[texts], table.plain, table.scales, *norm, np.float32(EPS), *given]
        tokens, logprobs = (buffer.to_numpy()[:, 0].tolist() for buffer in kernels["next.float32"].execute(*operands))
        return list(zip(tokens, logprobs, strict=True))

    together = chosen(slice(None))
    assert [chosen(slice(text, text + 1))[0] for text in range(3)] == together
    logits = normed(x, *norm)[:, 0] @ table.exact.T
    for text, (token, logprob) in enumerate(together):
        expected, score = chosen_by_rules(logits[text], mask, allowed[text, 0], noise[text, 0])
        assert token == expected
        assert abs(logprob - score) <= 2e-5


def test_the_first_of_equal_tokens_is_chosen(kernels):
    logits = np.zeros((1, 1, 120), np.float32)
    tokens, logprobs = kernels["choose"].execute(logits, logits[0, 0], np.array([[[0, 120, 0, 0]]]), logits)
    assert (tokens.item(), round(logprobs.item(), 4)) == (0, round(-np.log(120), 4))


def test_the_probability_of_a_token(kernels):
    logits = 4 * normal(2, 3, 77)
    found = kernels["probability"].execute(logits, np.int64(5))[0].to_numpy()
    assert np.abs(found - softmax(logits[:, 0].astype(np.float64))[:, 5:6]).max() <= 1e-6


def split(x: np.ndarray, heads: int) -> np.ndarray:
    """[batch, length, channels] -> [batch, heads, length, width]."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def products(q: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Returns q keys^T / sqrt(width) of split heads."""
    return q.astype(np.float64) @ keys.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])


def softmax(x: np.ndarray) -> np.ndarray:
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def merged(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


@pytest.mark.parametrize(
    ("batch", "length", "heads", "width", "n_keys"),
    [(1, 1, 1, 1, 1), (1, 1, 6, 64, 1500), (2, 5, 3, 32, 17), (1, 4, 2, 20, 33), (3, 9, 2, 80, 16), (1, 7, 1, 100, 5)],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_attention(kernels, dtype: str, batch: int, length: int, heads: int, width: int, n_keys: int):
    q = normal(batch, length, heads * width)
    keys, exact_keys = memory_of(batch, heads, n_keys, width, 1, dtype)
    values, exact_values = memory_of(batch, heads, n_keys, width, 2, dtype)
    y = kernels[f"memory.{dtype}"].execute(q, *keys, *values)[0].to_numpy()
    expected = merged(softmax(products(split(q, heads), exact_keys)) @ exact_values)
    assert np.abs(y - expected).max() <= (5e-4 if dtype == "int8" else 5e-6)
    some = np.array([heads - 1, 0], np.int64)
    scores = kernels[f"scores.{dtype}"].execute(q, *keys, some)[0].to_numpy()
    difference = np.abs(scores - products(split(q, heads), exact_keys)[:, some]).max()
    assert difference <= (5e-4 if dtype == "int8" else 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("windows", "texts", "length"), [(1, 5, 1), (3, 2, 1), (2, 3, 2)])
def test_several_texts_hear_one_window(kernels, dtype: str, windows: int, texts: int, length: int):
    heads, width, n_keys = 3, 32, 17
    q = normal(windows * texts, length, heads * width)
    keys, exact_keys = memory_of(windows, heads, n_keys, width, 1, dtype)
    values, exact_values = memory_of(windows, heads, n_keys, width, 2, dtype)
    y = kernels[f"memory.{dtype}"].execute(q, *keys, *values)[0].to_numpy()
    heard = [np.repeat(part, texts, axis=0) for part in (exact_keys, exact_values)]
    expected = merged(softmax(products(split(q, heads), heard[0])) @ heard[1])
    assert np.abs(y - expected).max() <= (5e-4 if dtype == "int8" else 5e-6)


def memory_of(
    batch: int, heads: int, n_keys: int, width: int, seed: int, dtype: str
) -> tuple[tuple[Buffer, np.ndarray], np.ndarray]:
    """Returns random rows of a head's keys or values, their scales, and the numbers that they stand for."""
    x = weights(normal(batch * heads * n_keys, width, seed=seed), dtype)
    shape = [batch, heads, n_keys, width]
    scales = x.scales[0].reshape(shape[:3]) if dtype == "int8" else np.full((1, 1, 1), np.nan, np.float32)
    return (x.plain.view(DTYPES[dtype], shape), scales), x.exact.reshape(shape)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 6, 1500, 64), (2, 3, 17, 20), (1, 2, 5, 100)])
def test_rows_in_8_bits(kernels, centered: bool, shape: tuple[int, ...]):
    x = normal(*shape) + 5 * normal(1, 1, 1, shape[3], seed=1)
    rows, scales = kernels[f"quantize.{centered}"].execute(x)
    exact = x - x.mean(axis=2, keepdims=True) if centered else x
    largest = np.abs(exact).max(axis=3)
    assert np.allclose(scales.to_numpy(), np.where(largest > 0, largest / 127, 1), rtol=1e-5, atol=1e-6)
    difference = np.abs(rows.to_numpy() * scales.to_numpy()[..., None] - exact)
    assert (difference <= 0.51 * largest[..., None] / 127 + 1e-5).all()


def test_full_attention_in_int8_survives_scores_that_are_huge(kernels):
    """Where scores are rounded to more than 1, the largest weight must not be more than 8 bits hold."""
    q, k = (1e3 * normal(1, 100, 32, seed=seed) for seed in range(2))
    assert attention_error(kernels, "int8", q, k, np.ones((1, 100, 32), np.float32), 1) <= 1e-2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_attention_in_int8_to_numbers_that_are_not_finite(kernels, bad: float):
    """A bad query spoils its row, a bad value its channel, and a bad key all: no weight may hide it."""
    for operand in range(3):
        inputs = [normal(1, 100, 32, seed=seed) for seed in range(3)]
        inputs[operand][0, 50, 7] = bad
        y = kernels["attention.int8"].execute(*inputs, np.int64(1))[0].to_numpy()[0]
        spoiled = [y[50], y, y[:, 7]][operand]
        assert not np.isfinite(spoiled).any()
        assert np.isfinite(y).sum() == (y.size - spoiled.size)


@pytest.mark.parametrize("rows", [1, 5, 12, 24, 30])
@pytest.mark.parametrize("n_in", [1, 31, 33, 65, 5120])
def test_gemv_in_int8_of_the_largest_sums(kernels, rows: int, n_in: int):
    """Sums are int32: 5120 products of the largest integers must not exceed it, whatever the rows are computed with."""
    signs = np.where(np.arange(70) % 2, 1, -1).astype(np.float32)
    matrix = weights(np.repeat(signs[:, None], n_in, axis=1), "int8")
    case = Case("bare", np.full((1, rows, n_in), 3.5, np.float32), matrix, *Case.unread(n_in, rows, 70))
    y = kernels["gemv.int8.bare"].execute(case.rows, matrix.plain, *case.operands)[0].to_numpy()
    assert np.allclose(y, case.expected, rtol=1e-5)


@pytest.mark.parametrize("place", [0, 50, 99])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_stay_so_in_int8(kernels, place: int, bad: float):
    """An integer could not say so, and wrong text would follow without an error."""
    x = normal(1, 3, 100)
    x[0, 1, place] = bad
    case = Case.of("bare", "int8", x, 33)
    y = kernels["gemv.int8.bare"].execute(x, case.matrix.plain, *case.operands)[0].to_numpy()
    assert not np.isfinite(y[:, 1]).any() and np.isfinite(y[:, [0, 2]]).all()
    places = [np.int64(100), np.int64(100), np.int64(0)]
    y = kernels["gemm.int8.bare"].execute(x, case.matrix.packed, *case.operands, *places)[0].to_numpy()[:, 0]
    assert not np.isfinite(y[:, 1]).any() and np.isfinite(y[:, [0, 2]]).all()
    rows = normal(1, 1, 4, 100)
    rows[0, 0, 2, place] = bad
    scales = kernels["quantize.False"].execute(Buffer.from_numpy(rows))[1].to_numpy()[0, 0]
    assert np.isfinite(scales).tolist() == [True, True, False, True]


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "int8 with bfloat16 memory"])
@pytest.mark.parametrize(
    ("windows", "texts", "heads", "width", "n_keys", "steps"),
    [
        (1, 1, 8, 64, 1500, [3, 1, 1, 40]),
        (2, 2, 3, 20, 33, [1, 2, 1]),
        (1, 1, 1, 7, 5, [9, 1]),
        (5, 1, 2, 16, 17, [1, 1]),
        (1, 7, 2, 16, 17, [1, 1]),
    ],
)
def test_a_layer_of_the_decoder_is_its_eight_parts(
    kernels, dtype: str, windows: int, texts: int, heads: int, width: int, n_keys: int, steps: list[int]
):
    """To the last bit: a prompt's layers with alignment heads are computed by the parts, and a token's as a whole."""
    form = {"int8 with bfloat16 memory": ("int8", "bfloat16"), "float16": ("float16", "float32")}
    dtype, memory_dtype = form.get(dtype, (dtype, dtype))
    channels, total, batch = heads * width, sum(steps), windows * texts
    inner = 4 * channels
    shapes = [(channels, channels)] * 6 + [(inner, channels), (channels, inner)]
    q, k, v, out, cross_q, cross_out, fc1, fc2 = (
        weights(0.1 * normal(*shape, seed=i), dtype) for i, shape in enumerate(shapes)
    )
    vectors = [0.1 * normal(channels, seed=20 + i) for i in range(12)]
    norms, biases = [(1 + vectors[i], vectors[i + 1]) for i in (0, 2, 4)], vectors[6:]
    inner_bias = normal(inner, seed=40)
    memory = [part for seed in (50, 51) for part in memory_of(windows, heads, n_keys, width, seed, memory_dtype)[0]]
    caches = [
        [Buffer.from_numpy(np.full((batch, heads, total + 2, width), np.nan, np.float32)) for _ in range(2)]
        for _ in range(2)
    ]
    eps, unread = np.float32(EPS), np.full((1, 1, channels), np.nan, np.float32)

    def linear(option: str, x: Any, matrix: Weights, bias: np.ndarray, norm: Any, residual: Any) -> Any:
        operands = [x, matrix.plain, matrix.scales, bias, *norm, residual, eps]
        return kernels[f"gemv.{dtype}.{option}"].execute(*operands)[0]

    position = 0
    for length in steps:
        x = normal(batch, length, channels, seed=60 + position)
        at = np.int64(position)
        plain = [q.plain, k.plain, v.plain, q.scales, k.scales, v.scales]
        projected = kernels[f"gemv_qkv.{dtype}.True"].execute(x, *plain, biases[0], biases[1], *norms[0], eps)
        attended = kernels["cache"].execute(*projected, *caches[0], at)[0]
        after_self = linear("residual", attended, out, biases[2], norms[0], x)
        queries = linear("norm", after_self, cross_q, biases[3], norms[1], unread)
        attended = kernels[f"memory.{memory_dtype}"].execute(queries, *memory)[0]
        after_cross = linear("residual", attended, cross_out, biases[4], norms[1], after_self)
        hidden = linear("norm_gelu", after_cross, fc1, inner_bias, norms[2], np.full((1, 1, inner), np.nan, np.float32))
        expected = linear("residual", hidden, fc2, biases[5], [inner_bias] * 2, after_cross)
        self_attention = [*norms[0], q.plain, q.scales, biases[0], k.plain, k.scales, v.plain, v.scales, biases[1]]
        cross_attention = [*norms[1], cross_q.plain, cross_q.scales, biases[3], *memory]
        y, found_queries = kernels[f"layer.{dtype}.{memory_dtype}"].execute(
            x,
            *self_attention,
            *caches[1],
            at,
            *[out.plain, out.scales, biases[2]],
            *cross_attention,
            *[cross_out.plain, cross_out.scales, biases[4]],
            *norms[2],
            *[fc1.plain, fc1.scales, inner_bias],
            *[fc2.plain, fc2.scales, biases[5]],
            eps,
        )
        assert bits(y) == bits(expected)
        assert bits(found_queries) == bits(queries)
        assert not np.isnan(y.to_numpy()).any()
        assert [bits(cache) for cache in caches[0]] == [bits(cache) for cache in caches[1]]
        position += length


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_prompts_rows_are_those_of_single_tokens(kernels, dtype: str):
    """To the last bit, so that a draft can be checked in one call: of any length in int8 with VNNI, of 7 elsewhere."""
    length = 30 if dtype == "int8" and INT8_FEATURE in machine_features() else 7
    case = Case.of("norm", dtype, normal(1, length, 100), 33)
    run = kernels[f"gemv.{dtype}.norm"].execute
    together = run(case.rows, case.matrix.plain, *case.operands)[0].to_numpy()
    keys, values = (memory_of(1, 2, 37, 50, seed, dtype)[0] for seed in (1, 2))
    attended = kernels[f"memory.{dtype}"].execute(case.rows, *keys, *values)[0].to_numpy()
    caches = [[Buffer.from_numpy(np.zeros((1, 2, 40, 50), np.float32)) for _ in range(2)] for _ in range(2)]
    cached = kernels["cache"].execute(case.rows, case.rows, case.rows, *caches[0], np.int64(0))[0].to_numpy()
    for i in range(length):
        row = np.ascontiguousarray(case.rows[:, i : i + 1])
        assert np.array_equal(run(row, case.matrix.plain, *case.operands)[0].to_numpy(), together[:, i : i + 1])
        alone = kernels[f"memory.{dtype}"].execute(row, *keys, *values)[0].to_numpy()
        assert np.array_equal(alone, attended[:, i : i + 1])
        alone = kernels["cache"].execute(row, row, row, *caches[1], np.int64(i))[0].to_numpy()
        assert np.array_equal(alone, cached[:, i : i + 1])


@pytest.mark.parametrize(
    ("batch", "heads", "width", "steps"),
    [(1, 6, 64, [4, 1, 1, 7]), (2, 2, 32, [1, 1, 5]), (1, 1, 20, [9, 3]), (3, 2, 7, [2, 2, 2])],
)
def test_cached_attention(kernels, batch: int, heads: int, width: int, steps: list[int]):
    total = sum(steps)
    q, k, v = (normal(batch, total, heads * width, seed=seed) for seed in range(3))
    room = total + 3
    caches = [Buffer.from_numpy(np.full((batch, heads, room, width), np.nan, np.float32)) for _ in range(2)]
    hidden = np.where(np.tri(total, dtype=bool), 0, -np.inf)
    expected = merged(softmax(products(split(q, heads), split(k, heads)) + hidden) @ split(v, heads))
    position = 0
    for length in steps:
        part = slice(position, position + length)
        now = [np.ascontiguousarray(x[:, part]) for x in (q, k, v)]
        y = kernels["cache"].execute(*now, *caches, np.int64(position))[0].to_numpy()
        assert np.abs(y - expected[:, part]).max() <= 5e-6
        position += length
    assert np.array_equal(caches[0].to_numpy()[:, :, :total], split(k, heads))
    assert np.isnan(caches[1].to_numpy()[:, :, total:]).all()
