"""Points on a running Dask cluster, through joblib's own back end for it.

What a worker that dies had under way is given to another one by the scheduler. A scheduler that dies takes the results
that it still had with it, and joblib would wait for them for ever: so it waits in a thread, and the connection is
watched beside it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from simulator.errors import ConfigError, MissingDependencyError
from simulator.explore.records import Record
from simulator.explore.runner import WorkersLostError
from simulator.explore.work import Task, code_version, simulate

__all__ = ["run_on_cluster"]

CONNECT_S = 10.0  # for the first connection
SILENCE_S = 10.0  # without a connection, after which the cluster counts as gone
NO_WORKER_S = 30.0  # without any worker
POLL_S = 0.5
AHEAD = 64  # tasks that the scheduler has at least, for workers that come later


def run_on_cluster(tasks: Sequence[Task], address: str) -> Iterator[Record]:
    """Yield the record of each task, in any order.

    Raises
    ------
    MissingDependencyError: Dask is not installed. ConfigError: workers have another version of this package.
    WorkersLostError: no scheduler answers at `address`, or it does not any more, or there are no workers.
    """
    client = _connected(address)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is lost is said once, by the error
    try:
        watch = _Watch(client, address)
        watch.wait_for_workers()
        _require_equal_versions(client, address)
        yield from _watched(tasks, client, watch)
    finally:
        with suppress(OSError, TimeoutError):
            client.close(timeout=2)


def _connected(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError(
            "a cluster needs Dask", where=f"--cluster {address}", hint="pip install 'sparsecore-kernels[cluster]'"
        ) from error
    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise WorkersLostError(
            f"no Dask scheduler answers: {error}",
            where=f"--cluster {address}",
            expected="the address that dask scheduler prints, such as tcp://host:8786",
        ) from error


def _require_equal_versions(client: Any, address: str) -> None:
    """Keys hold this process's version: results of another one must not be stored under them."""
    ours = code_version()
    for worker, theirs in client.run(code_version, on_error="return").items():
        if theirs != ours:
            said = f"version {theirs}" if isinstance(theirs, str) else f"no simulator ({theirs!r})"
            raise ConfigError(
                f"the worker {worker} has {said}", where=f"--cluster {address}", expected=f"version {ours}, as here"
            )


class _Watch:
    """Notices that scheduler or workers are gone; `check` raises once that has lasted."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._connected = self._staffed = time.monotonic()

    def check(self) -> None:
        now = time.monotonic()
        if self._client.status == "running":
            self._connected = now
            if self._workers():
                self._staffed = now
        if now - self._connected > SILENCE_S or self._client.status == "closed":
            raise WorkersLostError("the cluster vanished: its scheduler does not answer", where=self._where)
        if now - self._staffed > NO_WORKER_S:
            raise WorkersLostError("the cluster has no workers left", where=self._where)

    def explain(self, error: BaseException) -> None:
        """Raise WorkersLostError for what comes from Dask itself: tasks that were cancelled, workers killed."""
        if type(error).__module__.partition(".")[0] == "distributed":
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WorkersLostError(f"the cluster vanished: {first}", where=self._where) from error

    def wait_for_workers(self) -> None:
        while not self._workers():
            self.check()
            time.sleep(POLL_S)

    def _workers(self) -> int:
        with suppress(OSError, TimeoutError):
            return len(self._client.scheduler_info(n_workers=-1)["workers"])
        return 0

    @property
    def _where(self) -> str:
        return f"--cluster {self._address}"


def _backend(client: Any) -> Any:
    """joblib's back end for Dask; of a cluster with one thread joblib itself would make this process the worker."""
    from joblib._dask import DaskDistributedBackend

    class Cluster(DaskDistributedBackend):  # type: ignore[misc]
        def effective_n_jobs(self, n_jobs: int = -1) -> int:
            return max(2, int(super().effective_n_jobs(n_jobs)))

    return Cluster(client=client)


def _watched(tasks: Sequence[Task], client: Any, watch: _Watch) -> Iterator[Record]:
    done, stop = object(), threading.Event()
    arrived: SimpleQueue[Any] = SimpleQueue()

    def collect() -> None:
        from joblib import Parallel, delayed, parallel_config

        try:
            # One task a message: what a worker had under way when it died is lost, and should be little.
            with parallel_config(_backend(client)):
                ahead = max(AHEAD, 4 * sum(client.ncores().values()))
                pool = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=ahead)
                for record in pool(delayed(simulate)(task) for task in tasks):
                    arrived.put(record)
                    if stop.is_set():
                        return
        except BaseException as error:  # noqa: BLE001 - raised again where the records are waited for
            arrived.put(error)
        else:
            arrived.put(done)

    threading.Thread(target=collect, daemon=True).start()
    try:
        while True:
            try:
                item = arrived.get(timeout=POLL_S)
            except Empty:
                watch.check()
                continue
            if item is done:
                return
            if isinstance(item, BaseException):
                watch.explain(item)
                raise item
            yield item
    finally:
        stop.set()
