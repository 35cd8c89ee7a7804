"""Measures what Python adds to each token: the time of `decode` that is not spent in MAX.

    python -m benchmarks.overhead ARTIFACT

That is Python's loop, its buffers, and reading the tokens back; what MAX itself needs to start a graph is not in it.
The prompt is left out by the difference between decoding many tokens and one.
"""

from __future__ import annotations

from time import perf_counter

import click
import numpy as np

from benchmarks.common import executions, help_text, made_recording, since, use_cpus


@click.command(help=help_text(__doc__))
@click.argument("artifact", type=click.Path(exists=True, file_okay=False))
@click.option("--tokens", default=100, show_default=True, type=click.IntRange(2))
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
@click.option("--timestamps", is_flag=True, help="Decode with timestamps and their rules.")
def main(artifact: str, tokens: int, rounds: int, threads: int, timestamps: bool) -> None:
    use_cpus(threads)
    import max_whisper

    model = max_whisper.load(artifact)
    features = model.encode(model.windows(made_recording())[:1])

    def decode(n: int) -> np.ndarray:
        """Returns all milliseconds and those inside MAX, for n tokens."""
        with executions() as times:
            start = perf_counter()
            model.decode(features, language="en", without_timestamps=not timestamps, max_new_tokens=n)
            return np.array([since(start), sum(times)])

    decode(tokens)
    steps = np.array([(decode(tokens) - decode(1)) / (tokens - 1) for _ in range(rounds)])
    host = (steps[:, 0] - steps[:, 1]) * 1e3
    total, inside = np.median(steps, axis=0)
    print(f"a token takes {total:.2f} ms, {inside:.2f} ms of it in MAX; the host adds {np.median(host):.1f} µs")
    print(f"medians of {rounds} rounds; the host from {host.min():.1f} to {host.max():.1f} µs")


if __name__ == "__main__":
    main()
