"""`max-whisper schema`."""

from __future__ import annotations

import json

import click

from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand

EXAMPLES = """
max-whisper schema > whisper-spec.schema.json
# and as the first line of a spec:
# yaml-language-server: $schema=whisper-spec.schema.json
"""


@click.command(cls=HeadedCommand, examples=EXAMPLES)
def schema() -> None:
    """Print the JSON Schema of model descriptions.

    Editors complete and check specs by it. A line at the top of a YAML file tells them where it is.
    """
    from max_whisper.spec import json_schema

    current().streams.write(json.dumps(json_schema(), indent=2) + "\n")
