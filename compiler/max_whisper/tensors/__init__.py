"""How tensors are stored: dtypes, files, casts, quantization, and the layouts that kernels read."""
