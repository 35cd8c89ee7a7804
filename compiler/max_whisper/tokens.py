"""The special tokens of one vocabulary, and the decoding rules that come with it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from max_whisper.records import Dim, Id, Name, Natural, Record

N_BOUNDS = 4
"""Token ids that say what may come next: first text, end of text, first timestamp, end of timestamps; half open."""


class Tokens(Record, frozen=True):
    """Ids of the special tokens and the decoding rules of one vocabulary, all from the checkpoint's files."""

    eot: Id
    sot: Id
    translate: Id
    transcribe: Id
    startoflm: Id
    startofprev: Id
    nospeech: Id
    notimestamps: Id
    timestamp_begin: Id
    n_timestamps: Dim  # from 0.00 s on, one every 20 ms
    max_initial_timestamp: Natural  # the latest that may come first, counted from 0.00 s on
    languages: dict[Name, Id]  # code -> id in id order; empty for an English-only model
    suppress: list[Id]  # never chosen
    begin_suppress: list[Id]  # not chosen as the first token
    logprob_threshold: Annotated[
        float, msgspec.Meta(ge=-1e6, le=0)
    ]  # a text with a lower average log-probability is taken for a failure
