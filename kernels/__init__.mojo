"""Custom ops for MAX: what max-whisper computes faster, or compiles faster, than MAX's own ops do.

One file per op. `numerics`, `tile`, `parallel` and `attend` hold what several ops share.

    a whole window at once (the encoder, keys and values of the features)   gemm, gemm_qkv, full_attention, layernorm
    a few tokens at once (decode steps and prompts)                         gemv, gemv_qkv, cached_attention,
                                                                            cross_attention, token_embedding
    the next token                                                          choose_token, fused_choose_token,
                                                                            token_probability
    the times of words                                                      attention_scores
    the chunks of a recording, one after the other                          lstm
"""

from .attention_scores import *
from .cached_attention import *
from .choose_token import *
from .cross_attention import *
from .decoder_layer import *
from .full_attention import *
from .fused_choose_token import *
from .gemm import *
from .gemm_qkv import *
from .gemv import *
from .gemv_qkv import *
from .layernorm import *
from .lstm import *
from .quantize_rows import *
from .token_embedding import *
from .token_probability import *
