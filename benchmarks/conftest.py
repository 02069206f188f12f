"""The fixture `compare`: times two callables in turn, in one process, and reports the ratio."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from sparsecore.timing import interleaved

Compare = Callable[[Callable[[], object], Callable[[], object]], float]

_ROUNDS = 9
_SECONDS_PER_ROUND = 0.01
_ratios: list[tuple[str, float, float, float]] = []


def _repeated(run: Callable[[], object], calls: int) -> Callable[[], None]:
    def repeat() -> None:
        for _ in range(calls):
            run()

    return repeat


@pytest.fixture
def compare(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Iterator[Compare]:
    """Return compare(dense, ours) -> median time of dense / median time of ours, interleaved."""

    def run(dense: Callable[[], object], ours: Callable[[], object]) -> float:
        once = interleaved({"dense": dense, "ours": ours}, rounds=1)["dense"][0]
        calls = max(1, int(_SECONDS_PER_ROUND / max(once, 1e-7)))
        repeated = {"dense": _repeated(dense, calls), "ours": _repeated(ours, calls)}
        times = interleaved(repeated, rounds=_ROUNDS, warmup=0)
        reference, own = (statistics.median(times[name]) / calls for name in ("dense", "ours"))
        benchmark.extra_info.update(
            ratio_to_dense=reference / own, dense_seconds=reference, threads=torch.get_num_threads()
        )
        benchmark.pedantic(ours, rounds=5, iterations=calls)
        _ratios.append((request.node.name, reference, own, reference / own))
        return reference / own

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the ratios: the absolute times are those of this machine, the ratios travel better."""
    if not _ratios:
        return
    terminalreporter.section(f"ratio to dense, interleaved, {torch.get_num_threads()} thread(s)")
    for name, reference, own, ratio in _ratios:
        terminalreporter.write_line(f"{name:60} {reference * 1e6:10.1f} us {own * 1e6:10.1f} us {ratio:7.2f} x")
