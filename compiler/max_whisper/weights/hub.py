"""Fetches checkpoints from the Hugging Face Hub, with its own client and through its own cache.

The modules that begin with `hub_` do what the client does not: they choose the files that are needed, take all of them
from one commit, check their content against what the Hub announced, decide when the cache may answer instead of the
Hub, and turn every failure into one sentence.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.messages import printable, quote
from max_whisper.progress import OnProgress, Progress, ignore_progress
from max_whisper.weights.hub_files import RepoRevision, Snapshot

REVISION = re.compile(r"(?!.*(\.\.|//|@\{|/\.))[^-./\x00-\x20\x7f~^:?*\[\\][^\x00-\x20\x7f~^:?*\[\\]{0,249}")
"""The names of revisions, which are nearly those that git allows: a name becomes a path in the cache."""


def fetch(
    repo: str,
    revision: str | None = None,
    *,
    file: str | None = None,
    weights: bool = True,
    offline: bool = False,
    progress: OnProgress = ignore_progress,
) -> Snapshot:
    """Returns the files of a repository, all of one commit: configuration, tokenizer and weights.

    The weights are those in safetensors, or else those of CTranslate2. With `file`, they are this one file.

    A commit whose files are all cached is served without any request. If the Hub cannot be reached and the revision
    is cached, the cache answers, and `progress` says so. Every file, even a cached one, is checked against the hash
    that the Hub gave for it: a file that differs is removed from the cache and refused.

    Args:
        repo: The repository, as owner/name.
        revision: The branch, tag or commit; None is "main".
        file: The name of a file of weights in it, which may lie beside others; None is the repository as a whole.
        weights: Whether the files of weights are needed, too.
        offline: Whether to use the cache only; HF_HUB_OFFLINE=1 in the environment does the same.
        progress: Called for each event, and once a second during downloads of large files.

    Raises:
        UserError: There is no such repository or revision.
        WeightsError: The repository has no such files, or they are broken.
        HubError: Anything else failed.
    """
    # The client reads the environment once, when it is first imported; what the user has set there is kept. Xet, the
    # Hub's chunked transfer, is native code beside the HTTP path with its own retries, errors and cache. It is off, so
    # that the tested path is the one that runs; HF_HUB_DISABLE_XET=0 turns it on again.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if revision is not None and not REVISION.fullmatch(revision):
        raise UserError(f"revision {quote(revision)}: expected the name of a branch, a tag or a commit")
    from max_whisper.weights.hub_client import HubClient
    from max_whisper.weights.hub_errors import explain

    def report(event: Progress) -> None:
        progress(replace(event, message=printable(event.message)))

    source = RepoRevision(repo, revision or "main")
    client = HubClient(source, file, weights, report)
    try:
        return client.from_cache() if offline else client.from_hub()
    except MaxWhisperError:
        raise
    except Exception as e:  # the client's own errors, those of its HTTP library, OSError and ValueError
        raise explain(e, source) from e
