"""manifest.json: what an artifact is, and everything that must hold for it to run."""

from __future__ import annotations

import msgspec


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ids of the special tokens and the decoding rules of one vocabulary, all from the checkpoint's files."""

    eot: int
    sot: int
    translate: int
    transcribe: int
    startoflm: int
    startofprev: int
    nospeech: int
    notimestamps: int
    timestamp_begin: int
    languages: dict[str, int]  # code -> id in id order; empty for an English-only model
    suppress: list[int]  # never chosen
    begin_suppress: list[int]  # not chosen as the first token
