"""Our own kernels (kernels/*.mojo), for CPUs: how each is called, and beside it the cost of a call.

Operations are counted as `Spec.flops_per_window` counts them. Bytes are those that a call reads and writes, each once:
weights, activations, the filled part of caches, and the rows of tables that are looked up.
"""
