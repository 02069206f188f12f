"""Uses an installed sparsecore-kernels the way a user would; run from outside the source tree.

`--without-torch` checks the simulator and the named error of `import sparsecore` instead.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command of this interpreter's environment."""
    command = Path(sys.executable).parent / "simulate"
    return subprocess.run([str(command), *arguments], capture_output=True, text=True, check=False)


def check_simulator() -> None:
    """A built-in model on two designs, as JSON; a bad name exits with 2 and no traceback."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        run = simulate("--arch", "spatten", "--seq-len", "64", "bert-base", "--json", str(out))
        assert run.returncode == 0, run.stderr
        assert "ASSUMED" in run.stdout.splitlines()[0]
        assert json.loads(out.read_text())
        wrong = simulate("--arch", "spaten", "bert-base")
        assert wrong.returncode == 2, wrong.returncode
        assert "spatten" in wrong.stderr, wrong.stderr
        assert "Traceback" not in wrong.stderr


def check_without_torch() -> None:
    """Without torch the kernels say which command installs it."""
    try:
        import sparsecore

        sparsecore.sparsify  # noqa: B018 - the attribute access is the check
    except ImportError as error:
        assert "pip install" in str(error), error
    else:
        raise AssertionError("torch is not installed and nothing said so")


def check_kernels() -> None:
    """Prune, pack, run, save, load."""
    import torch

    import sparsecore as sc

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 32))
    sc.prune.one_shot(model, "magnitude", pattern="2:4")
    x = torch.randn(5, 64)
    expected = model(x)
    packed = sc.nn.SparseLinear.from_dense(model[0], sc.NM(2, 4))
    torch.testing.assert_close(packed(x), model[0](x))
    model[0] = packed
    torch.testing.assert_close(model(x), expected)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.safetensors"
        sc.save(model, path)
        fresh = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 32))
        sc.load(path, into=fresh)
        torch.testing.assert_close(fresh(x), expected)
    print(f"sparsecore {sc.__version__} on {sc.runtime_isa()}, torch {torch.__version__}")


if __name__ == "__main__":
    check_simulator()
    if "--without-torch" in sys.argv:
        check_without_torch()
    else:
        check_kernels()
    import simulator

    print("installed package works:", Path(simulator.__file__).parent)
