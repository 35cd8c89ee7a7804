"""The storage of tensors: dtypes, files, casts, quantization, and the layouts that kernels read."""
