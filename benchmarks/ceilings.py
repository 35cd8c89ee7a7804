"""What this machine can do at most: products of float32, bfloat16 and int8 in a second, and bytes read from memory.

\b
    python ceilings.py [--threads 2]

No Whisper can be faster on it than its products and its weights take at these speeds: the floor of `peers.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from common import machine, use_cpus

PROBES = Path(__file__).parent / "probes"
PRODUCTS = {"float32": 1, "bfloat16": 2, "int8": 4}  # added to one lane by one instruction
NEEDS = {"float32": set(), "bfloat16": {"avx512_bf16"}, "int8": {"avx512_vnni"}}
LANES, SUMS = 16, 24  # as in probes/arithmetic.mojo
STEPS = 3_000_000
MEMORY = 512 << 20  # bytes, more than caches hold
RUNS = 15


def measure(threads: int) -> dict[str, float]:
    """GFLOP/s by dtype (int8: GOP/s), where the CPU has instructions for it, and GB/s as "memory"; the best of RUNS."""
    from max import engine
    from max.driver import CPU, Buffer
    from max.dtype import DType
    from max.graph import DeviceRef, Graph, Module, TensorType, ops

    host, module = DeviceRef.CPU(), Module()
    row = TensorType(DType.uint8, [threads, 4 * LANES], host)
    bits = TensorType(DType.uint8, ["bytes"], host)
    shared: dict[str, Any] = {"module": module, "custom_extensions": [PROBES]}
    dtypes = [dtype for dtype in PRODUCTS if NEEDS[dtype] <= set(machine()["features"])]
    for dtype in dtypes:
        with Graph(dtype, input_types=[bits, TensorType(DType.int64, [], host)], **shared) as graph:
            out = ops.custom("add_products", host, graph.inputs, [row], parameters={"operand": DType[dtype]})
            graph.output(*out)
    with Graph("memory", input_types=[bits], **shared) as graph:
        graph.output(*ops.custom("read_all", host, graph.inputs, [row]))
    graphs = engine.InferenceSession(devices=[CPU()]).load_all(module, custom_extensions=[PROBES])

    operands, steps = Buffer.from_numpy(np.zeros(8 * LANES, np.uint8)), Buffer.from_numpy(np.array(STEPS))
    ceilings = {}
    for dtype in dtypes:
        operations = 2 * PRODUCTS[dtype] * LANES * SUMS * STEPS * threads
        ceilings[dtype] = operations / fastest(lambda dtype=dtype: graphs[dtype].execute(operands, steps)) / 1e9
    memory = Buffer.from_numpy(np.ones(MEMORY, np.uint8))
    return ceilings | {"memory": MEMORY / fastest(lambda: graphs["memory"].execute(memory)) / 1e9}


def fastest(run: Callable[[], Any]) -> float:
    """Seconds of the best of RUNS."""
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)


@click.command(help=__doc__)
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(threads: int, as_json: bool) -> None:
    use_cpus(threads)
    ceilings = measure(threads)
    if as_json:
        print(json.dumps(ceilings))
        return
    for name, value in ceilings.items():
        print(f"{name:10} {value:7.1f} {'GB/s' if name == 'memory' else 'GFLOP/s'}")


if __name__ == "__main__":
    main()
