"""A long short-term memory over the rows of a recording, each of which waits for the one before."""

import extensibility
from extensibility import InputTensor, OutputTensor, _MutableInputTensor
from max.gpu.host import DeviceContext
from std.math import exp, tanh
from std.memory.alloc import unsafe_alloc

from .few_rows import FewRows, multiply_range
from .numerics import LANES, load_partial, store_partial

comptime ROWS_AT_ONCE = 64
"""The rows whose inputs are multiplied together, so that the weights are read once for all of them."""


@always_inline
def sigmoid(x: SIMD[DType.float32, LANES]) -> SIMD[DType.float32, LANES]:
    """Returns 1 / (1 + e^-x)."""
    return 1 / (1 + exp(-x))


@always_inline
def sum_of(
    first: Pointer[Float32, ...],
    second: Pointer[Float32, ...],
    first_bias: Pointer[Float32, ...],
    second_bias: Pointer[Float32, ...],
    at: Int,
    valid: Int,
) -> SIMD[DType.float32, LANES]:
    """Returns the sums of the first `valid` numbers at the index `at` of two products and two biases."""
    var products = load_partial(first.unsafe_offset(at), valid) + load_partial(second.unsafe_offset(at), valid)
    var biases = load_partial(first_bias.unsafe_offset(at), valid) + load_partial(second_bias.unsafe_offset(at), valid)
    return products + biases


@always_inline
def update(
    from_input: Pointer[Float32, ...],
    from_hidden: Pointer[Float32, ...],
    input_bias: Pointer[Float32, ...],
    hidden_bias: Pointer[Float32, ...],
    hidden: Pointer[mut=True, Float32, ...],
    cell: Pointer[mut=True, Float32, ...],
    y: Pointer[mut=True, Float32, ...],
    size: Int,
):
    """Writes the next hidden and cell states [size] in place of those before, and the hidden state to y, too.

    The products and biases are [4 * size]: the input, forget, cell and output gate, as in PyTorch.
    """
    for i in range(0, size, LANES):
        var valid = min(LANES, size - i)
        var input_gate = sigmoid(sum_of(from_input, from_hidden, input_bias, hidden_bias, i, valid))
        var forget_gate = sigmoid(sum_of(from_input, from_hidden, input_bias, hidden_bias, size + i, valid))
        var candidate = tanh(sum_of(from_input, from_hidden, input_bias, hidden_bias, 2 * size + i, valid))
        var output_gate = sigmoid(sum_of(from_input, from_hidden, input_bias, hidden_bias, 3 * size + i, valid))
        var kept = forget_gate * load_partial(cell.unsafe_offset(i), valid)
        var new_cell = input_gate.fma(candidate, kept)
        var new_hidden = output_gate * tanh(new_cell)
        store_partial(cell.unsafe_offset(i), new_cell, valid)
        store_partial(hidden.unsafe_offset(i), new_hidden, valid)
        store_partial(y.unsafe_offset(i), new_hidden, valid)


@extensibility.register("lstm")
struct Lstm:
    """Takes x [batch, length, in], whose rows are one sequence; returns the hidden states y [batch, length, hidden].

    The weights are [4 * hidden, in] and [4 * hidden, hidden], with two biases [4 * hidden]. The states [1, hidden] are
    read before the first row, and written after the last one.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        input_weight: InputTensor[dtype=DType.float32, rank=2, ...],
        hidden_weight: InputTensor[dtype=DType.float32, rank=2, ...],
        input_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        hidden_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        hidden: _MutableInputTensor[dtype=DType.float32, rank=2, ...],
        cell: _MutableInputTensor[dtype=DType.float32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        var n_rows = x.dim_size[0]() * x.dim_size[1]()
        var n_in = x.dim_size[2]()
        var size = hidden.dim_size[1]()
        var n_gates = 4 * size
        var from_input = unsafe_alloc[Float32](ROWS_AT_ONCE * n_gates)
        var from_hidden = unsafe_alloc[Float32](n_gates)
        var state = FewRows[DType.float32](1, size)
        for first in range(0, n_rows, ROWS_AT_ONCE):
            var rows = FewRows[DType.float32](min(ROWS_AT_ONCE, n_rows - first), n_in)
            rows.fill(x.unsafe_ptr().unsafe_offset(first * n_in))
            multiply_range[DType.float32](rows, input_weight.unsafe_ptr(), from_input, n_gates, 0, n_gates)
            for i in range(rows.n_rows):
                state.fill(hidden.unsafe_ptr())
                multiply_range[DType.float32](state, hidden_weight.unsafe_ptr(), from_hidden, n_gates, 0, n_gates)
                update(
                    from_input.unsafe_offset(i * n_gates),
                    from_hidden,
                    input_bias.unsafe_ptr(),
                    hidden_bias.unsafe_ptr(),
                    hidden.unsafe_ptr(),
                    cell.unsafe_ptr(),
                    y.unsafe_ptr().unsafe_offset((first + i) * size),
                    size,
                )
        from_input.unsafe_free()
        from_hidden.unsafe_free()
