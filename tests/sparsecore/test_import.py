"""What importing the package needs, with the missing packages really hidden, in fresh processes."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sparsecore
from sparsecore import _core

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (hidden)", name=name)
        return None

sys.meta_path.insert(0, Hidden())
"""
OPTIONAL = ("pydantic", "plotly", "ruff", "mypy", "typer", "rich", "transformers", "yaml", "jsonschema", "hypothesis")


def run_python(code, hidden=(), **environment):
    root = Path(sparsecore.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(names=set(hidden) or "()") + code],
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_ops_and_modules_work_without_the_optional_packages():
    code = """
import torch
import sparsecore as sc
weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)) * (torch.arange(16) % 4 < 2)
packed = sc.PackedWeight.from_dense(weight, "2:4")
x = torch.randn(3, 16, requires_grad=True)
out = packed.linear(x, torch.zeros(8), "gelu")
out.sum().backward()
assert x.grad.shape == x.shape
assert sc.ops.topk_select(x, 3)[1].shape == (3, 3)
q = torch.randn(1, 2, 3, 8)
assert sc.ops.bitplane_attention(q, q, q, None, 1.0, 8, 4, 0.1)[0].shape == q.shape
assert sc.find_pattern(weight) == sc.NM(2, 4)
dense = torch.nn.Linear(16, 8, bias=False).requires_grad_(False).eval()
layer = sc.nn.SparseLinear.from_dense(dense, sc.Unstructured())
assert layer(x.detach()).shape == (3, 8)
for name in ("cascade", "prune", "io", "sparsify", "report", "save", "load"):
    assert getattr(sc, name) is not None
import sys
assert not {name.partition(".")[0] for name in sys.modules} & HIDDEN
"""
    done = run_python(code.replace("HIDDEN", repr(set(OPTIONAL))), OPTIONAL)
    assert done.returncode == 0, done.stderr


def test_import_without_torch_names_the_command():
    done = run_python("import sparsecore", ("torch",))
    assert done.returncode == 1
    assert "MissingDependencyError: torch is not installed" in done.stderr
    assert 'pip install "sparsecore-kernels[torch]"' in done.stderr


def test_errors_import_without_torch_and_the_rest_still_says_what_to_do():
    code = """
from sparsecore.errors import MissingDependencyError, NamedError
import sparsecore
for name in ("NM", "PackedWeight", "sparsify", "ops"):
    try:
        getattr(sparsecore, name)
    except MissingDependencyError as error:
        assert "sparsecore-kernels[torch]" in str(error)
    else:
        raise SystemExit(f"{name} came without torch")
assert isinstance(sparsecore.errors.ShapeError("x"), NamedError)
"""
    done = run_python(code, ("torch",))
    assert done.returncode == 0, done.stderr


def test_a_missing_compiled_module_is_named():
    code = """
sys.modules["sparsecore._core"] = None
try:
    import sparsecore
except ImportError as error:
    assert type(error).__name__ == "MissingDependencyError"
    assert "sparsecore._core" in str(error)
    assert "pip install" in str(error)
else:
    raise SystemExit("imported without the compiled module")
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_the_public_surface_resolves():
    for name in sparsecore.__all__:
        assert getattr(sparsecore, name) is not None, name
        assert name in dir(sparsecore)
    with pytest.raises(AttributeError, match="no attribute 'sparsifi'"):
        sparsecore.sparsifi  # noqa: B018
    assert set(sparsecore.__all__) == set(sparsecore._PUBLIC)


def test_operators_are_registered_and_functions_not_shadowed_by_their_modules():
    code = """
import torch, sparsecore
assert torch.ops.sparsecore.nm_linear.default._schema.name == "sparsecore::nm_linear"
import sparsecore.sparsify
import sparsecore.measure
import sparsecore as sc
assert callable(sc.sparsify) and callable(sc.measure) and callable(sc.report)
print(sc.runtime_isa())
"""
    done = run_python(code, SPARSECORE_FORCE_ISA="portable")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "portable"


def test_an_unknown_instruction_set_is_named():
    done = run_python("import sparsecore as sc; print(sc.runtime_isa())", SPARSECORE_FORCE_ISA="avx9")
    assert done.returncode == 1
    assert "IsaError" in done.stderr
    assert "portable" in done.stderr


def test_stub_of_the_compiled_module_is_complete():
    """_core.pyi names every function with its arguments, as pybind11 reports them."""
    stub = Path(sparsecore.__file__).with_name("_core.pyi").read_text()
    declared = {
        name: [part.split(":")[0].strip() for part in arguments.split(",") if ":" in part]
        for name, arguments in re.findall(r"^def (\w+)\(([^)]*)\)", re.sub(r"\[[^\]]*\]", "", stub), re.MULTILINE)
    }
    for name, function in inspect.getmembers(_core, callable):
        if inspect.isbuiltin(function):
            signature = (function.__doc__ or "").splitlines()[0]
            assert re.findall(r"[(,] ?(\w+):", re.sub(r"\[[^()]*?\]+", "", signature)) == declared.pop(name), name
    if not _core.cuda_info()["compiled"]:  # then there is nothing to launch
        declared = {name: arguments for name, arguments in declared.items() if not name.startswith("cuda_")}
    assert not declared
