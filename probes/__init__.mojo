"""Custom ops for MAX that measure: the peak rates of a machine, and the times at which a graph's kernels begin and end.

No artifact has any of them; `max-whisper bench` compiles them (tools/bench/).
"""

from .clock import *
from .multiply_add import *
from .read_memory import *
