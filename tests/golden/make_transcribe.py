"""Makes tests/golden/transcribe.json: the results of openai/whisper's `transcribe` for long recordings, by options.

    pip install openai-whisper==20250625
    PYTHONPATH=tests:. python tests/golden/make_transcribe.py

It is run by hand; the tests do not need openai-whisper. The recordings, options and models are those of
support/transcribe_cases.py. openai/whisper's own code runs, with their window length and their vocabulary.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

import tiktoken
import whisper.decoding
import whisper.tokenizer
from max_whisper.runtime.decoding.tokenizer import _PATTERN
from max_whisper.weights.byte_level_bpe import byte_of_character
from support.models.vocabulary import make_tokens
from support.transcribe_cases import FAMILIES, GOLDEN, WINDOW, cases, checkpoint, options_of, sounds
from whisper.model import Whisper

from benchmarks.parity.openai_whisper import MIN_MARGIN, openai_model, watch_margins

transcription = importlib.import_module("whisper.transcribe")  # `whisper.transcribe` is its function of that name


def reference(folder: Path, family: str) -> Whisper:
    """Returns openai/whisper's model with a checkpoint's weights, and makes the rest of openai/whisper fit it."""
    tokens = make_tokens(family)
    multilingual = bool(tokens.languages)

    class Small(Whisper):
        is_multilingual = multilingual
        num_languages = len(tokens.languages)

    transcription.N_FRAMES = WINDOW // 160
    transcription.N_SAMPLES = WINDOW
    whisper.decoding.CHUNK_LENGTH = WINDOW / 16000
    table = byte_of_character()
    ranks = {bytes(table[c] for c in token): i for token, i in tokens.vocab.items() if token}
    special = {name.replace("nocaptions", "nospeech"): i for name, i in tokens.special.items()}
    encoding = tiktoken.Encoding("small", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens=special)

    def get_tokenizer(
        multilingual: bool, *, num_languages: int = 99, language: str | None = None, task: str | None = None
    ) -> whisper.tokenizer.Tokenizer:
        if not multilingual:
            language = task = None
        else:
            language, task = language or "en", task or "transcribe"
        return whisper.tokenizer.Tokenizer(encoding, num_languages, language, task)

    transcription.get_tokenizer = whisper.decoding.get_tokenizer = get_tokenizer
    # The list of a checkpoint is the reference: openai/whisper finds the same by encoding symbols.
    suppressed = tuple(json.loads((folder / "generation_config.json").read_text())["suppress_tokens"])
    whisper.tokenizer.Tokenizer.non_speech_tokens = property(lambda self: suppressed)
    return openai_model(folder, Small)


def words(segment: dict[str, Any]) -> list[list[Any]] | None:
    """Returns the text, start, end and probability of each word, if the options ask for words."""
    if "words" not in segment:
        return None
    return [[w["word"], float(w["start"]), float(w["end"]), round(w["probability"], 6)] for w in segment["words"]]


def main() -> None:
    golden: dict[str, Any] = {}
    margins = watch_margins()
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            model = reference(checkpoint(Path(folder), family), family)
            for sound, name in cases(family):
                margins.clear()
                result = transcription.transcribe(
                    model, sounds()[sound], fp16=False, verbose=None, **options_of(family, name)
                )
                if (least := min(margins, default=MIN_MARGIN)) < MIN_MARGIN:
                    print(f"{family}, {sound}, {name}: left out, a token won by {least:.0e} only")
                    continue
                segments = [
                    [s["seek"], s["start"], s["end"], s["tokens"], s["avg_logprob"], s["no_speech_prob"], words(s)]
                    for s in result["segments"]
                    if s["text"]
                ]
                golden[f"{family}, {sound}, {name}"] = {
                    "language": result["language"],
                    "text": result["text"],
                    "segments": segments,
                }
                windows = len({s[0] for s in segments})
                print(f"{family}, {sound}, {name}: {len(segments)} segments in {windows} windows", flush=True)
    lines = [f"{json.dumps(case)}:{json.dumps(result, separators=(',', ':'))}" for case, result in golden.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
