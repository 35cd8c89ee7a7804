"""Products of float32 matrices on a GPU, whose tensor cores would round each factor to 11 bits (TF32)."""

from __future__ import annotations

import re
from collections import Counter

from max_whisper import load_spec
from max_whisper.compile.modules import cache_folder
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.lowering.lower import lower
from support.artifacts import plan_of

NANO = load_spec("nano")
LINEAR = {"encoder": 2 + 3 * 6, "cross_kv": 2 * 2, "decoder": 2 * 8 + 1, "step": 2 * 8 + 1, "alignment": 1}
"""The products of each graph of nano that are no attention: those of convolutions, of the linear layers in its 3 and 2
blocks, of logits, and of the alignment heads of one layer."""


def split_products(device: str, dtype: str = "float32", batch: int = 1) -> Counter[str]:
    """Returns how many products of each graph of nano are split, [high, high, low] @ [high, low, high]; no zeros."""
    plan = plan_of(NANO, kernels="max", device=device, dtype=dtype, batch=batch)
    counts: Counter[str] = Counter()
    for module in ("encoder", "decoder"):
        text = lower(NANO, plan, module, kernels=kernels_package(cache_folder())).module._to_mlir_str()
        for graph in re.split(r"(?=mo\.graph @)", text)[1:]:
            name = re.match(r"mo\.graph @(\w+)", graph)
            assert name is not None
            left = set(re.findall(r"(%\d+) = rmo\.concat\((%\d+), \2, (?!\2)%\d+\)", graph))
            right = set(re.findall(r"(%\d+) = rmo\.concat\((%\d+), (?!\2)%\d+, \2\)", graph))
            operands = re.findall(r"rmo\.matmul\((%\d+), (%\d+)\)", graph)
            counts[name[1]] = sum(x in {v for v, _ in left} and y in {v for v, _ in right} for x, y in operands)
    return +counts


def test_each_product_is_split() -> None:
    assert split_products("cuda") == {name: LINEAR[name] for name in ("encoder", "cross_kv", "decoder", "alignment")}
    assert split_products("cpu") == {}


def test_a_single_row_is_not_split() -> None:
    assert "step" not in split_products("cuda")
    assert split_products("cuda", batch=2)["step"] == LINEAR["step"]


def test_in_bfloat16_what_stays_float32_is_split() -> None:
    assert split_products("cuda", dtype="bfloat16") == {"decoder": 1, "alignment": 1}
