"""Fuzz tests: bounded to two minutes together, or `pytest tests/fuzz --long HOURS` for each test."""

from __future__ import annotations

import pytest
from harness import Budget


@pytest.fixture
def budget(request: pytest.FixtureRequest) -> Budget:
    """The cases of this test."""
    return Budget(request.node.name, request.config.getoption("--seed"), request.config.getoption("--long"))
