"""The server that the tests of tests/serve share, and recordings for it: a plugin of pytest, which conftest.py names.

It has the models `nano`, which understands words, `multilingual` and `english`, which are small and have random
weights. Tests that need other options, or end a server, start one of their own by `support.server.server`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from max_whisper import load_audio
from support.server import Server, server
from support.sounds import write_wav

COMMANDS = Path(__file__).resolve().parents[2] / "examples" / "audio" / "commands.flac"


@pytest.fixture(scope="session")
def model_options(nano_artifact: Path, artifact: Path, english_artifact: Path) -> list[str]:
    """Returns the options that name the models, all of which are built."""
    folders = {"nano": nano_artifact, "multilingual": artifact, "english": english_artifact}
    return [part for name, folder in folders.items() for part in ("--model", f"{name}={folder}")]


@pytest.fixture(scope="session")
def shared(model_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Returns a server with all models; tests must not end it."""
    with server(tmp_path_factory.mktemp("serve"), *model_options, "--wyoming", "0") as running:
        yield running


@pytest.fixture(scope="session")
def client(shared: Server) -> openai.OpenAI:
    return shared.client()


@pytest.fixture(scope="session")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns two windows of COMMANDS: random weights take seconds for each, as none of their texts is believed."""
    return write_wav(tmp_path_factory.mktemp("brief") / "brief.wav", load_audio(COMMANDS)[: 3 * 16000])


@pytest.fixture(scope="session")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a recording of an hour, which takes the small models many seconds."""
    commands = load_audio(COMMANDS)
    hour = np.tile(commands, 3600 * 16000 // len(commands) + 1)[: 3600 * 16000]
    return write_wav(tmp_path_factory.mktemp("long") / "long.wav", hour)
