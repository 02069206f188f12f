"""Sparse kernels and pruned modules for PyTorch.

    import sparsecore as sc
    layer = sc.nn.SparseLinear.from_dense(linear, sc.NM(2, 4))

Names load on first use. Importing the package registers the operators `torch.ops.sparsecore.*`; without torch it raises
`MissingDependencyError` with the command that installs it. `sparsecore.errors` and the command line load without torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from simulator.errors import MissingDependencyError
from simulator.version import version as _version

if TYPE_CHECKING:
    from sparsecore import arrays as arrays
    from sparsecore import capture as capture
    from sparsecore import cascade as cascade
    from sparsecore import compat as compat
    from sparsecore import errors as errors
    from sparsecore import io as io
    from sparsecore import nn as nn
    from sparsecore import ops as ops
    from sparsecore import patterns as patterns
    from sparsecore import prune as prune
    from sparsecore.compact import compact as compact
    from sparsecore.formats import StoredWeight as StoredWeight
    from sparsecore.formats import find_pattern as find_pattern
    from sparsecore.formats import from_tensors as from_tensors
    from sparsecore.formats import pack as pack
    from sparsecore.io import load as load
    from sparsecore.io import save as save
    from sparsecore.measure import measure as measure
    from sparsecore.native import runtime_isa as runtime_isa
    from sparsecore.packed import PackedWeight as PackedWeight
    from sparsecore.patterns import NM as NM
    from sparsecore.patterns import Block as Block
    from sparsecore.patterns import Pattern as Pattern
    from sparsecore.patterns import Unstructured as Unstructured
    from sparsecore.patterns import parse as parse
    from sparsecore.report import report as report
    from sparsecore.sparsify import sparsify as sparsify

# Public name -> (module, attribute); no attribute: the module itself.
_PUBLIC: dict[str, tuple[str, str | None]] = {
    "NM": ("sparsecore.patterns", "NM"),
    "Block": ("sparsecore.patterns", "Block"),
    "PackedWeight": ("sparsecore.packed", "PackedWeight"),
    "Pattern": ("sparsecore.patterns", "Pattern"),
    "StoredWeight": ("sparsecore.formats", "StoredWeight"),
    "Unstructured": ("sparsecore.patterns", "Unstructured"),
    "arrays": ("sparsecore.arrays", None),
    "capture": ("sparsecore.capture", "capture"),
    "cascade": ("sparsecore.cascade", None),
    "compact": ("sparsecore.compact", "compact"),
    "compat": ("sparsecore.compat", None),
    "errors": ("sparsecore.errors", None),
    "find_pattern": ("sparsecore.formats", "find_pattern"),
    "from_tensors": ("sparsecore.formats", "from_tensors"),
    "io": ("sparsecore.io", None),
    "load": ("sparsecore.io", "load"),
    "measure": ("sparsecore.measure", "measure"),
    "nn": ("sparsecore.nn", None),
    "ops": ("sparsecore.ops", None),
    "pack": ("sparsecore.formats", "pack"),
    "parse": ("sparsecore.patterns", "parse"),
    "patterns": ("sparsecore.patterns", None),
    "prune": ("sparsecore.prune", None),
    "report": ("sparsecore.report", "report"),
    "runtime_isa": ("sparsecore.native", "runtime_isa"),
    "save": ("sparsecore.io", "save"),
    "sparsify": ("sparsecore.sparsify", "sparsify"),
}
__all__ = [
    "Block",
    "NM",
    "PackedWeight",
    "Pattern",
    "StoredWeight",
    "Unstructured",
    "arrays",
    "capture",
    "cascade",
    "compact",
    "compat",
    "errors",
    "find_pattern",
    "from_tensors",
    "io",
    "load",
    "measure",
    "nn",
    "ops",
    "pack",
    "parse",
    "patterns",
    "prune",
    "report",
    "runtime_isa",
    "save",
    "sparsify",
]

_WITHOUT_TORCH = ("sparsecore.errors", "sparsecore.cli", "sparsecore.simulate_reader")


class _Package(ModuleType):
    """Importing the module `sparsecore.sparsify` binds its function, not the module, to the name `sparsify`."""

    def __setattr__(self, name: str, value: Any) -> None:
        attribute = _PUBLIC.get(name, ("", None))[1]
        if attribute is not None and isinstance(value, ModuleType):
            value = getattr(value, attribute)
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sparsecore' has no attribute {name!r}")
    module_name, attribute = _PUBLIC[name]
    if module_name not in _WITHOUT_TORCH:
        _require_torch()
    module = importlib.import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def _require_torch() -> None:
    """Raise MissingDependencyError where torch is not installed."""
    try:
        found = importlib.util.find_spec("torch") is not None
    except ImportError:  # an import hook may refuse by raising
        found = False
    if not found:
        raise MissingDependencyError(
            "torch is not installed",
            where="import sparsecore",
            expected="torch >= 2.10",
            hint='pip install "sparsecore-kernels[torch]"',
        )


def _wanted_import() -> str:
    """Full name of the import that loads this package: `import sparsecore.errors` runs this file first.

    The import system tells a package nothing about the submodule that was asked for, so its outermost frame of this
    import is read; where there is none (another Python implementation) the answer is the package itself.
    """
    wanted = __name__
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if "importlib" not in frame.f_code.co_filename:
            if frame.f_code.co_filename != __file__:
                break
            continue
        name = frame.f_locals.get("name")
        if isinstance(name, str) and name.startswith(__name__):
            wanted = name
    return wanted


sys.modules[__name__].__class__ = _Package
if not _wanted_import().startswith(_WITHOUT_TORCH):
    _require_torch()
    importlib.import_module("sparsecore.ops")
    importlib.import_module("sparsecore.huggingface").register_when_imported()
