"""How often an artifact of fewer bits would choose the token that float32 chooses.

\b
    python agreement.py FLOAT32_ARTIFACT ARTIFACT… [--audio FILE …]

The float32 artifact writes greedy tokens for a window of each recording (made ones, if none are given); then every
artifact is given these tokens, with features of its own, and the likeliest next token is compared after each of them.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from common import made_recording, use_cpus
from rich.console import Console
from rich.table import Table


@click.command(help=__doc__)
@click.argument("reference", type=click.Path(exists=True, file_okay=False))
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
@click.option("--audio", multiple=True, type=click.Path(exists=True, dir_okay=False), help="Recordings to take.")
@click.option("--tokens", default=200, show_default=True, type=click.IntRange(1), help="Of each window, at most.")
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
def main(reference: str, artifacts: tuple[str, ...], audio: tuple[str, ...], tokens: int, threads: int) -> None:
    use_cpus(threads)
    import max_whisper

    exact = max_whisper.load(reference)
    waveforms = [max_whisper.load_audio(path) for path in audio] or [made_recording(30, seed) for seed in range(5)]
    mels = np.stack([exact.windows(waveform)[0] for waveform in waveforms])
    exact_features = exact.encode(mels)
    written = exact.decode(exact_features, language="en", max_new_tokens=tokens)
    prompt = exact.prompt(language="en")
    table = Table("artifact", "dtype", "tokens", "largest error of features", "of logits", "same choice")
    for folder in artifacts:
        other = max_whisper.load(folder)
        features = other.encode(mels)
        error, logits_error, same = 0.0, 0.0, []
        for i, result in enumerate(written):
            given = np.array([[*prompt, *result.tokens]])
            one, two = np.asarray(exact_features)[i : i + 1], np.asarray(features)[i : i + 1]
            expected, found = exact.logits(one, given), other.logits(two, given)
            rows = slice(len(prompt) - 1, None)
            same += list((expected.argmax(-1) == found.argmax(-1))[0, rows])
            error = max(error, float(np.abs(one - two).max()))
            logits_error = max(logits_error, float(np.abs(expected - found)[0, rows].max()))
        name, dtype = Path(folder).name, other.manifest.plan.dtype
        table.add_row(name, dtype, str(len(same)), f"{error:.2g}", f"{logits_error:.2g}", f"{np.mean(same):.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
