"""What openai/whisper fixes in its code, for checkpoints of formats that do not hold it.

The ids of special tokens, and the tokens that are never chosen. The heads that follow the audio are in alignment.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import tiktoken

from max_whisper.errors import WeightsError
from max_whisper.tokens import LANGUAGES, Tokens
from max_whisper.weights.vocabulary import LOGPROB_THRESHOLD, MAX_INITIAL_TIMESTAMP, N_TIMESTAMPS

# The symbols of openai/whisper's `non_speech_tokens` (tokenizer.py): brackets, quotes and notes, which subtitles put
# around what is not said, and runs of them.
SYMBOLS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *"<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪".split(),
)
NOTES = "♩♪♫♬♭♮♯"
"""Symbols of which the first token is never chosen where they have several: only U+2640 to U+267F begin with it."""


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
