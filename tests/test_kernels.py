"""The kernels in Mojo against numpy, over shapes that do not fit their blocks."""

from __future__ import annotations

import numpy as np
import pytest
from max import engine
from max.driver import CPU, Buffer
from max.dtype import DType
from max.graph import BufferType, DeviceRef, Graph, Module, TensorType, ops
from max_whisper.lowering.kernels import kernels_folder
from max_whisper.weights import to_bfloat16

HOST = DeviceRef.CPU()
SHAPES = [  # rows, in, out
    (1, 1, 1),
    (1, 16, 4),
    (1, 17, 5),
    (2, 15, 3),
    (3, 384, 7),
    (4, 64, 65),
    (5, 100, 101),
    (9, 33, 1030),
    (1, 384, 5187),  # on several cores
    (6, 129, 4099),
]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def linear(request: pytest.FixtureRequest):
    """(x, weights, bias or None) -> y by the kernel, and the weights as they are after rounding."""
    dtype = {"float32": DType.float32, "bfloat16": DType.bfloat16}[request.param]
    module = Module()
    inputs = [
        TensorType(DType.float32, ["batch", "length", "in"], HOST),
        TensorType(dtype, ["out", "in"], HOST),
        TensorType(dtype, ["out"], HOST),
    ]
    for has_bias in (True, False):
        name = f"linear_{has_bias}"
        with Graph(name, input_types=inputs, module=module, custom_extensions=[kernels_folder()]) as graph:
            out_type = TensorType(DType.float32, ["batch", "length", "out"], HOST)
            (y,) = ops.custom("skinny_linear", HOST, graph.inputs, [out_type], parameters={"has_bias": has_bias})
            graph.output(y)
    session = engine.InferenceSession(devices=[CPU()])
    graphs = session.load_all(module, custom_extensions=[kernels_folder()])

    def rounded(array: np.ndarray) -> tuple[Buffer, np.ndarray]:
        if request.param == "float32":
            return Buffer.from_numpy(array), array
        bits = to_bfloat16(array)
        return Buffer.from_numpy(bits).view(DType.bfloat16), (bits.astype(np.uint32) << 16).view(np.float32)

    def run(x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        given, exact = rounded(weights)
        offset, exact_offset = rounded(np.full(len(weights), np.nan, np.float32) if bias is None else bias)
        y = graphs[f"linear_{bias is not None}"].execute(Buffer.from_numpy(x), given, offset)[0].to_numpy()
        expected = x.astype(np.float64) @ exact.T.astype(np.float64)
        return y, expected if bias is None else expected + exact_offset

    return run


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_skinny_linear(linear, shape: tuple[int, int, int], with_bias: bool):
    rows, n_in, n_out = shape
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((1, rows, n_in)).astype(np.float32)
    weights = rng.standard_normal((n_out, n_in)).astype(np.float32)
    bias = rng.standard_normal(n_out).astype(np.float32) if with_bias else None
    y, expected = linear(x, weights, bias)
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= 4e-7 * n_in + 1e-6  # sums of n_in products of order 1 in float32


def test_a_batch_is_its_rows(linear):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2, 40)).astype(np.float32)
    weights, bias = rng.standard_normal((9, 40)).astype(np.float32), np.ones(9, np.float32)
    whole, _ = linear(x, weights, bias)
    for i in range(3):
        assert np.allclose(linear(x[i : i + 1], weights, bias)[0], whole[i : i + 1], atol=1e-5)


F32 = DType.float32
HEADED = ["batch", "heads", "keys", "width"]


@pytest.fixture(scope="module")
def attention():
    """The compiled kernels: over memory, over a cache, and the scores alone."""
    module = Module()
    rows, cache = TensorType(F32, ["batch", "length", "channels"], HOST), TensorType(F32, HEADED, HOST)
    extensions = {"module": module, "custom_extensions": [kernels_folder()]}
    with Graph("memory", input_types=[rows, cache, cache], **extensions) as graph:
        graph.output(*ops.custom("attention_over_memory", HOST, graph.inputs, [rows]))
    buffer = BufferType(F32, HEADED, HOST)
    inputs = [rows, rows, rows, buffer, buffer, TensorType(DType.int64, [], HOST)]
    with Graph("cache", input_types=inputs, **extensions) as graph:
        graph.output(*ops.inplace_custom("attention_over_cache", HOST, graph.inputs, [rows]))
    with Graph("scores", input_types=[rows, cache, TensorType(DType.int64, ["some"], HOST)], **extensions) as graph:
        out_type = TensorType(F32, ["batch", "some", "length", "keys"], HOST)
        graph.output(*ops.custom("attention_scores", HOST, graph.inputs, [out_type]))
    return engine.InferenceSession(devices=[CPU()]).load_all(module, custom_extensions=[kernels_folder()])


def split(x: np.ndarray, heads: int) -> np.ndarray:
    """[batch, length, channels] -> [batch, heads, length, width]."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def products(q: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """q keys^T / sqrt(width) of split heads."""
    return q.astype(np.float64) @ keys.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])


def softmax(x: np.ndarray) -> np.ndarray:
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def merged(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("batch", "length", "heads", "width", "n_keys"),
    [(1, 1, 1, 1, 1), (1, 1, 6, 64, 1500), (2, 5, 3, 32, 17), (1, 4, 2, 20, 33), (3, 9, 2, 80, 16), (1, 7, 1, 100, 5)],
)
def test_attention_over_memory(attention, batch: int, length: int, heads: int, width: int, n_keys: int):
    q = normal(batch, length, heads * width)
    keys, values = (normal(batch, heads, n_keys, width, seed=seed) for seed in (1, 2))
    y = attention["memory"].execute(q, keys, values)[0].to_numpy()
    expected = merged(softmax(products(split(q, heads), keys)) @ values)
    assert np.abs(y - expected).max() <= 5e-6
    some = np.array([heads - 1, 0], np.int64)
    scores = attention["scores"].execute(q, keys, some)[0].to_numpy()
    assert np.abs(scores - products(split(q, heads), keys)[:, some]).max() <= 1e-5


@pytest.mark.parametrize(
    ("batch", "heads", "width", "steps"),
    [(1, 6, 64, [4, 1, 1, 7]), (2, 2, 32, [1, 1, 5]), (1, 1, 20, [9, 3]), (3, 2, 7, [2, 2, 2])],
)
def test_attention_over_cache(attention, batch: int, heads: int, width: int, steps: list[int]):
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
        y = attention["cache"].execute(*now, *caches, np.int64(position))[0].to_numpy()
        assert np.abs(y - expected[:, part]).max() <= 5e-6
        position += length
    assert np.array_equal(caches[0].to_numpy()[:, :, :total], split(k, heads))
    assert np.isnan(caches[1].to_numpy()[:, :, total:]).all()
