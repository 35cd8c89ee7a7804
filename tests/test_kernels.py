"""The kernels in Mojo against numpy, over shapes that do not fit their blocks."""

from __future__ import annotations

import numpy as np
import pytest
from max import engine
from max.driver import CPU, Buffer
from max.dtype import DType
from max.graph import DeviceRef, Graph, Module, TensorType, ops
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
