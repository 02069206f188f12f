"""The device of the CUDA tests: a GPU where there is one, the emulator otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cpp_build import build_module
from golden_vectors import REPLAYED

from sparsecore.backends.cuda import device as cuda_device
from sparsecore.native import core

# GPUs that take the kernels of 8.0, in what shared memory each has, and Hopper, which has kernels of its own.
ARCHITECTURES = {"sm_80": (80, 86, 89, 100, 120), "sm_90": (90,)}
HAS_GPU = torch.cuda.is_available() and bool(core.cuda_info()["available"])


@pytest.fixture(scope="session")
def emulator() -> Path:
    """File of the compiled CUDA functions on the emulator."""
    return build_module("_cuda_emulated")


def _become(module: Any, capabilities: Sequence[int]) -> None:
    """Make the emulated device one of these architectures, with a schedule; both are drawn at random."""
    module.set_device(random.choice(capabilities), 4)
    module.set_schedule(random.randrange(module.SCHEDULES))


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES)
def emulated(request: pytest.FixtureRequest, emulator: Path) -> Iterator[Any]:
    """The emulated module as a device of either kind; for what no GPU can show."""
    with cuda_device.emulate(emulator) as module:
        _become(module, request.param)
        yield module


@pytest.fixture(params=["gpu"] if HAS_GPU else ARCHITECTURES.values(), ids=["gpu"] if HAS_GPU else ARCHITECTURES)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where the tensors of a test lie: a GPU, or the host with the emulator as a device of either kind.

    Tests call the functions of `sparsecore.backends.cuda`, which take either.
    """
    if request.param == "gpu":
        yield torch.device("cuda")
        return
    with cuda_device.emulate(request.getfixturevalue("emulator")) as module:
        _become(module, request.param)
        yield torch.device("cpu")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how far hardware has confirmed what the emulator makes of the instructions."""
    for line in REPLAYED:
        terminalreporter.section("golden vectors of CUDA instructions")
        terminalreporter.write_line(line)
