"""Makes tests/golden/subtitles.json: how openai/whisper shows words, option by option.

    pip install openai-whisper==20250625
    PYTHONPATH=tests:. python tests/golden/make_subtitles.py

It is run by hand; the tests do not need openai-whisper.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict

from support.subtitle_cases import GOLDEN, OPTIONS, RESULT
from whisper.utils import get_writer


def main() -> None:
    result = asdict(RESULT)
    golden = {}
    for name, options in OPTIONS.items():
        for format in ("srt", "vtt"):
            file = io.StringIO()
            get_writer(format, ".").write_result(result, file, **options)
            golden[f"{name}, {format}"] = file.getvalue()
    GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
