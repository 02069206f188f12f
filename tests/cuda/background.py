"""Work for parametrised tests, done on every core while the first of them waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

V = TypeVar("V")
T = TypeVar("T")


@contextmanager
def started(
    request: pytest.FixtureRequest, kind: type[V], name: Callable[[V], str], work: Callable[[V, Path], T]
) -> Iterator[Mapping[str, Future[T]]]:
    """Start `work` with every parameter of `kind` of the chosen tests, and an empty folder; results by `name`."""
    places: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    chosen = [value for item in request.session.items for value in _parameters(item) if isinstance(value, kind)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name(value): pool.submit(work, value, places.mktemp("work")) for value in chosen}
        pool.shutdown(cancel_futures=True)


def _parameters(item: Any) -> list[Any]:
    return list(item.callspec.params.values()) if hasattr(item, "callspec") else []
