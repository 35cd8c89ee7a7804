"""Shows the memory of a process that transcribes window after window.

    python -m benchmarks.leak ARTIFACT

It prints the resident memory along the way, and how much was added since the warm-up.
"""

from __future__ import annotations

import click

from benchmarks.common import help_text, made_recording, memory_mb, use_cpus


@click.command(help=help_text(__doc__))
@click.argument("artifact", type=click.Path(exists=True, file_okay=False))
@click.option("--windows", default=200, show_default=True, type=click.IntRange(1), help="Windows after the warm-up.")
@click.option("--warm-up", default=20, show_default=True, help="Windows that do not count.")
@click.option("--tokens", default=20, show_default=True, help="The most tokens of a window.")
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
def main(artifact: str, windows: int, warm_up: int, tokens: int, threads: int) -> None:
    use_cpus(threads)
    import max_whisper

    model = max_whisper.load(artifact)
    recordings = [made_recording(seconds, seed) for seed, seconds in enumerate((30, 3, 17, 25, 8))]
    memory: list[float] = []
    for i in range(warm_up + windows):
        model.transcribe(recordings[i % len(recordings)], language="en", max_new_tokens=tokens, temperature=0)
        memory.append(memory_mb())
        if (i + 1) % 20 == 0:
            print(f"{i + 1:5} windows {memory[-1]:8.1f} MB")
    print(f"{windows} windows after the first {warm_up} added {memory[-1] - memory[warm_up - 1]:+.1f} MB")


if __name__ == "__main__":
    main()
