"""Makes the command that builds an artifact again, for errors about artifacts that no longer fit."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec

from max_whisper.artifact.manifest import SPEC_FILE, Manifest, Source
from max_whisper.artifact.target import target_name
from max_whisper.files import is_regular
from max_whisper.plan import Kernels, Target
from max_whisper.records import Dim, Identifier
from max_whisper.tensors.dtypes import BuildDtype


def package_version() -> str:
    """Returns the version of this max-whisper; only errors need it, and importing it takes longer than loading does."""
    from importlib.metadata import version

    return version("max-whisper")


class PlanRecipe(msgspec.Struct, frozen=True):
    """The options of a build, as the plan in a manifest has them."""

    target: Target
    dtype: BuildDtype
    kernels: Kernels
    batch: Dim


class Recipe(msgspec.Struct, frozen=True):
    """The parts of a manifest that say how an artifact was built; other versions of the format may have them, too.

    Attributes:
        builder: The version of max-whisper that built the artifact.
        plan: The options of the build.
        source: The origin of the weights.
    """

    builder: Identifier
    plan: PlanRecipe
    source: Source


def read_recipe(text: bytes) -> Recipe | None:
    """Returns the recipe in a manifest of any version; None if it has none that can be read."""
    try:
        return msgspec.json.decode(text, type=Recipe)
    except (ValueError, RecursionError):
        return None


def rebuild_command(folder: Path, recipe: Recipe | Manifest | None, *, here: bool = False) -> str:
    """Returns the command that builds an artifact again, in the same folder.

    Words in capital letters stand for what the artifact does not say: a local folder of weights, for example.

    Args:
        folder: The folder of the artifact.
        recipe: The recipe of the artifact, or its manifest; None if neither can be read.
        here: Whether to build for this machine, not for the one that the artifact was built for.
    """
    spec = folder / SPEC_FILE
    command = ["max-whisper", "build", "--spec", str(spec) if is_regular(spec) else "SPEC"]
    if recipe is not None:
        plan, source = recipe.plan, recipe.source
        command += ["--weights", source.repo or "WEIGHTS"] if source.package is None else []
        command += ["--revision", source.commit] if source.commit else []
        command += ["--dtype", plan.dtype]
        command += ["--batch", str(plan.batch)] if plan.batch != 1 else []
        if plan.target.on_host or not here:
            command += ["--kernels", plan.kernels] if plan.kernels != plan.target.kernels[0] else []
        name = target_name(plan.target)
        command += ["--target", name] if name != "cpu" and not here else []
    return shlex.join([*command, "--out", str(folder), "--force"])
