"""Products of float32 matrices on a GPU, whose tensor cores would round each factor to 11 bits (TF32)."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from artifacts import plan_of
from max_whisper import load_spec
from max_whisper.compile.modules import cache_folder
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.lowering.lower import lower

NANO = load_spec("nano")
LINEAR = {"encoder": 2 + 3 * 6, "cross_kv": 2 * 2, "decoder": 2 * 8 + 1, "step": 2 * 8 + 1}
"""Products with weights in each graph of nano: convolutions, the linear layers of its 3 and 2 blocks, and logits."""


def products(device: str, dtype: str = "float32", batch: int = 1) -> Counter[str]:
    """Returns how many matrix products each graph of nano has."""
    plan = plan_of(NANO, kernels="max", device=device, dtype=dtype, batch=batch)
    found: Counter[str] = Counter()
    for module in ("encoder", "decoder"):
        text = lower(NANO, plan, module, kernels=kernels_package(cache_folder())).module._to_mlir_str()
        for graph in re.split(r"(?=mo\.graph @)", text)[1:]:
            name = re.match(r"mo\.graph @(\w+)", graph)
            assert name is not None
            found[name[1]] = graph.count("mo.matmul ") + graph.count("mo.matmul(")
    return found


@pytest.fixture(scope="module")
def plain() -> Counter[str]:
    return products("cpu")


def test_each_product_is_three(plain: Counter[str]) -> None:
    more = products("cuda") - plain
    assert more == {name: 2 * LINEAR[name] for name in ("encoder", "cross_kv", "decoder")}


def test_but_for_one_row_which_is_no_work_for_tensor_cores(plain: Counter[str]) -> None:
    assert products("cuda")["step"] == plain["step"]
    assert products("cuda", batch=2)["step"] == plain["step"] + 2 * LINEAR["step"]


def test_bfloat16_stays_one_product_but_for_the_logits(plain: Counter[str]) -> None:
    assert products("cuda", dtype="bfloat16") - plain == {"decoder": 2}
