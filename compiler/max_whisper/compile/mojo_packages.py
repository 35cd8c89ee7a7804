"""Compiles this package's Mojo ops for graphs: `kernels` for models, and `probes` for measurements."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

from blake3 import blake3
from mojo.run import subprocess_run_mojo

from max_whisper.errors import CompileError
from max_whisper.resources import shipped_folder


def kernels_package(cache: Path, name: str = "kernels") -> Path:
    """Returns the compiled package of `kernels` or `probes` from the cache, after compiling it if it is not there.

    MAX also accepts the sources, but would compile them again for every graph, and for a copy in another folder. The
    package is in a folder that is named by a hash of the sources. Raises CompileError where they do not compile.
    """
    sources = shipped_folder(name)
    digest = blake3(version("max").encode())
    for path in sorted(sources.glob("*.mojo")):
        digest.update(path.name.encode()).update(path.read_bytes())
    # The package contains its own file name, which therefore must not vary.
    package = cache / "kernels" / digest.hexdigest()[:16] / f"max_whisper_{name}.mojoc"
    if package.is_file():
        return package
    package.parent.mkdir(parents=True, exist_ok=True)
    # Another process may compile it at the same time, and any may be killed: it is moved there when it is complete.
    with tempfile.TemporaryDirectory(dir=package.parent) as staging:
        new = Path(staging) / package.name
        command = ["precompile", str(sources), "-o", str(new)]
        # The compiler may quote a line of a source up to the middle of a character.
        done = subprocess_run_mojo(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            error = next((line for line in done.stderr.splitlines() if "error:" in line), done.stderr.strip()[-300:])
            raise CompileError(f"the {name} in {sources} do not compile: {error}")
        new.replace(package)
    return package
