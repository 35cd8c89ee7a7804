"""Makes the command of a Python process that imports from where this one does, and from nowhere else."""

from __future__ import annotations

import os
import sys

RUN_MODULE = (
    "import sys; sys.path[:] = sys.argv.pop(1).split(':'); import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""`python -m` would look for each module in the current folder first, where a file of anybody may lie."""


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
    paths = ":".join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100 - "" stands for the current folder
    return [sys.executable, "-c", RUN_MODULE, paths, module, *arguments]
