"""The backend "ours": our kernels where there is one, and MAX's ops elsewhere."""

from __future__ import annotations

from max_whisper.lowering.backends.cpu import attention, linear, recurrent, tokens
from max_whisper.lowering.backends.cpu.costs import CostRule
from max_whisper.lowering.backends.emission import Backend, Emitter
from max_whisper.lowering.backends.max_ops import EMITTERS
from max_whisper.lowering.kernel_calls import Cost, KernelCall
from max_whisper.lowering.passes.fuse import fuse

KERNELS: dict[str, Emitter] = {**linear.EMITTERS, **attention.EMITTERS, **recurrent.EMITTERS, **tokens.EMITTERS}
COSTS: dict[str, CostRule] = {**linear.COSTS, **attention.COSTS, **recurrent.COSTS, **tokens.COSTS}

CPU_KERNELS = Backend({**EMITTERS, **KERNELS}, frozenset(KERNELS), [fuse])


def cost(call: KernelCall, position: int) -> Cost:
    """Returns the operations and bytes of a call. position: the tokens in the KV cache before it."""
    products, untouched = COSTS[call.kernel](call, position)
    return Cost(products, sum(operand.bytes for operand in (*call.operands, *call.outputs)) - untouched)
