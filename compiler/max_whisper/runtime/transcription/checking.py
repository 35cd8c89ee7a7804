"""Checks the options of a transcription for a model; MAX is not needed for that."""

from __future__ import annotations

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.options import OptionError, options_of
from max_whisper.runtime.decoding.conflicts import check_decoding
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.transcription.options import RECORDING_OPTIONS, TranscribeKeywords, TranscribeOptions
from max_whisper.runtime.transcription.part_options import PartOptions


def checked_options(
    keywords: TranscribeKeywords, manifest: WhisperManifest, tokenizer: Tokenizer
) -> tuple[TranscribeOptions, PartOptions, DecodingOptions]:
    """Returns the options of a transcription, with the model's default values filled in.

    Raises UserError for values that are wrong, conflict with each other, or that the model does not support.
    """
    options, parts, decoding = options_of(keywords, *RECORDING_OPTIONS)
    options = options.of_model(manifest, tokenizer)
    parts.check()
    if decoding.draft is not None and 0 not in options.temperatures:
        raise OptionError("{draft}: is for {temperature} 0, which is not asked for; leave out one of them")
    for temperature in options.temperatures:
        check_decoding(decoding.at(temperature), manifest, tokenizer)
    return options, parts, decoding
