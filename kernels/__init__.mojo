"""Custom ops for MAX: what max-whisper computes faster, or compiles faster, than MAX's own."""

from .skinny_linear import *
from .cached_attention import *
from .tile import *
from .dense_linear import *
from .dense_attention import *
from .layer_norm import *
from .token_choice import *
from .token_embedding import *
