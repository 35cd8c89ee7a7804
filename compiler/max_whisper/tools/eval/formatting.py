"""Writes the figures of a report as people read them, for the tables and the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from max_whisper.tools.eval.intervals import CONFIDENCE, FEWEST, Interval
from max_whisper.tools.eval.report import Difference, Group, Report
from max_whisper.tools.eval.scoring import Chunk

CONTEXT = 5
"""The words that are shown before and after an error; of longer parts without errors the middle is left out."""
INTERVAL = f"{CONFIDENCE * 100:.0f} % interval"


def percent(rate: float | None) -> str:
    """Returns a rate such as "6.3 %"; "" for None."""
    return "" if rate is None else f"{rate:.1%}".replace("%", " %")


def bounds(interval: Interval | None) -> str:
    """Returns the bounds of a rate in percent, such as "5.1–7.9"; "" for None."""
    return "" if interval is None else f"{interval.low * 100:.1f}–{interval.high * 100:.1f}"


def points(difference: float) -> str:
    """Returns a difference between rates in percentage points, with its sign, such as "+0.25"."""
    rounded = round(difference * 100, 2)
    return f"{rounded:+.2f}".replace("-", "−") if rounded else "0.00"


def point_bounds(interval: Interval | None) -> str:
    """Returns the bounds of a difference in percentage points, such as "−0.31 to +0.80"; "" for None."""
    return "" if interval is None else f"{points(interval.low)} to {points(interval.high)}"


def group_name(group: Group) -> str:
    """Returns the language and the kind of a group: "en", "en noisy", "ja (CER)"; "all" for all languages."""
    name = f"{group.language or 'all'} {group.kind}".strip()
    return f"{name} (CER)" if group.characters else name


def compared(report: Report) -> list[Group]:
    """Returns the groups in which models can be compared: those of enough recordings for an interval."""
    return [group for group in report.groups if any(one.interval for one in group.differences.values())]


def verdict(difference: Difference) -> str:
    """Returns whether a model makes more errors than the first one: "more", "fewer" or "unclear"; "" without bounds."""
    if difference.interval is None:
        return ""
    if difference.interval.low > 0:
        return "more"
    return "fewer" if difference.interval.high < 0 else "unclear"


def number(count: int, singular: str) -> str:
    """Returns a number with its noun: "1 word", "2 words"."""
    return f"{count:,} {singular}{'' if count == 1 else 's'}"


def excerpt(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Returns an alignment in which long parts without errors are replaced by their ends and "…"."""
    shown, last = [], len(chunks) - 1
    for index, chunk in enumerate(chunks):
        before = CONTEXT if index > 0 or last == 0 else 0
        after = CONTEXT if index < last or last == 0 else 0
        if chunk.kind == "equal" and len(chunk.reference) > before + after + 1:
            words = chunk.reference
            kept = (*words[:before], "…", *words[len(words) - after :])
            chunk = replace(chunk, reference=kept, hypothesis=kept)
        shown.append(chunk)
    return shown


def notes(report: Report) -> list[str]:
    """Returns the sentences that say what the figures of a report are, and of what they are not."""
    said = [
        "WER is the word error rate: substitutions, deletions and insertions per word that was said. CER is the same "
        "in characters, for languages that are written without spaces, and for Korean. Both texts were normalized "
        "before, as OpenAI does.",
        f"The {INTERVAL} is where the error rate would lie with other recordings of the same sort, if these are "
        f"independent of each other. Fewer than {FEWEST} recordings have none, and are too few to compare models.",
        "Speed is seconds of sound per second of transcribing (the inverse of the real-time factor), one recording at "
        "a time, with the decoding of its file and without the loading of the model.",
    ]
    if report.left_out:
        said.append(
            f"Left out: {number(len(report.left_out), 'recording')} with speech, but without a text to compare with."
        )
    for run in report.runs:
        if run.skipped:
            languages = ", ".join(sorted({recording.language for recording in run.skipped}))
            said.append(
                f"{run.label} skipped {number(len(run.skipped), 'recording')} in languages that it does not know: "
                f"{languages}."
            )
        if run.failures:
            said.append(f"{run.label} could not transcribe {number(len(run.failures), 'recording')}.")
    return said
