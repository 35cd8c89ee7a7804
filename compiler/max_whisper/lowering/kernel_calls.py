"""What the kernels of a compiled graph do, call by call."""

from max_whisper.lowering.calls import Call as KernelCall

__all__ = ["KernelCall"]
