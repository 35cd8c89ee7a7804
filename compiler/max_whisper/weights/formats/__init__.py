"""The formats of checkpoints, one file each: see weights/source.py for how to add one."""
