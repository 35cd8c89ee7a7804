"""Measures how often an artifact of fewer bits chooses the token that float32 chooses.

    python -m benchmarks.parity.agreement FLOAT32_ARTIFACT ARTIFACT… [--audio FILE …]

The float32 artifact writes greedy tokens for a window of each recording, by default synthetic ones. Then every artifact
reads these tokens, with features of its own, and its most probable next token is compared after each of them.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common import help_text, made_recording, use_cpus


@click.command(help=help_text(__doc__))
@click.argument("reference", type=click.Path(exists=True, file_okay=False))
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
@click.option("--audio", multiple=True, type=click.Path(exists=True, dir_okay=False), help="A recording to take.")
@click.option("--tokens", default=200, show_default=True, type=click.IntRange(1), help="The most tokens of a window.")
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
def main(reference: str, artifacts: tuple[str, ...], audio: tuple[str, ...], tokens: int, threads: int) -> None:
    use_cpus(threads)
    import max_whisper

    float32 = max_whisper.load(reference)
    waveforms = [max_whisper.load_audio(path) for path in audio] or [made_recording(30, seed) for seed in range(5)]
    mels = np.stack([float32.windows(waveform)[0] for waveform in waveforms])
    float32_features = float32.encode(mels)
    written = float32.decode(float32_features, language="en", max_new_tokens=tokens)
    prompt = float32.prompt(language="en")
    table = Table("artifact", "dtype", "tokens", "largest error of features", "of logits", "same choice")
    for folder in artifacts:
        other = max_whisper.load(folder)
        features = other.encode(mels)
        error, logits_error, same = 0.0, 0.0, []
        for i, result in enumerate(written):
            text = np.array([[*prompt, *result.tokens]])
            exact, rounded = np.asarray(float32_features)[i : i + 1], np.asarray(features)[i : i + 1]
            expected, actual = float32.logits(exact, text), other.logits(rounded, text)
            rows = slice(len(prompt) - 1, None)
            same += list((expected.argmax(-1) == actual.argmax(-1))[0, rows])
            error = max(error, float(np.abs(exact - rounded).max()))
            logits_error = max(logits_error, float(np.abs(expected - actual)[0, rows].max()))
        name, dtype = Path(folder).name, other.manifest.plan.dtype
        table.add_row(name, dtype, str(len(same)), f"{error:.2g}", f"{logits_error:.2g}", f"{np.mean(same):.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
