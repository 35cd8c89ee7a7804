"""Measures where a draft makes decoding faster, on recordings of speech: windows of 30 seconds, one after the other.

    python -m benchmarks.drafts ARTIFACT RECORDING... [--by SMALLER_ARTIFACT] [--language en] [--rounds 5]

Each draft is beside decoding without one, in turns; times are those of decoding alone, and of a smaller artifact its
encoder, too, because it must hear the window itself:

    tokens      the tokens of the same window, as a stream has them that decodes a growing window again and again
    text        the same as text, without timestamps
    9 of 10     the text without every tenth word
    before      the text of all windows before: what repeats itself
    smaller     the text that the smaller artifact gives for the window

Every text must have the tokens that the window has without a draft; a difference is an error.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import max_whisper
from max_whisper import DecodingResult, Features, Model
from rich.console import Console
from rich.table import Table

from benchmarks.common import help_text, rotated

PLAIN, SMALLER = "without a draft", "smaller"


def decoded(model: Model, features: Features, language: str | None, **options: Any) -> tuple[DecodingResult, float]:
    """Returns the result of a window, and the milliseconds of decoding it."""
    given = {"language": language} if model.multilingual else {}
    start = perf_counter()
    (result,) = model.decode(features, **given, **options)
    return result, 1e3 * (perf_counter() - start)


def windows_of(model: Model, recordings: Sequence[Path]) -> list[Any]:
    """Returns the log-mel of each window, float32 [1, n_mels, n_frames]."""
    return [window[None] for path in recordings for window in model.windows(path)]


def by_smaller(model: Model, window: Any, language: str | None) -> tuple[str, float]:
    """Returns the text that a smaller model gives for a window, and the milliseconds from its log-mel to the text."""
    start = perf_counter()
    features = model.encode(window)
    encoding = 1e3 * (perf_counter() - start)
    result, decoding = decoded(model, features, language)
    return result.text, encoding + decoding


@click.command(help=help_text(__doc__))
@click.argument("artifact", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--by", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A smaller artifact.")
@click.option("--language", default="en", show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def main(artifact: Path, recordings: tuple[Path, ...], by: Path | None, language: str, rounds: int) -> None:
    model, smaller = max_whisper.load(artifact), max_whisper.load(by) if by else None
    drafts: list[dict[str, Any]] = []
    windows = [(model.encode(window), window) for window in windows_of(model, recordings)]
    expected = [decoded(model, features, language)[0] for features, _ in windows]
    before: list[int] = []
    for result in expected:
        words = result.text.split()
        fewer = " ".join(word for i, word in enumerate(words) if i % 10 != 5)
        named = {PLAIN: None, "tokens": result.tokens, "text": result.text, "9 of 10": fewer, "before": [*before]}
        drafts.append(named | ({SMALLER: None} if smaller else {}))
        before += result.tokens
    times: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds):
        for name in rotated([*drafts[0]], turn):
            total = 0.0
            for (features, window), named, result in zip(windows, drafts, expected, strict=True):
                draft, extra = named[name], 0.0
                if name == SMALLER and smaller is not None:
                    draft, extra = by_smaller(smaller, window, language)
                found, spent = decoded(model, features, language, **({} if draft is None else {"draft": draft}))
                if (found.tokens, found.avg_logprob) != (result.tokens, result.avg_logprob):
                    raise click.ClickException(f"the draft '{name}' has changed the text '{result.text}'")
                total += spent + extra
            times[name].append(total)
    table = Table("draft", "ms", "of the time without", "lowest", "highest")
    for name, own in times.items():
        ratios = [one / other for one, other in zip(own, times[PLAIN], strict=True)]
        median = statistics.median(ratios)
        spread = (f"{ratio:.2f}" for ratio in (median, min(ratios), max(ratios)))
        table.add_row(name, f"{statistics.median(own):.0f}", *spread)
    console = Console()
    console.print(table)
    tokens = sum(len(result.tokens) for result in expected)
    console.print(
        f"{artifact.name}: {len(windows)} windows, {tokens} tokens, {rounds} rounds; every text was the same."
    )


if __name__ == "__main__":
    main()
