"""What the workers share: they transcribe the files of a folder one after the other, and write the texts as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path


def write_texts(folder: str, out: str, transcribe: Callable[[str], str]) -> None:
    """Writes the text of each file of a folder by its name; null for one that fails, with a line that says why."""
    texts: dict[str, str | None] = {}
    for file in sorted(Path(folder).iterdir()):
        try:
            texts[file.name] = transcribe(str(file))
        except Exception as error:  # whatever the library raises for a file that it does not take
            print(f"{file.name}: {type(error).__name__}: {error}", file=sys.stderr)
            texts[file.name] = None
    Path(out).write_text(json.dumps(texts, ensure_ascii=False))
