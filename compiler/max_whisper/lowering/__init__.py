"""Tree of layers -> MAX Graph; knows no files and no Hub."""

from max_whisper.lowering.graphs import DTYPES, Lowering

__all__ = ["DTYPES", "Lowering"]
