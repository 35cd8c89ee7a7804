"""Custom ops for MAX: what max-whisper computes faster, or compiles faster, than MAX's own."""

from .skinny_linear import *
from .cached_attention import *
