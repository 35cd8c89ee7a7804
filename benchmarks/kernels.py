"""The kernels alone: how fast they read weights, beside how fast the memory can be read.

\b
    python kernels.py [--threads 2]

Weights are taken in turn from more than the caches hold, as in a decoder step.
"""

from __future__ import annotations

from time import perf_counter

import ceilings
import click
import numpy as np
from common import since, use_cpus
from rich.console import Console
from rich.table import Table

SHAPES = {"attention projection": (384, 384), "first of the MLP": (1536, 384), "vocabulary": (51865, 384)}
COLD = 120e6  # bytes that no cache holds


@click.command(help=__doc__)
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
@click.option("--rounds", default=100, show_default=True, type=click.IntRange(1))
def main(threads: int, rounds: int) -> None:
    use_cpus(threads)
    from max import engine
    from max.driver import CPU, Buffer
    from max.dtype import DType
    from max.graph import DeviceRef, Graph, TensorType, ops
    from max_whisper.lowering.kernels import kernels_folder

    host, ceiling = DeviceRef.CPU(), ceilings.measure(threads)["memory"]
    table = Table("weights", "shape", "rows", "ms", "GB/s", "of the memory's", "GFLOP/s")
    for dtype, width in ((DType.float32, 4), (DType.bfloat16, 2)):
        inputs = [
            TensorType(DType.float32, ["batch", "length", "in"], host),
            TensorType(dtype, ["out", "in"], host),
            TensorType(dtype, ["out"], host),
        ]
        with Graph("linear", input_types=inputs, custom_extensions=[kernels_folder()]) as graph:
            out_type = TensorType(DType.float32, ["batch", "length", "out"], host)
            (y,) = ops.custom("skinny_linear", host, graph.inputs, [out_type], parameters={"has_bias": True})
            graph.output(y)
        model = engine.InferenceSession(devices=[CPU()]).load(graph)
        for name, (n_out, n_in) in SHAPES.items():
            size = n_out * n_in * width
            copies = [
                Buffer.from_numpy(np.ones((n_out, n_in * width // 2), np.uint16)).view(dtype, [n_out, n_in])
                for _ in range(int(COLD / size) + 1)
            ]
            bias = Buffer.from_numpy(np.zeros(n_out * width // 2, np.uint16)).view(dtype, [n_out])
            for rows in (1, 4, 64):
                x = Buffer.from_numpy(np.ones((1, rows, n_in), np.float32))
                times = []
                for i in range(rounds):
                    start = perf_counter()
                    model.execute(x, copies[i % len(copies)], bias)
                    times.append(since(start))
                ms = float(np.median(times))
                speed = size / ms / 1e6
                table.add_row(
                    str(dtype).removeprefix("DType."),
                    f"{name} {n_out} x {n_in}",
                    str(rows),
                    f"{ms:.3f}",
                    f"{speed:.1f}",
                    f"{speed / ceiling:.0%}",
                    f"{2 * rows * n_out * n_in / ms / 1e6:.0f}",
                )
    Console().print(table)
    print(f"memory: {ceiling:.1f} GB/s; a call costs some 20 µs of Python and scheduling, which is in the times")


if __name__ == "__main__":
    main()
