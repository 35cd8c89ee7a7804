"""The models that tests share, each built once per run.

The first run compiles, which takes minutes; compiled graphs are kept in `.cache/max`, or in MODULAR_CACHE_DIR, and
later runs take them from there.

    model, artifact       float32, one window at once: take these wherever they will do
    english, ending       the same graphs with an English-only vocabulary, and with weights that choose end-of-text
    batched               bfloat16, three windows at once
    nano, nano_artifact   the trained model that ships, where words have to be right
    detector, silero      Silero VAD, and its folder, which is that in the user's cache
    max_artifact          float32, with MAX's kernels in place of ours
    max_batched           bfloat16, three windows at once, with MAX's kernels
    cuda_artifact         built for a GPU, which need not be there
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("MODULAR_CACHE_DIR", str(ROOT / ".cache" / "max"))  # read when MAX is imported
os.environ["MODULAR_TELEMETRY_ENABLED"] = "false"
_user_cache = tempfile.TemporaryDirectory(prefix="max-whisper-tests-")
os.environ["XDG_CACHE_HOME"] = _user_cache.name  # no test may find what an earlier version has left there

import max_whisper  # noqa: E402
import pytest  # noqa: E402
from max_whisper.artifact.cores import usable_cores  # noqa: E402
from max_whisper.runtime.vad.cached import find_detector  # noqa: E402
from support.harness import Budget  # noqa: E402
from support.models.checkpoint import end_soon, write_checkpoint  # noqa: E402
from support.models.small import SMALL, write_spec  # noqa: E402
from support.models.thin import write_thin  # noqa: E402

pytest_plugins = ["support.server_fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of tests/fuzz, which must be known before that folder is read."""
    parser.addoption("--long", type=float, default=0.0, metavar="HOURS", help="the hours that each fuzz test takes")
    parser.addoption("--seed", type=int, default=0, help="the seed of the fuzz tests: another one tries other cases")


@pytest.fixture
def budget(request: pytest.FixtureRequest) -> Budget:
    """Returns the budget of a fuzz test: the cases that it tries."""
    return Budget(request.node.name, request.config.getoption("--seed"), request.config.getoption("--long"))


@pytest.fixture(autouse=True)
def _cores_are_given_back() -> Iterator[None]:
    """Checks that no test leaves the process on fewer cores, which would slow down or fail those that follow."""
    before = usable_cores()
    yield
    assert usable_cores() == before


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the shared files."""
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="session")
def spec(home: Path) -> Path:
    """Returns the spec of the small model; see support/models/small.py."""
    return write_spec(home)


@pytest.fixture(scope="session")
def checkpoint(home: Path) -> Path:
    """Returns a multilingual checkpoint for `spec`."""
    return write_checkpoint(home / "checkpoint")


@pytest.fixture(scope="session")
def artifact(home: Path, spec: Path, checkpoint: Path) -> Path:
    """Returns the artifact of `spec` and `checkpoint`; tests must not change it (see support/artifacts.py, `copy`)."""
    return max_whisper.build(spec, weights=checkpoint, dtype="float32", out=home / "artifact")


@pytest.fixture(scope="session")
def model(artifact: Path) -> max_whisper.Model:
    return max_whisper.load(artifact)


@pytest.fixture(scope="session")
def english_artifact(home: Path, spec: Path) -> Path:
    """Returns an English-only artifact of the same dimensions, whose vocabulary is padded by a token."""
    checkpoint = write_checkpoint(home / "english-checkpoint", family="english", n_vocab=SMALL["n_vocab"])
    return max_whisper.build(spec, weights=checkpoint, dtype="float32", out=home / "english")


@pytest.fixture(scope="session")
def english(english_artifact: Path) -> max_whisper.Model:
    return max_whisper.load(english_artifact)


@pytest.fixture(scope="session")
def ending(home: Path, spec: Path) -> max_whisper.Model:
    """Returns a model that chooses end-of-text after some tokens, which the others never do."""
    checkpoint = write_checkpoint(home / "ending-checkpoint", change=end_soon)
    return max_whisper.load(max_whisper.build(spec, weights=checkpoint, dtype="float32", out=home / "ending"))


@pytest.fixture(scope="session")
def batched(home: Path, spec: Path) -> max_whisper.Model:
    """Returns a bfloat16 model for three windows at once, with the weights of `ending`: rows end apart."""
    checkpoint = write_checkpoint(home / "batched-checkpoint", change=end_soon)
    folder = max_whisper.build(spec, weights=checkpoint, out=home / "batched", dtype="bfloat16", batch=3)
    return max_whisper.load(folder)


@pytest.fixture(scope="session")
def nano_artifact(home: Path) -> Path:
    """Returns the artifact of the trained model that ships, which understands the words of specs/nano/words.txt."""
    return max_whisper.build("nano.yaml", out=home / "nano", offline=True)


@pytest.fixture(scope="session")
def nano(nano_artifact: Path) -> max_whisper.Model:
    return max_whisper.load(nano_artifact)


@pytest.fixture(scope="session")
def silero() -> Path:
    """Returns the artifact of Silero VAD, compiled to the user's cache as `vad_filter` does it."""
    return find_detector(None)


@pytest.fixture(scope="session")
def detector(silero: Path) -> max_whisper.VoiceDetector:
    return max_whisper.load_detector(silero)


@pytest.fixture(scope="session")
def max_artifact(home: Path, spec: Path, checkpoint: Path) -> Path:
    """Returns `artifact` with MAX's kernels, as GPU builds have them; compiling its matrix products takes minutes."""
    return max_whisper.build(spec, weights=checkpoint, out=home / "max", kernels="max")


@pytest.fixture(scope="session")
def max_batched(home: Path, spec: Path, checkpoint: Path) -> max_whisper.Model:
    """Returns a bfloat16 model for three windows at once with MAX's kernels, and the weights of `model`."""
    options = {"kernels": "max", "dtype": "bfloat16", "batch": 3}
    return max_whisper.load(max_whisper.build(spec, weights=checkpoint, out=home / "max-batched", **options))


@pytest.fixture(scope="session")
def cuda_artifact(home: Path) -> Path:
    """Returns the thinnest artifact, built for a GPU."""
    (home / "cuda").mkdir()
    spec, checkpoint, _ = write_thin(home / "cuda")
    return max_whisper.build(spec, weights=checkpoint, out=home / "cuda" / "artifact", target="cuda:sm_90a")
