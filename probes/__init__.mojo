"""Custom ops for MAX that measure: what a machine can do at most, and when a graph has come to a place in it.

No artifact has any of them: see compiler/max_whisper/benchmark/.
"""

from .arithmetic import *
from .reading import *
from .clock import *
