"""Custom ops for MAX that measure what a machine can do at most: see ../ceilings.py."""

from .arithmetic import *
from .reading import *
