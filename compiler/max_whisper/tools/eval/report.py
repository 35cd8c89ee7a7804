"""Puts the results of an evaluation together: error rates, differences between models, and the worst recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from max_whisper.tools.eval.intervals import Interval, rate_interval
from max_whisper.tools.eval.manifest import Recording
from max_whisper.tools.eval.outcomes import Outcome, Run
from max_whisper.tools.eval.scoring import Counts, in_characters


@dataclass(frozen=True)
class Estimate:
    """The error rate of a model in some recordings.

    Attributes:
        recordings: Their number.
        counts: Their words or characters, and the errors.
        interval: The bounds of the rate; None where there are too few recordings.
    """

    recordings: int
    counts: Counts
    interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """How much higher the error rate of a model is than that of the first model, in recordings that both transcribed.

    Attributes:
        recordings: Their number.
        rate: The difference, 0.01 for a percentage point; below 0 where the model is better.
        interval: The bounds of the difference; None where there are too few recordings.
    """

    recordings: int
    rate: float
    interval: Interval | None


@dataclass(frozen=True)
class Group:
    """Recordings of one language, or of one language and kind, or of all languages of which the same is counted.

    Attributes:
        language: The code of the language; "" for all languages.
        kind: The kind; "" for all kinds.
        characters: Whether characters are counted, and not words.
        estimates: The error rate of each model that transcribed some of them, by label.
        differences: How each model but the first differs from the first, by label.
    """

    language: str
    kind: str
    characters: bool
    estimates: Mapping[str, Estimate]
    differences: Mapping[str, Difference]


@dataclass(frozen=True)
class Silence:
    """What a model recognized where nobody speaks.

    Attributes:
        recordings: The number of recordings without speech.
        invented: Those in which words were recognized all the same, those with most words first.
        words: The number of these words.
    """

    recordings: int
    invented: tuple[Outcome, ...]
    words: int


@dataclass(frozen=True)
class Report:
    """The results of an evaluation.

    Attributes:
        manifest: The manifest, as it was given.
        settings: What the models were asked for, by the names of options.
        runs: What each model did.
        left_out: The recordings with speech whose text is not known.
        groups: The error rates: of all languages first, then of each, and of its kinds where it has several.
        silence: What each model recognized where nobody speaks, by label.
        worst: The recordings of which most was recognized wrong, the worst first, with the outcome of each model by its
            label.
    """

    manifest: str
    settings: Mapping[str, object]
    runs: Sequence[Run]
    left_out: Sequence[Recording]
    groups: Sequence[Group]
    silence: Mapping[str, Silence]
    worst: Sequence[Mapping[str, Outcome]]


def make_report(
    manifest: str,
    settings: Mapping[str, object],
    runs: Sequence[Run],
    left_out: Sequence[Recording],
    *,
    resamples: int,
    worst: int,
) -> Report:
    """Returns the report of the runs of several models, the first of which the others are compared with.

    Args:
        manifest: The manifest, as it was given.
        settings: What the models were asked for.
        runs: What each model did; at least one.
        left_out: The recordings that none was given, because it is not known what is said.
        resamples: The number of samples from which each interval is found.
        worst: The most recordings to show as the worst.
    """
    groups = [_group(runs, *key, resamples) for key in _keys(runs)]
    silence = {run.label: _silence(run) for run in runs if run.silence}
    return Report(manifest, settings, runs, left_out, groups, silence, _worst(runs)[:worst])


def _keys(runs: Sequence[Run]) -> list[tuple[str, str, bool]]:
    """Returns language, kind and whether characters are counted of each group, in the order of the report."""
    there = sorted({(one.recording.language, one.recording.kind) for run in runs for one in run.spoken})
    languages = sorted({language for language, _ in there})
    totals = [wanted for wanted in (False, True) if sum(in_characters(name) == wanted for name in languages) > 1]
    keys = [("", "", characters) for characters in totals]
    for language in languages:
        kinds = [kind for of, kind in there if of == language]
        below = [""] if len(kinds) > 1 else []
        keys += [(language, kind, in_characters(language)) for kind in [*below, *kinds]]
    return keys


def _group(runs: Sequence[Run], language: str, kind: str, characters: bool, resamples: int) -> Group:
    scored = {run.label: _of_group(run, language, kind, characters) for run in runs}
    estimates = {label: _estimate(outcomes, resamples) for label, outcomes in scored.items() if outcomes}
    (_, first), *others = scored.items()
    differences = {}
    for label, outcomes in others:
        if difference := _difference(first, outcomes, resamples):
            differences[label] = difference
    return Group(language, kind, characters, estimates, differences)


def _of_group(run: Run, language: str, kind: str, characters: bool) -> list[Outcome]:
    return [
        one
        for one in run.spoken
        if language in (one.recording.language, "")
        and kind in (one.recording.kind, "")
        and in_characters(one.recording.language) == characters
    ]


def _estimate(outcomes: Sequence[Outcome], resamples: int) -> Estimate:
    counts = [one.score.counts for one in outcomes]
    interval = rate_interval([one.errors for one in counts], [one.length for one in counts], resamples)
    return Estimate(len(outcomes), Counts.total(counts), interval)


def _difference(first: Sequence[Outcome], other: Sequence[Outcome], resamples: int) -> Difference | None:
    before = {one.recording.name: one.score.counts for one in first}
    pairs = [(before[one.recording.name], one.score.counts) for one in other if one.recording.name in before]
    if not pairs:
        return None
    errors, lengths = [b.errors - a.errors for a, b in pairs], [a.length for a, _ in pairs]
    return Difference(len(pairs), sum(errors) / sum(lengths), rate_interval(errors, lengths, resamples))


def _silence(run: Run) -> Silence:
    invented = sorted(
        (one for one in run.silence if one.score.counts.insertions), key=lambda one: -one.score.counts.insertions
    )
    return Silence(len(run.silence), tuple(invented), sum(one.score.counts.insertions for one in invented))


def _worst(runs: Sequence[Run]) -> list[dict[str, Outcome]]:
    """Returns the outcomes of each recording with errors, by label, the highest error rate of any model first."""
    of_recording: dict[str, dict[str, Outcome]] = {}
    for run in runs:
        for one in run.spoken:
            of_recording.setdefault(one.recording.name, {})[run.label] = one

    def badness(outcomes: Mapping[str, Outcome]) -> tuple[float, int]:
        counts = [one.score.counts for one in outcomes.values()]
        return max(one.rate or 0.0 for one in counts), max(one.errors for one in counts)

    return sorted((found for found in of_recording.values() if badness(found)[1]), key=badness, reverse=True)
