"""Sweeps on a real Dask cluster: a worker is killed, the scheduler is killed, nothing answers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from command import Simulate
from dask_cluster import DaskCluster

from simulator.errors import NamedError
from simulator.explore import Plan, Store, Where, cluster, parse_axis, sweep
from simulator.explore.runner import WorkersLostError

SHORT = "bert-base@sts-b~assumed"


def small_plan() -> Plan:
    axes = (parse_axis("topk.parallelism=1,4,16"), parse_axis("clock_ghz=0.5:1.6:0.1"))
    return Plan((SHORT,), ("spatten",), axes, fidelity="analytical")


def keys_of(store: Store) -> Counter[str]:
    lines = store.path.read_text().splitlines()[1:]
    return Counter(json.loads(line)["key"] for line in lines)


def test_a_sweep_survives_a_worker_and_is_resumed_after_the_scheduler(
    tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "SILENCE_S", 2.0)
    plan = small_plan()
    with DaskCluster(tmp_path, 2) as dask:

        def kill_one(done: int, total: int) -> None:
            assert total == len(plan)
            if done == 6:
                dask.workers[0].kill()

        with Store(tmp_path / "a") as store:
            done = sweep(plan, store, Where(cluster=dask.address), kill_one)
        assert dask.workers[0].wait(10) != 0
        assert (done.simulated, done.taken, done.failed) == (36, 0, 0), dask.logs()
        assert len(keys_of(store)) == 36
        assert set(keys_of(store).values()) == {1}

        def kill_all(done: int, total: int) -> None:
            if done == 6:
                dask.scheduler.kill()

        with Store(tmp_path / "b") as store, pytest.raises(WorkersLostError) as caught:
            sweep(plan, store, Where(cluster=dask.address), kill_all)
        kept = len(keys_of(store))
        assert 6 <= kept < 36
        assert f"{kept} are kept in {store.path}" in str(caught.value)
        assert "the same command goes on" in caught.value.hint
    with Store(tmp_path / "b") as store:
        again = sweep(plan, store, Where(jobs=1))
    assert (again.simulated, again.taken) == (36 - kept, kept)
    assert set(keys_of(store).values()) == {1}
    assert again.records == done.records


def test_nothing_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulate: Simulate) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with Store(tmp_path / "a") as store, pytest.raises(NamedError, match="no Dask scheduler answers"):
        sweep(small_plan(), store, Where(cluster="tcp://127.0.0.1:9"))
    options = ("--vary", "topk.parallelism=1,2", "-q", "-o", tmp_path / "b", "--cluster", "tcp://127.0.0.1:9")
    code, _, err = simulate("sweep", SHORT, *options)
    assert code == 2
    assert "0 are kept in" in err
