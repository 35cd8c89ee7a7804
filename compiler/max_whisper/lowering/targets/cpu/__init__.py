"""Our own kernels (kernels/*.mojo), for CPUs: how each is called, and beside it what a call of it costs.

Operations are counted as `Spec.flops_per_window` counts them. Bytes are those that a call reads and writes, each once:
weights, activations, caches as far as they are filled, and of tables the rows that are looked up.
"""
