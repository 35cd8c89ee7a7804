"""The figures of an artifact on this machine: its phases, and each layer beside what the machine allows."""
