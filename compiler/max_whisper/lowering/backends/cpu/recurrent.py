"""Recurrent layers, whose rows are computed one after the other."""

from __future__ import annotations

from max.graph import BufferValue, TensorValue

from max_whisper.lowering.backends.cpu.costs import CostRule, Work, of_product
from max_whisper.lowering.backends.cpu.operands import result
from max_whisper.lowering.backends.emission import Context, Emitter, Invocation
from max_whisper.lowering.kernel_calls import KernelCall


def lstm(
    context: Context,
    x: TensorValue,
    input_weight: TensorValue,
    hidden_weight: TensorValue,
    input_bias: TensorValue,
    hidden_bias: TensorValue,
    hidden: BufferValue,
    cell: BufferValue,
) -> Invocation:
    """Returns the hidden states of all rows, which are one sequence; the buffers have the last states afterwards."""
    operands = [x, input_weight, hidden_weight, input_bias, hidden_bias, hidden, cell]
    return Invocation("lstm", operands, [result([x.shape[0], x.shape[1], hidden.shape[1]])])


def lstm_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of the products with the input and with the hidden state."""
    batch, length, size = call.outputs[0].dims
    return of_product("float32", batch * length, 4 * size, call.operands[0].dims[2] + size)


EMITTERS: dict[str, Emitter] = {"lstm": lstm}
COSTS: dict[str, CostRule] = {"lstm": lstm_cost}
