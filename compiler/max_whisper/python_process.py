"""Makes the command of a Python process that imports from where this one does, and from nowhere else."""

from __future__ import annotations

import json
import os
import sys

RUN_MODULE = (
    "import sys; sys.path[:] = filter(None, sys.path); import json, runpy; "
    "sys.path[:] = json.loads(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""`python -m` and `python -c` look for each module in the current folder first, where a file of anybody may lie."""


def module_command(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module as a program in a new process.

    Args:
        module: The name of the module.
        arguments: The arguments of the program.

    Raises:
        OSError: This program has no Python that could be started.
    """
    if not sys.executable:
        raise FileNotFoundError("there is no Python interpreter that could be started")
    # "" stands for the current folder; what is no text is ignored by imports, too.
    paths = [os.path.abspath(path) for path in sys.path if isinstance(path, str)]  # noqa: PTH100
    return [sys.executable, "-c", RUN_MODULE, json.dumps(paths), module, *arguments]
