"""The kernel of the long short-term memory against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from max import engine
from max.driver import CPU, Buffer
from max.dtype import DType
from max.graph import BufferType, DeviceRef, Graph, TensorType, ops
from max_whisper.compile.modules import cache_folder
from max_whisper.compile.mojo_packages import kernels_package

HOST = DeviceRef.CPU()


@pytest.fixture(scope="module")
def lstm() -> engine.Model:
    package = kernels_package(cache_folder())

    def tensor(*shape: str | int) -> TensorType:
        return TensorType(DType.float32, list(shape), HOST)

    state = BufferType(DType.float32, [1, "hidden"], HOST)
    matrices = [tensor("gates", "in"), tensor("gates", "hidden"), tensor("gates"), tensor("gates")]
    inputs = [tensor("batch", "length", "in"), *matrices, state, state]
    with Graph("lstm", input_types=inputs, custom_extensions=[package]) as graph:
        operands = [value.buffer if i > 4 else value.tensor for i, value in enumerate(graph.inputs)]
        graph.output(*ops.inplace_custom("lstm", HOST, operands, [tensor("batch", "length", "hidden")]))
    return engine.InferenceSession(devices=[CPU()]).load(graph, custom_extensions=[package])


def expected(x, weights, hidden, cell):
    """Returns the hidden states of all rows and the last states, by the equations of PyTorch's LSTMCell, in float64."""
    w_input, w_hidden, b_input, b_hidden = (np.float64(weight) for weight in weights)
    outputs = []
    for row in np.float64(x).reshape(-1, x.shape[-1]):
        gates = w_input @ row + b_input + w_hidden @ hidden + b_hidden
        i, f, g, o = np.split(gates, 4)
        cell = cell / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        hidden = np.tanh(cell) / (1 + np.exp(-o))
        outputs.append(hidden)
    return np.array(outputs), hidden, cell


@pytest.mark.parametrize(
    ("batch", "length", "n_in", "size"), [(1, 1, 1, 1), (1, 3, 17, 5), (70, 2, 40, 21), (200, 1, 128, 128)]
)
def test_a_sequence(lstm, batch: int, length: int, n_in: int, size: int) -> None:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    matrices = [normal(4 * size, n) / np.float32(n**0.5) for n in (n_in, size)]  # larger ones make it chaotic
    x, weights = normal(batch, length, n_in), [*matrices, *normal(2, 4 * size)]
    states = [normal(1, size), normal(1, size)]
    before = [np.float64(state[0]) for state in states]
    given = [Buffer.from_numpy(np.ascontiguousarray(array)) for array in (x, *weights)]
    buffers = [Buffer.from_numpy(state.copy()) for state in states]
    (y,) = lstm.execute(*given, *buffers)
    outputs, *after = expected(x, weights, *before)
    np.testing.assert_allclose(y.to_numpy().reshape(-1, size), outputs, atol=2e-5)
    for buffer, state in zip(buffers, after, strict=True):
        np.testing.assert_allclose(buffer.to_numpy()[0], state, atol=1e-4)


def test_a_sequence_in_two_calls(lstm) -> None:
    """The states go on from call to call, as in one call; the sums of few rows are rounded otherwise."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((9, 1, 8)).astype(np.float32)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((64, 8), (64, 16), (64,), (64,))]
    whole, parts = ([Buffer.from_numpy(np.zeros((1, 16), np.float32)) for _ in range(2)] for _ in range(2))
    given = [Buffer.from_numpy(weight) for weight in weights]
    (at_once,) = lstm.execute(Buffer.from_numpy(x), *given, *whole)
    rows = [lstm.execute(Buffer.from_numpy(x[i : i + 1]), *given, *parts)[0].to_numpy() for i in range(9)]
    np.testing.assert_allclose(np.concatenate(rows), at_once.to_numpy(), atol=1e-6)
