"""The description of the machine and its measured limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sparsecore import machine
from sparsecore.errors import InvalidValueError, UnknownNameError
from sparsecore.native import core


def test_description_has_a_key_fit_for_a_file_name() -> None:
    here = machine.describe()
    assert here.cpu
    assert here.isa == core.runtime_isa()
    assert here.threads == torch.get_num_threads()
    assert re.fullmatch(r"[a-z0-9-]+", here.key)
    assert here.key == f"{here.kind}-{here.threads}t"
    assert here.isa in here.kind


def test_description_without_linux_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("_CPUINFO", tmp_path / "none"), ("_CACHES", tmp_path / "none")):
        monkeypatch.setattr(machine, name, value)
    for function in (machine._processor, machine._cache_bytes):
        function.cache_clear()
    here = machine.describe()
    assert here.cpu
    assert here.caches == {}
    for function in (machine._processor, machine._cache_bytes):
        function.cache_clear()


def test_limits_are_measured_once_for_each_instruction_set(isa: str) -> None:
    found = machine.limits(2)
    assert (found.isa, found.threads) == (isa, 2)
    assert found.read > 1e6
    assert found.read_l2 > 1e6
    assert found.peak["fp32"] > 1e6
    assert all(rate > 0 for rate in found.peak.values())
    assert ("amx_bf16" in found.peak) == (isa == "amx")
    assert machine.limits(2) is found
    assert found.compute(torch.bfloat16) >= found.compute(torch.float16) == found.compute(torch.float32)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UnknownNameError, match="no unit"):
        core.limits_peak_rate("fp64", 1, 0.001)
    with pytest.raises(InvalidValueError, match="threads"):
        core.limits_peak_rate("fp32", 0, 0.001)
    with pytest.raises(InvalidValueError, match="size"):
        core.limits_read_rate(0, 1, 0.001)
    with pytest.raises(InvalidValueError, match="seconds"):
        core.limits_read_rate(4096, 1, float("nan"))
