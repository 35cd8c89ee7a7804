"""The backend "ours": our kernels where there is one, and MAX's ops elsewhere."""

from __future__ import annotations

from max_whisper.lowering.backends.cpu import attention, decoder_layer, linear, recurrent, tokens
from max_whisper.lowering.backends.cpu.costs import CostRule
from max_whisper.lowering.backends.emission import Backend, Emitter
from max_whisper.lowering.backends.max_ops import EMITTERS
from max_whisper.lowering.kernel_calls import Cost, KernelCall
from max_whisper.lowering.passes.fuse import fuse
from max_whisper.lowering.passes.fuse_layers import fuse_layers

PARTS = (linear, attention, decoder_layer, recurrent, tokens)
KERNELS: dict[str, Emitter] = {kind: emitter for part in PARTS for kind, emitter in part.EMITTERS.items()}
COSTS: dict[str, CostRule] = {kernel: rule for part in PARTS for kernel, rule in part.COSTS.items()}

CPU_KERNELS = Backend({**EMITTERS, **KERNELS}, frozenset(KERNELS), [fuse, fuse_layers])


def cost(call: KernelCall, position: int) -> Cost:
    """Returns the operations and bytes of a call. position: the tokens in the KV cache before it."""
    products, untouched = COSTS[call.kernel](call, position)
    return Cost(products, sum(operand.bytes for operand in (*call.operands, *call.outputs)) - untouched)
