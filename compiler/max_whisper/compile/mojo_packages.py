"""Our custom ops in Mojo, compiled once to packages for graphs: `kernels` of models, `probes` to measure."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

from blake3 import blake3
from mojo.run import subprocess_run_mojo

from max_whisper.errors import CompileError
from max_whisper.resources import shipped_folder


def kernels_package(cache: Path, name: str = "kernels") -> Path:
    """The compiled package of `kernels` or `probes` in the cache; made if it is not there, which takes two seconds.

    MAX would take the sources too, but compile them for every graph anew, and take equal ones in another folder for
    others. The folder of the package is named after their content.

    Raises CompileError where they do not compile.
    """
    sources = shipped_folder(name)
    digest = blake3(version("max").encode())
    for path in sorted(sources.glob("*.mojo")):
        digest.update(path.name.encode()).update(path.read_bytes())
    package = cache / "kernels" / digest.hexdigest()[:16] / f"max_whisper_{name}.mojoc"  # the file's name is in it
    if package.is_file():
        return package
    package.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=package.parent) as staging:  # others may be at it, and may be killed
        new = Path(staging) / package.name
        done = subprocess_run_mojo(["precompile", str(sources), "-o", str(new)], capture_output=True, text=True)
        if done.returncode:
            said = next((line for line in done.stderr.splitlines() if "error:" in line), done.stderr.strip()[-300:])
            raise CompileError(f"the {name} in {sources} do not compile: {said}")
        new.replace(package)
    return package
