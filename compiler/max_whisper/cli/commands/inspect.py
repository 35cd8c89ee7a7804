"""`max-whisper inspect`."""

from __future__ import annotations

import click

from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand

EXAMPLES = """
max-whisper inspect tiny.yaml
max-whisper inspect artifacts/tiny
"""


@click.command(cls=HeadedCommand, examples=EXAMPLES)
@click.argument("model", metavar="SPEC_OR_ARTIFACT")
@click.option("--all", "every", is_flag=True, help="Show every copy of repeated layers, not only the first.")
def inspect(model: str, every: bool) -> None:
    """Show the layers, shapes and weights of a model.

    SPEC_OR_ARTIFACT is the description of a model (a YAML file, or a name such as tiny), or the folder of a compiled
    one.
    """
    with current().interrupts.held():
        from max_whisper.tools.inspect import inspect as show

    current().streams.stdout.check()
    show(model, every=every)
