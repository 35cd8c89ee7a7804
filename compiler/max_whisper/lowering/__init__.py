"""Tree of layers -> MAX Graph; knows no files and no Hub."""

from max_whisper.lowering.graphs import Lowered, Lowering, Signature

__all__ = ["Lowered", "Lowering", "Signature"]
