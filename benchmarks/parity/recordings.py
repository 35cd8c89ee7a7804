"""Compares whole recordings with openai/whisper's own `transcribe`, at real dimensions, temperature 0.

    pip install openai-whisper==20250625
    python -m benchmarks.parity.recordings ARTIFACT CHECKPOINT RECORDING... [--seconds 600] [--only words]

Both run in this process on the same weights in float32; CHECKPOINT is the folder that ARTIFACT was built from. Compared
are the language; tokens, average log-probability, no-speech probability and skipping of each window; seek, tokens and
times of each segment; and words with their times and probabilities. The option sets are those of transcribe_options.py.

Where a token differs, the margin is shown by which the reference chose it: if that is less than the error of float32,
either is right. Any other difference is a mistake, and makes the exit status 1. With `--json FILE` every case is kept
there as soon as it is done, and the cases that the file holds are not run again.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.common import SAMPLE_RATE, WINDOW, help_text, use_cpus
from benchmarks.parity.openai_whisper import MIN_MARGIN, openai_model, watch_margins
from benchmarks.parity.transcribe_options import ONLY_MULTILINGUAL, OPTIONS

if TYPE_CHECKING:
    from max_whisper import Model, Segment, TranscriptionResult

WORDS_APART = 0.021  # seconds: one step of the alignment, and what floating point adds to it


@dataclass(frozen=True)
class Decoded:
    """A window as the reference decoded it. Greedy decoding has a margin for each token, end-of-text included."""

    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float
    margins: list[float]


@dataclass(frozen=True)
class Difference:
    """Where two transcriptions differ, and the margin by which the reference chose the token that differs."""

    what: str
    margin: float | None = None

    @property
    def excused(self) -> bool:
        """Whether either token is right, as the margin is below the error of float32."""
        return self.margin is not None and self.margin < MIN_MARGIN


@dataclass(frozen=True)
class Case:
    """The comparison of one recording with one set of options; times are in seconds."""

    artifact: str
    recording: str
    seconds: float
    options: str
    language: str
    windows: int
    skipped: int  # windows
    tokens: int
    segments: int
    equal: int  # segments
    words: int
    apart: float  # the largest difference of the times of words
    least_margin: float | None
    difference: Difference | None
    our_seconds: float
    their_seconds: float


def watch_windows(model: Any) -> list[Decoded]:
    """Returns a list that receives every window that a model of openai/whisper decodes from now on."""
    decoded: list[Decoded] = []
    margins, decode = watch_margins(), model.decode

    def watched(mel: Any, options: Any) -> Any:
        margins.clear()
        result = decode(mel, options)
        decoded.append(Decoded(result.tokens, result.avg_logprob, result.no_speech_prob, [*margins]))
        return result

    model.decode = watched
    return decoded


def differences(theirs: dict[str, Any], decoded: list[Decoded], ours: TranscriptionResult) -> Iterator[Difference]:
    """Yields the differences of two transcriptions, in the order in which they arose."""
    if theirs["language"] != ours.language:
        yield Difference(f"language {theirs['language']}, not {ours.language}")
    for number, (window, our_window) in enumerate(zip(decoded, ours.windows, strict=False)):
        result = our_window.result
        if window.tokens != result.tokens:
            pairs = zip_longest(window.tokens, result.tokens)
            step = next(i for i, (token, other) in enumerate(pairs) if token != other)
            margin = window.margins[step] if step < len(window.margins) else None
            yield Difference(f"window {number}: token {step}", margin)
        if not np.isclose(window.avg_logprob, result.avg_logprob, rtol=0, atol=1e-4):
            yield Difference(f"window {number}: average {window.avg_logprob}, not {result.avg_logprob}")
        if not np.isclose(window.no_speech_prob, result.no_speech_prob, rtol=1e-3, atol=0):
            yield Difference(f"window {number}: no-speech {window.no_speech_prob}, not {result.no_speech_prob}")
    if len(decoded) != len(ours.windows):
        yield Difference(f"{len(decoded)} windows, not {len(ours.windows)}")
    their_seeks = {segment["seek"] for segment in theirs["segments"]}
    for window in ours.windows:
        # A window all of whose segments were hallucinated is not called skipped, and has no segments in the reference.
        if window.segments or window.skipped:
            seek = round(window.start * 100)
            if (seek in their_seeks) == bool(window.skipped):
                yield Difference(f"window at frame {seek}: skipped by {'us' if window.skipped else 'the reference'}")
    for number, (segment, other) in enumerate(zip_longest(kept(theirs), ours.segments)):
        if segment is None or other is None or not same(segment, other):
            yield Difference(f"segment {number}")
    if theirs["text"] != ours.text:
        yield Difference("text")


def kept(theirs: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the segments of the reference without those that it empties, which max-whisper leaves out."""
    return [segment for segment in theirs["segments"] if segment["text"]]


def same(theirs: dict[str, Any], ours: Segment) -> bool:
    """Returns whether two segments and their words are the same."""
    words, our_words = theirs.get("words"), ours.words
    near = WORDS_APART if words is not None else 1e-6
    if (theirs["seek"], theirs["tokens"], theirs["text"]) != (ours.seek, ours.tokens, ours.text):
        return False
    if max(abs(theirs["start"] - ours.start), abs(theirs["end"] - ours.end)) > near:
        return False
    if words is None or our_words is None:
        return words is our_words
    if [word["word"] for word in words] != [word.word for word in our_words] or apart(words, our_words) > WORDS_APART:
        return False
    return np.allclose(
        [word["probability"] for word in words], [w.probability for w in our_words], rtol=1e-3, atol=1e-6
    )


def apart(theirs: list[dict[str, Any]], ours: list[Any]) -> float:
    """Returns the largest difference between the times of words."""
    pairs = zip(theirs, ours, strict=False)
    return max((abs(a[at] - getattr(b, at)) for a, b in pairs for at in ("start", "end")), default=0.0)


def thresholds(model: Model, waveform: NDArray[np.float32]) -> dict[str, float]:
    """Returns thresholds at which some windows count as silence: random models never reach those of trained ones."""
    (result,) = model.decode(model.encode(model.windows(waveform[:WINDOW])), language="en", max_initial_timestamp=1.0)
    return {"no_speech_threshold": 0.9 * result.no_speech_prob, "logprob_threshold": result.avg_logprob - 0.05}


def compared(
    artifact: str,
    model: Model,
    reference: Any,
    decoded: list[Decoded],
    waveform: NDArray[np.float32],
    recording: str,
    name: str,
    options: dict[str, Any],
) -> Case:
    """Returns the comparison of a recording with an option set, of which `options` are the values."""
    transcribe = importlib.import_module("whisper.transcribe").transcribe
    decoded.clear()
    start = perf_counter()
    theirs = transcribe(reference, waveform, fp16=False, verbose=None, **options)
    between = perf_counter()
    ours = model.transcribe(waveform, max_new_tokens=options.pop("sample_len"), **options)
    end = perf_counter()
    margins = [margin for window in decoded for margin in window.margins]
    pairs = [*zip(kept(theirs), ours.segments, strict=False)]
    return Case(
        artifact=artifact,
        recording=recording,
        seconds=len(waveform) / SAMPLE_RATE,
        options=name,
        language=ours.language,
        windows=len(decoded),
        skipped=sum(bool(window.skipped) for window in ours.windows),
        tokens=sum(len(window.tokens) for window in decoded),
        segments=len(kept(theirs)),
        equal=sum(same(segment, other) for segment, other in pairs),
        words=sum(len(segment.get("words", ())) for segment, _ in pairs),
        apart=max((apart(a.get("words", []), b.words or []) for a, b in pairs), default=0.0),
        least_margin=min(margins, default=None),
        difference=next(differences(theirs, decoded, ours), None),
        our_seconds=end - between,
        their_seconds=between - start,
    )


@click.command(help=help_text(__doc__))
@click.argument("artifact", type=click.Path(exists=True, file_okay=False))
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--seconds", type=float, help="Cut or repeat recordings to this length.")
@click.option("--only", multiple=True, type=click.Choice([*OPTIONS]), help="Compare this option set alone.")
@click.option("--detect", is_flag=True, help="Have the language of each recording detected, where it would be English.")
@click.option("--most-tokens", type=int, help="The most tokens of a window, where the option set has no limit.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep all results here.")
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
def main(
    artifact: str,
    checkpoint: Path,
    recordings: tuple[str, ...],
    seconds: float | None,
    only: tuple[str, ...],
    detect: bool,
    most_tokens: int | None,
    file: Path | None,
    threads: int,
) -> None:
    use_cpus(threads)
    import max_whisper

    model, reference = max_whisper.load(artifact), openai_model(checkpoint)
    decoded = watch_windows(reference)
    console = Console(width=190)
    table = Table("recording", "seconds", "options", "windows", "skipped", "tokens", "segments", "equal", "words apart")
    for title in ("least margin", "ms per token (theirs)", "difference"):
        table.add_column(title)
    cases: list[Case] = []
    if file is not None and file.exists():
        cases = msgspec.json.decode(file.read_bytes(), type=list[Case])
    done = {(case.recording, case.options) for case in cases}
    for recording in recordings:
        names = [name for name in only or OPTIONS if model.multilingual or name not in ONLY_MULTILINGUAL]
        names = [name for name in names if (Path(recording).name, name) not in done]
        if not names:
            continue
        try:
            waveform = max_whisper.load_audio(recording)
        except max_whisper.MaxWhisperError as e:
            click.echo(f"left out: {e}", err=True)
            continue
        if seconds is not None:
            waveform = np.resize(waveform, round(seconds * SAMPLE_RATE))
        for name in names:
            told = {"language": "en"} if model.multilingual and not detect else {}
            options = {"temperature": 0.0, **told, **OPTIONS[name]}
            if "silence" in name:
                silence = thresholds(model, waveform)
                options |= {key: value for key, value in silence.items() if options.get(key) is not None}
            options.setdefault("sample_len", most_tokens)
            case = compared(
                Path(artifact).name, model, reference, decoded, waveform, Path(recording).name, name, options
            )
            cases.append(case)
            click.echo(f"{case.recording}, {name}: {case.difference.what if case.difference else 'equal'}", err=True)
            if file is not None:
                new = file.with_suffix(".new")
                new.write_bytes(msgspec.json.format(msgspec.json.encode(cases, enc_hook=float), indent=1))
                new.replace(file)
    for case in cases:
        table.add_row(*described(case))
    console.print(table)
    console.print(summary(cases))
    sys.exit(any(case.difference is not None and not case.difference.excused for case in cases))


def summary(cases: list[Case]) -> str:
    """Returns what the cases amount to."""
    equal = sum(case.difference is None for case in cases)
    minutes, tokens, words = (sum(getattr(case, name) for case in cases) for name in ("seconds", "tokens", "words"))
    return f"{equal} of {len(cases)} equal: {minutes / 60:.1f} minutes, {tokens} tokens, {words} words"


def described(case: Case) -> list[str]:
    """Returns the row of a case."""
    ms_per_token = 1e3 / max(1, case.tokens)
    difference = ""
    if case.difference is not None:
        margin = case.difference.margin
        difference = case.difference.what + ("" if margin is None else f", which won by {margin:.0e}")
    return [
        case.recording,
        f"{case.seconds:.0f}",
        case.options,
        f"{case.windows}",
        f"{case.skipped}",
        f"{case.tokens}",
        f"{case.segments}",
        f"{case.equal}",
        f"{case.apart:.2f} s" if case.words else "",
        "" if case.least_margin is None else f"{case.least_margin:.0e}",
        f"{case.our_seconds * ms_per_token:.1f} ({case.their_seconds * ms_per_token:.1f})",
        difference,
    ]


if __name__ == "__main__":
    main()
