"""Rows: what they hold, and that nothing is lost on the way through files and back."""

from __future__ import annotations

import os

import msgspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from max_whisper.batch.rows import (
    failed_row,
    recording_row,
    recording_rows,
    result_of,
    schema,
    segment_rows,
    shown_path,
)
from max_whisper.runtime.output.writers import render
from max_whisper.runtime.results import Segment, SegmentWarning, TranscriptionResult, Word

WORDS = [Word(" hello", 0.0, 0.4, 0.9), Word(" you", 0.4, 0.8, 0.7)]
SEGMENTS = [
    Segment(0, 0.0, 1.0, " hello you", [1, 2], 0.0, -0.25, 1.1, 0.01, WORDS),
    Segment(0, 1.0, 2.5, " and me", [3], 0.2, -0.5, 1.2, 0.02, None, [SegmentWarning("silence", "nothing is heard")]),
]
RESULT = TranscriptionResult(" hello you and me", SEGMENTS, "en", [], 2.4)
ROWS = [
    recording_row("a.wav", "k1", RESULT, ["a part was lost"]),
    recording_row("empty.wav", "k2", TranscriptionResult("", [], "en", [], 1.0)),
    failed_row("bad.wav", "k3", "it is no sound"),
]


def test_a_row_has_all_that_is_known() -> None:
    row = ROWS[0]
    assert row["text"] == " hello you and me" and row["warnings"] == ["a part was lost"] and row["error"] is None
    assert row["segments"][0]["words"] == [
        {"word": " hello", "start": 0.0, "end": 0.4, "probability": 0.9},
        {"word": " you", "start": 0.4, "end": 0.8, "probability": 0.7},
    ]
    assert row["segments"][1]["warnings"] == [{"kind": "silence", "reason": "nothing is heard"}]
    assert row["segments"][1]["words"] is None


def test_no_key_is_lost_among_segments() -> None:
    rows = [segment for row in ROWS for segment in segment_rows(row)]
    assert [(row["key"], row["index"], row["text"]) for row in rows] == [
        ("k1", 0, " hello you"),
        ("k1", 1, " and me"),
        ("k2", None, None),
        ("k3", None, None),
    ]
    assert [row["error"] for row in rows] == [None, None, None, "it is no sound"]
    assert recording_rows(rows) == ROWS


@pytest.mark.parametrize("rows", ["recording", "segment"])
def test_the_schema_holds_every_field(rows: str) -> None:
    written = ROWS if rows == "recording" else [segment for row in ROWS for segment in segment_rows(row)]
    assert all(set(row) == set(schema(rows).names) for row in written)
    table = pa.Table.from_pylist(written, schema=schema(rows))
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    assert pa.parquet.read_table(pa.BufferReader(sink.getvalue())).to_pylist() == written
    assert [msgspec.json.decode(msgspec.json.encode(row)) for row in written] == written


@pytest.mark.parametrize("format", ["txt", "srt", "vtt", "tsv"])
def test_files_are_written_from_rows_as_from_results(format: str) -> None:
    assert render(result_of(ROWS[0]), format) == render(RESULT, format)


def test_every_path_can_be_shown() -> None:
    assert shown_path("schön.wav") == "schön.wav"
    assert shown_path(os.fsdecode(b"sch\xf6n.wav")) == "sch\\xf6n.wav"
