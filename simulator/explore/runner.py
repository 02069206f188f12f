"""Where points are simulated: in this process, in several, or on a Dask cluster, each through joblib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from simulator.errors import InvalidValueError, NamedError
from simulator.explore.records import Record
from simulator.explore.work import Task, simulate

__all__ = ["Where", "WorkersLostError", "run_tasks"]


class WorkersLostError(NamedError, RuntimeError):
    """The processes or the cluster that simulated a sweep are gone."""


@dataclass(frozen=True, slots=True)
class Where:
    """jobs: processes on this machine. cluster: the address of a Dask scheduler instead, such as tcp://host:8786."""

    jobs: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InvalidValueError(f"{self.jobs} processes", where="--jobs", expected="1 or more")


def run_tasks(tasks: Sequence[Task], where: Where) -> Iterator[Record]:
    """Yield the record of each task as soon as it is there, in any order.

    Raises
    ------
    WorkersLostError: a process died, or the cluster cannot be reached any more.
    """
    if where.cluster is not None:
        from simulator.explore.cluster import run_on_cluster

        yield from run_on_cluster(tasks, where.cluster)
    elif where.jobs == 1 or len(tasks) == 1:
        yield from map(simulate, tasks)
    else:
        yield from _in_processes(tasks, where.jobs)


def _in_processes(tasks: Sequence[Task], jobs: int) -> Iterator[Record]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # Points take long beside a message: one at a time keeps all processes busy to the end.
    ways: dict[str, Any] = {"backend": "loky", "return_as": "generator_unordered", "batch_size": 1}
    pool = Parallel(n_jobs=min(jobs, len(tasks)), pre_dispatch="4*n_jobs", **ways)
    try:
        with closing(pool(delayed(simulate)(task) for task in tasks)) as records:
            yield from records
    except TerminatedWorkerError as error:
        raise WorkersLostError(
            "a process that simulated points was killed",
            where=f"--jobs {jobs}",
            hint="fewer jobs, if the memory was full",
        ) from error
