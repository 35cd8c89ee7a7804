"""Benchmarks an artifact: its phases, and each layer beside the limits of the machine."""
