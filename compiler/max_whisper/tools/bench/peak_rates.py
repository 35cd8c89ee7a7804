"""Measures the peak rates of this machine: products of float32, bfloat16 and int8 per second, and bytes read.

No model can run faster than its products and weights allow at these rates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np
from max import engine
from max.driver import CPU, Buffer
from max.dtype import DType
from max.graph import DeviceRef, Graph, Module, TensorType, ops

from max_whisper.artifact.scheduling import LowPriorityThreadsGraph
from max_whisper.artifact.target import machine_features
from max_whisper.compile.modules import cache_folder
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.plan import INT8_FEATURE

PeakRates = Mapping[str, float]  # GFLOP/s by dtype, where the CPU has an instruction for it, and GB/s as "memory"

PRODUCTS = {"float32": 1, "bfloat16": 2, "int8": 4}  # how many products one instruction adds to the sum of a lane
NEEDS: Mapping[str, set[str]] = {"float32": set(), "bfloat16": {"avx512_bf16"}, "int8": {INT8_FEATURE}}  # of the CPU
LANES, SUMS = 16, 24  # as in probes/multiply_add.mojo
STEPS = 3_000_000
MEMORY = 512 << 20  # bytes, more than the caches hold
RUNS = 15


class Probes:
    """Microbenchmarks, one for each rate, compiled for as many cores as this process may use."""

    def __init__(self) -> None:
        """Compiles the kernels. Raises CompileError where that fails."""
        self.threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._dtypes = [dtype for dtype in PRODUCTS if NEEDS[dtype] <= machine_features()]
        host, module = DeviceRef.CPU(), Module()
        package = kernels_package(cache_folder(), "probes")
        row = TensorType(DType.uint8, [self.threads, 4 * LANES], host)
        bits = TensorType(DType.uint8, ["bytes"], host)
        shared: dict[str, Any] = {"module": module, "custom_extensions": [package]}
        for dtype in self._dtypes:
            with Graph(dtype, input_types=[bits, TensorType(DType.int64, [], host)], **shared) as graph:
                out = ops.custom("multiply_add", host, graph.inputs, [row], parameters={"operand": DType[dtype]})
                graph.output(*out)
        with Graph("memory", input_types=[bits], **shared) as graph:
            graph.output(*ops.custom("read_memory", host, graph.inputs, [row]))
        self._graphs = engine.InferenceSession(devices=[CPU()]).load_all(module, custom_extensions=[package])

    def measure(self) -> dict[str, float]:
        """Returns the peak rates: the best of RUNS measurements."""
        operands, steps = Buffer.from_numpy(np.zeros(8 * LANES, np.uint8)), Buffer.from_numpy(np.array(STEPS))
        memory = Buffer.from_numpy(np.ones(MEMORY, np.uint8))
        graphs = {name: LowPriorityThreadsGraph(graph) for name, graph in self._graphs.items()}
        peak_rates = {}
        for dtype in self._dtypes:
            operations = 2 * PRODUCTS[dtype] * LANES * SUMS * STEPS * self.threads
            peak_rates[dtype] = operations / _fastest(graphs[dtype].execute, operands, steps) / 1e9
        return peak_rates | {"memory": MEMORY / _fastest(graphs["memory"].execute, memory) / 1e9}


def higher(one: PeakRates, other: PeakRates) -> dict[str, float]:
    """Returns the higher of two measurements of each rate: other programs can only make one lower."""
    return {name: max(one[name], other[name]) for name in one}


def arithmetic_ms(products: Mapping[str, int], peak_rates: PeakRates) -> float:
    """Returns the milliseconds of operations, by the dtype of the products, at the CPU's peak rates.

    On a CPU without instructions for a dtype, its products are as fast as those of float32.
    """
    return sum(flops / peak_rates.get(dtype, peak_rates["float32"]) for dtype, flops in products.items()) / 1e6


def _fastest(run: Callable[..., Any], *inputs: Buffer) -> float:
    """Returns the seconds of the fastest of RUNS calls."""
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        run(*inputs)
        times.append(perf_counter() - start)
    return min(times)
