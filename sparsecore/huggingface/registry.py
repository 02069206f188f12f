"""Registers the quantizer with transformers as soon as transformers itself is imported, and never imports it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["register_when_imported"]

_AWAITED = "transformers.quantizers.auto"
_REGISTERS = "sparsecore.huggingface.quantizer"


def register_when_imported() -> None:
    """Make `quant_method: sparsecore` known to transformers: now where its registry is loaded, else once it is.

    Calling it again does nothing. Importing transformers takes seconds, so it is left to whoever needs it.
    """
    if _AWAITED in sys.modules:
        importlib.import_module(_REGISTERS)
    elif not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


class _Watcher(MetaPathFinder):
    """Passes the import of the registry on to the other finders and has the quantizer registered after it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Afterwards(spec.loader)
        return spec


class _Afterwards(Loader):
    """The module's own loader, followed by the import of the quantizer."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        importlib.import_module(_REGISTERS)
