"""The command line `max-whisper`: its commands, and the help that it shows without one."""

from __future__ import annotations

import click

from max_whisper.cli.commands.batch import batch
from max_whisper.cli.commands.bench import bench
from max_whisper.cli.commands.build import build
from max_whisper.cli.commands.eval import evaluate
from max_whisper.cli.commands.inspect import inspect
from max_whisper.cli.commands.live import live
from max_whisper.cli.commands.schema import schema
from max_whisper.cli.commands.serve import serve
from max_whisper.cli.commands.transcribe import transcribe
from max_whisper.cli.commands.verify import verify
from max_whisper.cli.group import CommandGroup

EXAMPLES = """
max-whisper build --spec tiny.yaml
    Download whisper-tiny, and compile it to the folder artifacts/tiny.
max-whisper transcribe talk.mp3 --model artifacts/tiny
    Print what is said in a recording.
max-whisper inspect tiny.yaml
    Show the layers of a model, their shapes and their weights.
"""


@click.group(
    cls=CommandGroup,
    examples=EXAMPLES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="max-whisper")
@click.pass_context
def main(context: click.Context) -> None:
    """Turn speech into text with Whisper models, compiled ahead of time with MAX.

    Every command has its own --help.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (build, transcribe, batch, live, serve, inspect, verify, bench, evaluate, schema):
    main.add_command(command)
