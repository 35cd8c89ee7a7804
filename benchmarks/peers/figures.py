"""What tables say of the records: medians and how far runs lie apart, ratios within turns, words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from max_whisper.tools.eval.scoring import Counts, in_characters, score_texts

from benchmarks.peers.engines import ENGINES
from benchmarks.peers.records import Record
from benchmarks.peers.tasks import MODES, NAMES, SETTINGS

OURS = ("max_whisper", "int8")
"""The engine and variant to which all others are compared."""


@dataclass(frozen=True)
class Spread:
    """The median of some values, the lowest and the highest."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float | None]) -> Spread | None:
        """Returns the spread of values; None if one is missing."""
        some = [value for value in values if value is not None]
        return Spread(median(some), min(some), max(some)) if some else None


@dataclass(frozen=True)
class Row:
    """What a table says of an engine; times are in seconds, memory in MB.

    Attributes:
        engine: Its name, with the variant after a colon.
        label: Its name in tables.
        about: What the weights are and what it computes in.
        runs: The number of runs.
        time: All recordings of the task; in the setting `cold`, from the start of the process.
        encoder: The encoder of a window.
        token: A token of a window: the difference between many and few, divided by their number.
        load: Making the engine, without starting Python and importing what is around it.
        speed: The seconds of sound in a second.
        to_ours: The time divided by that of max-whisper int8, in the same turn.
        to_fastest: The time divided by that of the fastest.
        words: The words that were said, and the errors; None without a text.
        characters: The same in languages whose characters are counted.
        memory: The highest resident memory of the process.
        disturbed: The share of the CPUs that other processes took, in the worst turn.
        steady_text: Whether all turns gave the same texts.
        versions: What was measured.
        call: How it was called.
    """

    engine: str
    label: str
    about: str
    runs: int
    time: Spread
    encoder: Spread | None
    token: Spread | None
    load: Spread | None
    speed: float
    to_ours: Spread | None
    to_fastest: Spread | None
    words: Counts | None
    characters: Counts | None
    memory: float
    disturbed: float
    steady_text: bool
    versions: dict[str, str]
    call: str


@dataclass(frozen=True)
class Group:
    """The rows of one table, the fastest first."""

    checkpoint: str
    setting: str
    task: str
    mode: str
    recordings: int
    seconds: float
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """What was measured."""
        what, how = NAMES[self.task], MODES[self.mode]
        sound = "" if self.task == "window" else f" ({self.recordings} of {self.seconds:.0f} s in all)"
        return f"{self.checkpoint}: {what}{sound}, {how} – {self.setting}: {SETTINGS[self.setting]}"

    def facts(self) -> dict[str, Any]:
        """Returns the group as JSON has it."""
        return asdict(self)


def groups(records: Sequence[Record]) -> list[Group]:
    """Returns the tables of some records."""
    by_key: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        task = record["identity"]["task"]
        by_key.setdefault((record["checkpoint"], task["setting"], task["name"], task["mode"]), []).append(record)
    order = [[], [*SETTINGS], [*NAMES], [*MODES]]
    key_order = lambda key: [names.index(part) if names else part for part, names in zip(key, order, strict=True)]  # noqa: E731
    return [_group(key, by_key[key]) for key in sorted(by_key, key=key_order)]


def _group(key: tuple[str, str, str, str], records: Sequence[Record]) -> Group:
    ours = next((record for record in records if (record["engine"], record["variant"]) == OURS), None)
    in_order = sorted(records, key=lambda record: median(times(record)))
    recordings = records[0]["identity"]["task"]["recordings"]
    seconds = sum(recording["seconds"] for recording in recordings)
    return Group(*key, len(recordings), seconds, tuple(_row(record, ours, in_order[0]) for record in in_order))


def _row(record: Record, ours: Record | None, fastest: Record) -> Row:
    turns, recordings = record["turns"], record["identity"]["task"]["recordings"]
    runs = [run for turn in turns for run in turn["runs"]]
    time = Spread.of(times(record))
    assert time is not None
    words, characters = errors(recordings, turns[0]["texts"])
    return Row(
        engine=f"{record['engine']}:{record['variant']}",
        label=ENGINES[record["engine"]].label,
        about=record["about"],
        runs=len(runs),
        time=time,
        encoder=Spread.of(run.get("encoder") for run in runs),
        token=Spread.of(run.get("token") for run in runs),
        load=Spread.of(turn["load"] for turn in turns),
        speed=sum(recording["seconds"] for recording in recordings) / time.median,
        to_ours=ratio(record, ours) if ours else None,
        to_fastest=ratio(record, fastest),
        words=words,
        characters=characters,
        memory=median(turn["memory"] for turn in turns),
        disturbed=max(turn["disturbed"] for turn in turns),
        steady_text=all(turn["texts"] == turns[0]["texts"] for turn in turns),
        versions=record["versions"] | ({"commit": record["commit"]} if record["engine"] == OURS[0] else {}),
        call=record["call"],
    )


def times(record: Record) -> list[float]:
    """Returns the seconds of each run."""
    return [run["seconds"] for turn in record["turns"] for run in turn["runs"]]


def ratio(record: Record, other: Record) -> Spread | None:
    """Returns how many times as long as another engine this one takes: the ratios of both in the same turn."""
    medians = ([median(run["seconds"] for run in turn["runs"]) for turn in one["turns"]] for one in (record, other))
    return Spread.of(mine / theirs for mine, theirs in zip(*medians, strict=False))


def errors(recordings: Sequence[dict[str, Any]], texts: Sequence[str]) -> tuple[Counts | None, Counts | None]:
    """Returns the errors in words, and those in characters where a language has these; None where nothing was said."""
    by_language: dict[str, list[tuple[str, str]]] = {}
    for recording, text in zip(recordings, texts, strict=True):
        if recording["text"]:
            by_language.setdefault(recording["language"], []).append((recording["text"], text))
    counts: dict[bool, list[Counts]] = {True: [], False: []}
    for language, pairs in by_language.items():
        said, heard = zip(*pairs, strict=True)
        counts[in_characters(language)] += [score.counts for score in score_texts(said, heard, language)]
    words, characters = (Counts.total(counts[kind]) if counts[kind] else None for kind in (False, True))
    return words, characters
