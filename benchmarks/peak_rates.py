"""Measures this machine's peak rates: multiply-adds in float32, bfloat16 and int8, and the bandwidth of its memory.

    python -m benchmarks.peak_rates [--threads 2]

`max-whisper bench` and the other benchmarks compute from them the lower bounds that they show.
"""

from __future__ import annotations

import json

import click

from benchmarks.common import help_text, use_cpus


@click.command(help=help_text(__doc__))
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(threads: int, as_json: bool) -> None:
    use_cpus(threads)
    from max_whisper.tools.bench.peak_rates import Probes

    rates = Probes().measure()
    if as_json:
        print(json.dumps(rates))
        return
    for name, value in rates.items():
        print(f"{name:10} {value:7.1f} {'GB/s' if name == 'memory' else 'GFLOP/s'}")


if __name__ == "__main__":
    main()
