"""Transcribe a folder of recordings in several processes, and read the rows; a second run skips what is done.

python examples/archive.py artifacts/tiny recordings results
"""

import sys
from pathlib import Path

import max_whisper
from pyarrow import parquet


def main(model: str, recordings: str, results: str) -> None:
    summary = max_whisper.transcribe_archive(recordings, model=model, out=results, failed=print)
    print(f"{summary.done} done, {summary.skipped} done before, {summary.failed} failed")
    for part in sorted(Path(results).glob("part-*.parquet")):
        for row in parquet.read_table(part).to_pylist():
            print(f"{Path(row['path']).name}: {row['text'] or row['error']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
