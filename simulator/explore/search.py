"""Searching instead of trying everything: NSGA-II over time, energy and area, with a journal that it goes on from.

Points come from the same axes, are simulated in the same places and kept in the same store as those of a sweep, so that
a point that any sweep has simulated costs nothing. Source: K. Deb et al., A Fast and Elitist Multiobjective Genetic
Algorithm: NSGA-II, IEEE Trans. Evolutionary Computation 6(2), 2002, as optuna.samplers.NSGAIISampler implements it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from simulator.errors import ConfigError, InvalidValueError, MissingDependencyError
from simulator.explore.axes import Axis, Value
from simulator.explore.plan import Plan, Point
from simulator.explore.records import Record
from simulator.explore.runner import Where
from simulator.explore.store import Store
from simulator.explore.sweep import Done, complete
from simulator.explore.table import SIZES, objectives
from simulator.explore.work import Task

__all__ = ["search"]

POPULATION = 32


def search(
    plan: Plan,
    store: Store,
    trials: int,
    where: Where | None = None,
    scope: str = "attention",
    progress: Callable[[int, int], None] | None = None,
) -> Done:
    """Return the records of the points that `trials` trials chose; a point that was chosen twice is there once.

    The journal lies beside the points of `store`. A search that was stopped goes on from there: `trials` counts those
    of the journal. Trials of a generation are simulated together.

    Raises
    ------
    MissingDependencyError: Optuna is not installed. InvalidValueError: several models or sizes of the input, as
    less work is not a better design. ConfigError: the journal is of a search over other values. As `sweep`.
    """
    if len(plan.models) > 1:
        raise InvalidValueError("a search is for one model", where="MODEL", expected="one model")
    if sizes := [axis.key for axis in plan.axes if axis.key in SIZES]:
        raise InvalidValueError(f"less work is not a better design: {sizes[0]} is to stay", where=f"--vary {sizes[0]}")
    where = where or Where()
    study = _study(plan, store, scope)
    known, simulated, records = set(store.records), 0, dict[str, Record]()
    while len(_finished(study)) < trials:
        count = min(max(POPULATION // 2, where.jobs), trials - len(_finished(study)))
        asked = [study.ask() for _ in range(count)]
        points = [_point(plan, trial) for trial in asked]
        prepared = [_prepared(plan, point) for point in points]
        simulated += complete([task for task in prepared if isinstance(task, Task)], store, where)
        for trial, task in zip(asked, prepared):
            record = store.records[task.key] if isinstance(task, Task) else None
            values = None if record is None else objectives(record, scope)
            if record is not None:
                trial.set_user_attr("key", record.key)
            _tell(study, trial, values)
        if progress is not None:
            progress(len(_finished(study)), trials)
    for trial in _finished(study):
        key = trial.user_attrs.get("key")
        if key in store.records:
            records[key] = store.records[key]
    return Done(tuple(records.values()), sum(key in known for key in records), simulated)


def _prepared(plan: Plan, point: Point) -> Task | None:
    try:
        return plan.task(point)
    except ConfigError:  # a value that the design cannot have
        return None


def _study(plan: Plan, store: Store, scope: str) -> Any:
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise MissingDependencyError(
            "a search needs Optuna", where="--search", hint="pip install 'sparsecore-kernels[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(store.folder / "search.journal")))
    name = _name(plan, scope)
    sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=plan.seed)
    study = optuna.create_study(
        storage=storage, sampler=sampler, study_name=name, directions=["minimize"] * 3, load_if_exists=True
    )
    done = len(study.trials)
    if done:  # a new generator with the old seed would choose the first points again
        study.sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=plan.seed + done)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # was under way when the process ended
    return study


def _name(plan: Plan, scope: str) -> str:
    """Searches over other designs, models, values or scopes share the file, but not the journal's entries."""
    said = repr((plan.models, plan.archs, plan.axes, sorted(map(repr, plan.settings.items())), plan.request))
    said += repr((plan.memory, plan.host, plan.fidelity, plan.seed, plan.iso, scope))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _finished(study: Any) -> list[Any]:
    """Return the trials that have been told, also those without a result; not those that a crash cut short."""
    from optuna.trial import TrialState

    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    return [trial for trial in ended if trial.state == TrialState.COMPLETE or "refused" in trial.user_attrs]


def _point(plan: Plan, trial: Any) -> Point:
    arch = plan.archs[0] if len(plan.archs) == 1 else str(trial.suggest_categorical("arch", list(plan.archs)))
    values = {axis.key: _suggested(trial, arch, axis) for axis in plan.axes_of(arch)}
    return Point(arch, plan.models[0], values)


def _suggested(trial: Any, arch: str, axis: Axis) -> Value:
    """Return one of the values: numbers are neighbours by their order, words are not."""
    name = f"{arch}: {axis.key}"
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in axis.values):
        index = int(trial.suggest_int(name, 0, len(axis.values) - 1))
        return sorted(axis.values, key=float)[index]  # type: ignore[arg-type]
    return axis.values[int(trial.suggest_categorical(name, list(range(len(axis.values)))))]


def _tell(study: Any, trial: Any, values: tuple[float, ...] | None) -> None:
    """Points without a result count as tried; NSGA-II chooses no parents among them."""
    from optuna.trial import TrialState

    if values is None:
        trial.set_user_attr("refused", True)
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, list(values))
