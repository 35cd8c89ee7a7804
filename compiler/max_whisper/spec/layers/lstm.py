"""Long short-term memory."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, Workload, option, register, weight_name
from max_whisper.spec.ops import LstmWeights, Ops, Value


@register("lstm")
@dataclass(frozen=True, kw_only=True)
class Lstm(Layer):
    """Applies a long short-term memory (Hochreiter and Schmidhuber, 1997) to one row after the other.

    Its states are kept from one call of the graph to the next. It is for models that read a recording in chunks, and
    has one row for each chunk.
    """

    hidden: int = option("The number of channels of the hidden state, which is the output, and of the cell state.")
    weights: str = weight_name(
        "The prefix of the tensors `weight_ih` [4 * hidden, in], `weight_hh` [4 * hidden, hidden], and `bias_ih` and "
        "`bias_hh` [4 * hidden], in PyTorch's order of the gates: input, forget, cell, output."
    )

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        if shape.length != 1:
            raise self.error(f"expected one row for each chunk, got {shape.length}: reduce the rows before it")
        return Shape(1, self.hidden)

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        gates = 4 * self.hidden
        return [
            self.tensor(f"{self.weights}.weight_ih", gates, shape.channels),
            self.tensor(f"{self.weights}.weight_hh", gates, self.hidden),
            self.tensor(f"{self.weights}.bias_ih", gates),
            self.tensor(f"{self.weights}.bias_hh", gates),
        ]

    def flops(self, workload: Workload) -> int:
        return 2 * workload.query_length * 4 * self.hidden * (workload.channels + self.hidden)

    def states(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"hidden": (self.hidden,), "cell": (self.hidden,)}

    def lower(self, ops: Ops, x: Value) -> Value:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = LstmWeights(*(ops.weight(f"{self.weights}.{name}") for name in names))
        return ops.lstm(x, weights, hidden=ops.state("hidden"), cell=ops.state("cell"))
