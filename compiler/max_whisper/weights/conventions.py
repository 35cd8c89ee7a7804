"""What openai/whisper fixes in its code, for checkpoints of formats that do not hold it.

The ids of special tokens, the tokens that are never chosen, and the cross-attention heads that follow the audio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import tiktoken

from max_whisper.errors import WeightsError
from max_whisper.tokens import LANGUAGES, Tokens
from max_whisper.weights.alignment import AlignmentHeads
from max_whisper.weights.vocabulary import LOGPROB_THRESHOLD, MAX_INITIAL_TIMESTAMP, N_TIMESTAMPS

# The symbols of openai/whisper's `non_speech_tokens` (tokenizer.py): brackets, quotes and notes, which subtitles put
# around what is not said, and runs of them.
SYMBOLS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *"<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪".split(),
)
NOTES = "♩♪♫♬♭♮♯"
"""Symbols of which the first token is never chosen where they have several: only U+2640 to U+267F begin with it."""

# The heads of OpenAI's models, by layer (openai/whisper, __init__.py, `_ALIGNMENT_HEADS`), behind the dimensions that
# tell the models apart: layers and heads per layer of the decoder, and tokens.
_Published = tuple[tuple[int, int, int], Mapping[int, Sequence[int]]]
PUBLISHED: Mapping[str, _Published] = {
    "tiny.en": ((4, 6, 51864), {1: [0], 2: [0, 5], 3: [0, 1, 2, 3, 4]}),
    "tiny": ((4, 6, 51865), {2: [2], 3: [0, 2, 3, 4, 5]}),
    "base.en": ((6, 8, 51864), {3: [3], 4: [7], 5: [1, 5, 7]}),
    "base": ((6, 8, 51865), {3: [1], 4: [2, 3, 7], 5: [1, 2, 4, 6]}),
    "small.en": (
        (12, 12, 51864),
        {6: [6], 7: [0, 3, 8], 8: [2, 5, 7], 9: [0, 4, 8, 10], 10: [0, 1, 2, 3, 6, 11], 11: [2, 4]},
    ),
    "small": ((12, 12, 51865), {5: [3, 9], 8: [0, 4, 7, 8], 9: [0, 7, 9], 10: [5]}),
    "medium.en": (
        (24, 16, 51864),
        {11: [4], 14: [1, 12, 14], 15: [4], 16: [0, 4, 9], 17: [12, 14], 18: [7, 10, 15]}
        | {20: [0, 3, 9, 14], 21: [12]},
    ),
    "medium": ((24, 16, 51865), {13: [15], 15: [4, 15], 16: [1], 20: [0], 23: [4]}),
    "large-v2": (
        (32, 20, 51865),
        {10: [12], 13: [17], 16: [11, 12, 13], 17: [15, 16], 18: [4, 11, 19], 19: [11], 21: [2, 3]}
        | {22: [3, 9, 12], 23: [5, 7, 13], 25: [5], 26: [1, 12], 27: [15]},
    ),
    "large-v3": (
        (32, 20, 51866),
        {7: [0], 10: [17], 12: [18], 13: [12], 16: [1], 17: [14], 19: [11], 21: [4], 24: [1], 25: [6]},
    ),
    "large-v3-turbo": ((4, 20, 51866), {2: [4, 11], 3: [3, 6, 11, 14]}),
}


def published_alignment_heads(heads: Sequence[int], n_vocab: int) -> AlignmentHeads | None:
    """Returns the alignment heads of OpenAI's model of these dimensions, and its name; None if there is none.

    A fine-tuned model has the dimensions of the published one, and its heads follow the audio, too. large-v1 and
    large-v2 have equal dimensions: both get the heads of large-v2, which replaced it.

    Args:
        heads: The number of heads of each cross-attention layer of the decoder.
        n_vocab: The number of tokens.
    """
    for name, ((n_layers, n_heads, tokens), published) in PUBLISHED.items():
        if [n_heads] * n_layers == list(heads) and tokens == n_vocab:
            pairs = [(layer, head) for layer, heads in published.items() for head in heads]
            return AlignmentHeads(
                pairs, f"word times follow the alignment heads of OpenAI's {name}, as the checkpoint lists none"
            )
    return None


def whisper_tokens(ranks: Sequence[bytes], n_vocab: int) -> Tokens:
    """Returns the special tokens and decoding rules that openai/whisper gives a vocabulary (tokenizer.py, decoding.py).

    The special tokens follow the text tokens: end of text, start, languages, the other control tokens, timestamps. What
    the fixed ones leave of `n_vocab` are languages, in openai's order. An English-only model, whose text tokens lack
    the empty one at the end, has ids for them, too, but no language to choose.

    Args:
        ranks: The bytes of each text token, by its id.
        n_vocab: The number of tokens of the model.

    Raises:
        WeightsError: `n_vocab` leaves no language, or more than openai/whisper knows.
    """
    eot, sot = len(ranks), len(ranks) + 1
    n_languages = n_vocab - eot - 2 - 6 - N_TIMESTAMPS
    if not 1 <= n_languages <= len(LANGUAGES):
        raise WeightsError(
            f"{len(ranks)} text tokens do not fit a model of {n_vocab} tokens: beside them, 8 control tokens and "
            f"{N_TIMESTAMPS} timestamps, {n_languages} languages are left, expected 1 to {len(LANGUAGES)}"
        )
    translate, transcribe, startoflm, startofprev, nospeech, notimestamps = range(
        sot + 1 + n_languages, sot + 7 + n_languages
    )
    multilingual = b"" in ranks[-1:]
    encode = _encoder(ranks)
    never_spoken = {*_non_speech(encode), sot, translate, transcribe, startoflm, startofprev, nospeech}
    return Tokens(
        eot=eot,
        sot=sot,
        translate=translate,
        transcribe=transcribe,
        startoflm=startoflm,
        startofprev=startofprev,
        nospeech=nospeech,
        notimestamps=notimestamps,
        timestamp_begin=notimestamps + 1,
        n_timestamps=N_TIMESTAMPS,
        max_initial_timestamp=MAX_INITIAL_TIMESTAMP,
        languages={code: sot + 1 + i for i, code in enumerate(islice(LANGUAGES, n_languages))} if multilingual else {},
        suppress=sorted(never_spoken),
        begin_suppress=[*encode(" "), eot],
        logprob_threshold=LOGPROB_THRESHOLD,
    )


def _encoder(ranks: Sequence[bytes]) -> Callable[[str], list[int]]:
    """Returns a function that encodes a symbol with the text tokens of a vocabulary."""
    mergeable = {token: rank for rank, token in enumerate(ranks) if token}
    # Whisper encodes each of these symbols, with the space before it, in one piece.
    return tiktoken.Encoding("whisper", pat_str=".+", mergeable_ranks=mergeable, special_tokens={}).encode_ordinary


def _non_speech(encode: Callable[[str], list[int]]) -> Iterator[int]:
    """Yields the tokens of what is written, but not spoken: symbols, and dashes and quotes that begin a word."""
    yield encode(" -")[0]
    yield encode(" '")[0]
    for symbol in (*SYMBOLS, *NOTES):
        for tokens in (encode(symbol), encode(f" {symbol}")):
            if len(tokens) == 1 or symbol in NOTES:
                yield tokens[0]
