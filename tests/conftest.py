"""Shared fixtures: every random test draws from a fresh seed that is printed when the test fails."""

from __future__ import annotations

import os
import secrets

import pytest


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A fresh seed; set SPARSECORE_TEST_SEED to repeat a run. It is shown in the captured output of a failing test."""
    value = int(os.environ.get("SPARSECORE_TEST_SEED", secrets.randbelow(2**31)))
    print(f"{request.node.name}: SPARSECORE_TEST_SEED={value}")
    return value
