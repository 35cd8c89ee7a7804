"""Writes the report of an evaluation as JSON, with the text of each recording."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from max_whisper.tools.eval.intervals import CONFIDENCE, SEED
from max_whisper.tools.eval.manifest import Recording
from max_whisper.tools.eval.outcomes import Outcome, Run
from max_whisper.tools.eval.report import Estimate, Group, Report
from max_whisper.tools.eval.scoring import Counts, normalized

PACKAGES = ("max-whisper", "max", "jiwer", "whisper-normalizer")
"""The packages on whose versions the figures depend."""


def json_text(report: Report) -> str:
    """Returns the report as JSON: rates as fractions of 1, times in seconds."""
    text = json.dumps(as_json(report), indent=1, ensure_ascii=False) + "\n"
    # A file name that is no UTF-8 has lone surrogates, which JSON has as \udcff.
    return text.encode(errors="backslashreplace").decode()


def as_json(report: Report) -> dict[str, Any]:
    """Returns the report as JSON values."""
    return {
        "manifest": report.manifest,
        "versions": {name: version(name) for name in PACKAGES},
        "settings": dict(report.settings),
        "intervals": {"confidence": CONFIDENCE, "seed": SEED},
        "groups": [_group(group) for group in report.groups],
        "silence": {
            label: {
                "recordings": silence.recordings,
                "with_words": len(silence.invented),
                "words": silence.words,
            }
            for label, silence in report.silence.items()
        },
        "left_out": [recording.name for recording in report.left_out],
        "models": [_run(run) for run in report.runs],
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "language": group.language or None,
        "kind": group.kind or None,
        "unit": "character" if group.characters else "word",
        "models": {label: _estimate(estimate) for label, estimate in group.estimates.items()},
        "differences": {label: asdict(difference) for label, difference in group.differences.items()},
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    interval = None if estimate.interval is None else asdict(estimate.interval)
    return {"recordings": estimate.recordings, **_counts(estimate.counts), "interval": interval}


def _counts(counts: Counts) -> dict[str, Any]:
    return {**asdict(counts), "errors": counts.errors, "rate": counts.rate}


def _run(run: Run) -> dict[str, Any]:
    return {
        "label": run.label,
        "model": run.model,
        "spec": run.spec,
        "dtype": run.dtype,
        "audio_seconds": run.audio_seconds,
        "wall_seconds": run.wall_seconds,
        "speed": run.speed,
        "recordings": [_outcome(outcome) for outcome in run.outcomes],
        "failures": [{**_recording(failure.recording), "reason": failure.reason} for failure in run.failures],
        "skipped": [recording.name for recording in run.skipped],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    language = outcome.recording.language
    return {
        **_recording(outcome.recording),
        "transcribed_as": outcome.language,
        "seconds": outcome.seconds,
        "wall_seconds": outcome.wall_seconds,
        **_counts(outcome.score.counts),
        "said": outcome.recording.text,
        "recognized": outcome.text,
        "said_normalized": normalized(outcome.recording.text, language),
        "recognized_normalized": normalized(outcome.text, language),
    }


def _recording(recording: Recording) -> dict[str, Any]:
    return {"file": recording.name, "language": recording.language, "kind": recording.kind or None}
