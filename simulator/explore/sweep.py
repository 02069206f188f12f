"""Running a plan: what is stored is taken, the rest is simulated and stored as it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.errors import NamedError
from simulator.explore.plan import Plan
from simulator.explore.records import Record
from simulator.explore.runner import Where, WorkersLostError, run_tasks
from simulator.explore.store import Store
from simulator.explore.work import Task

__all__ = ["Done", "complete", "sweep"]


@dataclass(frozen=True, slots=True)
class Done:
    """The records of all points in the order of the plan, and how many of them were stored before."""

    records: tuple[Record, ...]
    taken: int
    simulated: int

    @property
    def failed(self) -> int:
        """How many points have an error instead of a result."""
        return sum(record.metrics is None for record in self.records)


def sweep(
    plan: Plan, store: Store, where: Where | None = None, progress: Callable[[int, int], None] | None = None
) -> Done:
    """Return the record of every point of `plan`; none is simulated that `store` has.

    Parameters
    ----------
    progress: called with points done and points in all.

    Raises
    ------
    As `Plan.prepared`; WorkersLostError: processes or cluster are gone; it says what was kept and how to go on.
    """
    prepared = plan.prepared()
    before = sum(isinstance(item, Task) and item.key in store.records for item in prepared)
    simulated = complete([item for item in prepared if isinstance(item, Task)], store, where or Where(), progress)
    return Done(tuple(_record(item, store) for item in prepared), before, simulated)


def complete(tasks: list[Task], store: Store, where: Where, progress: Callable[[int, int], None] | None = None) -> int:
    """Simulate and store what `store` does not have yet; return how many that were. Raises as `sweep`."""
    missing = list({task.key: task for task in tasks if task.key not in store.records}.values())
    start = total = len({task.key for task in tasks})
    start -= len(missing)
    done = 0
    if progress is not None:
        progress(start, total)
    try:
        for record in run_tasks(missing, where) if missing else ():
            store.add(record)
            done += 1
            if progress is not None:
                progress(start + done, total)
    except WorkersLostError as error:
        raise _resumable(error, start + done, total, store) from error
    return done


def _resumable(error: NamedError, done: int, total: int, store: Store) -> NamedError:
    hint = "the same command goes on from there, also with --jobs or another --cluster"
    return WorkersLostError(
        error.what,
        where=error.where,
        expected=f"{total} points; {done} are kept in {store.path}",
        hint=f"{error.hint}; {hint}" if error.hint else hint,
    )


def _record(item: Task | Record, store: Store) -> Record:
    """Return the record of a point under its own name: another point may have had the same key."""
    if isinstance(item, Record):
        return item
    found = store.records[item.key]
    return Record(item.key, item.arch, item.model, item.values, found.metrics, found.error)
