"""What a build reads from a checkpoint, beside its tensors, and puts into the artifact: it differs by family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from max_whisper.artifact.manifest import VAD, VOCABULARY_FILE, WHISPER, Manifest, WhisperManifest
from max_whisper.errors import UserError
from max_whisper.messages import one_of
from max_whisper.spec import Spec
from max_whisper.weights.architecture import check_architecture
from max_whisper.weights.checkpoint import Checkpoint
from max_whisper.weights.vocabulary import write_tiktoken


@dataclass(frozen=True)
class Contents:
    """What an artifact of one model holds beside its weights and graphs.

    Attributes:
        manifest: Returns the manifest, given the fields that all families have.
        write: Writes the files of the family into a folder.
        origins: Sentences that say where the vocabulary and the alignment heads come from, where that is not the
            checkpoint.
        alignment_heads: The cross-attention heads that words get their times from, as (layer, head).
    """

    manifest: Callable[..., Manifest]
    write: Callable[[Path], None] = lambda folder: None
    origins: Sequence[str] = ()
    alignment_heads: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class FamilyContents:
    """How the contents of a family's artifacts are read.

    Attributes:
        read: Returns the contents for a checkpoint, whose tensors have been checked. Raises WeightsError for a
            checkpoint that lacks them.
        check: Refuses a checkpoint whose files describe another model, before its tensors are checked.
        batches: Whether several windows can be computed at once.
    """

    read: Callable[[Checkpoint, Spec], Contents]
    check: Callable[[Checkpoint, Spec], None] = lambda checkpoint, spec: None
    batches: bool = False


def whisper_contents(checkpoint: Checkpoint, spec: Spec) -> Contents:
    """Returns the vocabulary and the alignment heads."""
    vocabulary, alignment = checkpoint.vocabulary(spec.n_vocab), checkpoint.alignment_heads(spec)
    return Contents(
        manifest=partial(WhisperManifest, tokens=vocabulary.tokens),
        write=lambda folder: write_tiktoken(vocabulary.ranks, folder / VOCABULARY_FILE),
        origins=[origin for origin in (vocabulary.origin, alignment.origin) if origin],
        alignment_heads=alignment.heads,
    )


FAMILIES: Mapping[str, FamilyContents] = {
    WHISPER: FamilyContents(whisper_contents, check_architecture, batches=True),
    VAD: FamilyContents(lambda checkpoint, spec: Contents(Manifest)),
}


def contents_of(family: str) -> FamilyContents:
    """Returns how the contents of a family's artifacts are read; raises UserError for one that cannot be built."""
    if family not in FAMILIES:
        raise UserError(f"a spec of the family '{family}' cannot be built: expected {one_of(FAMILIES)}")
    return FAMILIES[family]
