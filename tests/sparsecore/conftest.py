"""Fixtures of the kernel tests: every instruction set of the machine, every dtype of a weight."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from weights import DTYPES, ISAS

from sparsecore.native import core


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once for each instruction set of the machine."""
    core.set_isa(request.param)
    yield request.param
    core.set_isa("auto")


@pytest.fixture(params=DTYPES, ids=["f32", "f16", "bf16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param
