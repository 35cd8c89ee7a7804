"""What this machine can do at most: products of float32, bfloat16 and int8 in a second, and bytes read from memory.

\b
    python ceilings.py [--threads 2]
"""

from __future__ import annotations

import json

import click
from common import use_cpus


@click.command(help=__doc__)
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(threads: int, as_json: bool) -> None:
    use_cpus(threads)
    from max_whisper.tools.bench.peak_rates import Probes

    ceilings = Probes().measure()
    if as_json:
        print(json.dumps(ceilings))
        return
    for name, value in ceilings.items():
        print(f"{name:10} {value:7.1f} {'GB/s' if name == 'memory' else 'GFLOP/s'}")


if __name__ == "__main__":
    main()
