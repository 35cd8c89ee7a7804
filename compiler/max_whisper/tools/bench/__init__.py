"""The benchmark of an artifact: its phases, and each layer beside what the machine allows."""
