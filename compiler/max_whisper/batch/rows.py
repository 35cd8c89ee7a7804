r"""The rows of results: plain dictionaries with one fixed schema, for Parquet, JSON lines and other tables.

The row of a recording:

    path          where it was found, as text: bytes of a name that are no UTF-8 are written as \\xNN
    key           what the result depends on (keys.py)
    error         why there is no text, a sentence; null where there is one
    warnings      what is to know about the sound, such as parts that were lost; a list of sentences
    language      the code of the language; null after an error
    duration      the seconds of the recording; null after an error
    text          the text; null after an error
    segments      a list of {start, end, text, avg_logprob, no_speech_prob, compression_ratio, temperature, words,
                  warnings}; words is null, or a list of {word, start, end, probability}; warnings is a list of
                  {kind, reason}

A row a segment has the fields of its recording and of the segment side by side, and its `index`. A recording without a
segment is one row there, too, in which what belongs to segments is null, so that no key is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from max_whisper.batch.options import Rows
from max_whisper.runtime.results import Segment, SegmentWarning, TranscriptionResult, Word

if TYPE_CHECKING:
    import pyarrow

Row: TypeAlias = "dict[str, Any]"

_MEASURES = ("avg_logprob", "no_speech_prob", "compression_ratio", "temperature")
_SEGMENT = ("start", "end", "text", *_MEASURES, "words", "warnings")
_SHARED = ("path", "key", "error", "language", "duration")
"""The fields of a recording that each of its segments has, too."""


def shown_path(path: str | os.PathLike[str]) -> str:
    r"""Returns a path as text that every format can hold: bytes that are no UTF-8 become \\xNN."""
    return os.fsencode(path).decode(errors="backslashreplace")


def recording_row(path: str, key: str, result: TranscriptionResult, warnings: Sequence[str] = ()) -> Row:
    """Returns the row of a recording that was transcribed.

    Args:
        path: Where it was found, as `shown_path` returns it.
        key: Its key.
        result: The transcription.
        warnings: The warnings about its sound (`Recording.warnings`).
    """
    return {
        "path": path,
        "key": key,
        "error": None,
        "warnings": [*warnings],
        "language": result.language,
        "duration": float(result.duration),
        "text": result.text,
        "segments": [_segment(segment) for segment in result.segments],
    }


def failed_row(path: str, key: str, error: str) -> Row:
    """Returns the row of a recording that could not be transcribed; `error` is a sentence that says why."""
    return {
        "path": path,
        "key": key,
        "error": shown_path(error),
        "warnings": [],
        "language": None,
        "duration": None,
        "text": None,
        "segments": [],
    }


def segment_rows(row: Row) -> list[Row]:
    """Returns the rows of the segments of a recording; one row, without a segment, where it has none."""
    shared = {name: row[name] for name in _SHARED} | {"recording_warnings": row["warnings"]}
    if not row["segments"]:
        return [shared | {"index": None} | dict.fromkeys(_SEGMENT)]
    return [shared | {"index": index} | segment for index, segment in enumerate(row["segments"])]


def recording_rows(rows: Iterable[Row]) -> list[Row]:
    """Returns the rows of recordings again, of the rows of their segments in order.

    The text is that of the segments behind each other, which may differ from the recording's where a character was cut.
    """
    recordings: dict[str, Row] = {}
    for row in rows:
        shared = {name: row[name] for name in _SHARED} | {"warnings": row["recording_warnings"], "segments": []}
        recording = recordings.setdefault(row["key"], shared)
        if row["index"] is not None:
            recording["segments"].append({name: row[name] for name in _SEGMENT})
    for recording in recordings.values():
        texts = "".join(segment["text"] for segment in recording["segments"])
        recording["text"] = texts if recording["error"] is None else None
    return [*recordings.values()]


def result_of(row: Row) -> TranscriptionResult:
    """Returns the transcription in the row of a recording, as far as it is there: without tokens and windows."""
    return TranscriptionResult(
        row["text"], [_segment_of(segment) for segment in row["segments"]], row["language"], [], row["duration"]
    )


def schema(rows: Rows) -> pyarrow.Schema:
    """Returns the types of the columns. Raises ImportError where pyarrow is not installed."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    words = pa.list_(
        pa.struct([("word", text), ("start", number), ("end", number), ("probability", number)])  # null where not found
    )
    warnings = pa.list_(pa.struct([("kind", text), ("reason", text)]))
    segment = [
        ("start", number),
        ("end", number),
        ("text", text),
        *((name, number) for name in _MEASURES),
        ("words", words),
        ("warnings", warnings),
    ]
    shared = {"path": text, "key": text, "error": text, "language": text, "duration": number}
    if rows == "segment":
        extra = [("recording_warnings", pa.list_(text)), ("index", pa.int32())]
        return pa.schema([*shared.items(), *extra, *segment])
    names = ("path", "key", "error")
    return pa.schema(
        [
            *((name, shared[name]) for name in names),
            ("warnings", pa.list_(text)),
            ("language", text),
            ("duration", number),
            ("text", text),
            ("segments", pa.list_(pa.struct(segment))),
        ]
    )


def _segment(segment: Segment) -> Row:
    return {
        "start": float(segment.start),
        "end": float(segment.end),
        "text": segment.text,
        **{name: float(getattr(segment, name)) for name in _MEASURES},
        "words": None if segment.words is None else [_word(word) for word in segment.words],
        "warnings": [asdict(warning) for warning in segment.warnings],
    }


def _word(word: Word) -> Row:
    return {
        "word": word.word,
        "start": float(word.start),
        "end": float(word.end),
        "probability": float(word.probability),
    }


def _segment_of(row: Row) -> Segment:
    words = None if row["words"] is None else [Word(**word) for word in row["words"]]
    return Segment(
        0,
        row["start"],
        row["end"],
        row["text"],
        [],
        row["temperature"],
        row["avg_logprob"],
        row["compression_ratio"],
        row["no_speech_prob"],
        words,
        [SegmentWarning(**warning) for warning in row["warnings"]],
    )
