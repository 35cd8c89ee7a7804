"""Refuses decoding options that conflict with each other, or that the model does not support."""

from __future__ import annotations

from collections.abc import Sequence

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.options import OptionError
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.rule import LogitRule, active_rules
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.tokens import TIME_PRECISION


def check_decoding(options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> None:
    """Raises UserError for values that conflict with each other, or that the model does not support."""
    any_language = next(iter(manifest.tokens.languages), None)
    language = any_language if options.language is None else options.language
    tokenizer.prompt(language, options.task)  # raises for wrong ones
    _check_search(options, manifest)
    if options.draft is not None:
        _check_draft(options, manifest, active_rules(options, manifest, tokenizer))
    longest = manifest.dims["n_audio_ctx"] * TIME_PRECISION
    if options.max_initial_timestamp is not None and not options.max_initial_timestamp <= longest:
        raise OptionError(
            "{max_initial_timestamp}: expected 0 to {longest:g} seconds, got {got:g}",
            longest=longest,
            got=options.max_initial_timestamp,
        )
    n_vocab = manifest.dims["n_vocab"]
    for name, ids in (("{suppress_tokens}", options.suppress_tokens), ("{draft}", options.draft)):
        wrong = [] if isinstance(ids, str) else [i for i in ids or () if i >= n_vocab]
        if wrong:
            raise OptionError(name + ": expected ids below {end}, got {got}", end=n_vocab, got=wrong[0])


def _check_search(options: DecodingOptions, manifest: WhisperManifest) -> None:
    """Raises OptionError for samples and beams that cannot be."""
    if options.best_of is not None and options.temperature == 0:
        raise OptionError(
            "{best_of}: with {temperature} 0 every sample is the same; leave it out, or give a higher {temperature}"
        )
    if options.beam_size is not None:
        if options.temperature > 0 or options.best_of is not None:
            raise OptionError("{beam_size}: a search takes no samples; leave it out, or {temperature} and {best_of}")
        if manifest.plan.batch != 1:
            raise OptionError(
                "{beam_size}: needs an artifact of batch 1, not {batch}; build another", batch=manifest.plan.batch
            )
    if options.patience is not None:
        if options.beam_size is None:
            raise OptionError("{patience}: is for a beam search, give {beam_size} too")
        if options.finished_beams < 1:
            raise OptionError(
                "{patience}: {factor:g} times a {beam_size} of {size} is less than one finished text; give at least "
                "{least:.2g}",
                factor=options.patience,
                size=options.beam_size,
                least=1 / options.beam_size,
            )


def _check_draft(options: DecodingOptions, manifest: WhisperManifest, rules: Sequence[LogitRule]) -> None:
    """Raises OptionError where no draft can be verified: the graphs must be able to choose the tokens."""
    if options.temperature > 0:
        raise OptionError("{draft}: is for {temperature} 0; leave out one of them")
    on_the_host = ["beam_size"] if options.beam_size is not None else []
    on_the_host += [rule.name for rule in rules if rule.compiled() is None]
    for name in on_the_host:
        shown = f"{{{name}}}" if name in DecodingOptions.declared else f"the rule {name}"
        raise OptionError(f"{{draft}}: cannot be verified with {shown}; leave out one of them")
    if not manifest.plan.several_texts or manifest.plan.batch != 1:
        raise OptionError("{draft}: needs an artifact for a CPU, of batch 1 and with kernels ours; build one")
