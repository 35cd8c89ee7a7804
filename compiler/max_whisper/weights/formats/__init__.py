"""The formats of checkpoints, one file each; weights/source.py says how to add one."""
