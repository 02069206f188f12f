"""Runs every check of the project, prints the time of each part and fails if any part failed.

`make test` calls this; `--full` adds the long sweeps.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cuda_budget

ROOT = Path(__file__).resolve().parent.parent
NOTES: list[str] = []
"""Lines of the summary that are no verdicts."""
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


def call(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> bool:
    """Run one command with its output passed through; True when it succeeded."""
    return (
        subprocess.run([str(c) for c in command], cwd=cwd, env={**os.environ, **(env or {})}, check=False).returncode
        == 0
    )


def lint() -> bool:
    return call(sys.executable, "-m", "ruff", "check", ".")


def types() -> bool:
    return call(sys.executable, "-m", "mypy")


def tests() -> bool:
    return call(sys.executable, "-m", "pytest", "-q", "--durations=15")


def long_tests() -> bool:
    """The random tests again and again: every round draws fresh shapes and values."""
    command = (sys.executable, "-m", "pytest", "-q", "-x", "tests/sparsecore", "tests/simulator")
    return all(call(*command) for _ in range(5))


def large_checkpoint() -> bool:
    """A checkpoint of 4 GB, loaded in a process whose memory is watched."""
    return call(sys.executable, "tools/large_checkpoint.py")


def benchmarks_run() -> bool:
    """Every benchmark once, untimed: they must not rot."""
    return call(sys.executable, "-m", "pytest", "-q", "benchmarks", "--benchmark-disable")


def speed_against_its_record() -> bool:
    """Ratios to torch of a short run; only one that stays below half of this kind of machine's record is a failure."""
    return call(sys.executable, "benchmarks/suite/record.py")


def build_without_cuda() -> bool:
    build = ROOT / "build" / "no-cuda"
    configure = call(
        "cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DSPARSECORE_CUDA=OFF",
        f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11_dir()}",
    )  # fmt: skip
    return configure and call("cmake", "--build", build, "--parallel", "2")


def pybind11_dir() -> str:
    run = subprocess.run([sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def wheel() -> bool:
    """Build the wheel, install it in a new environment and use it outside the source tree."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        if not call(sys.executable, *PIP, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", place, ROOT):
            return False
        (built,) = place.glob("*.whl")
        print(f"{built.name}: {built.stat().st_size / 1e6:.2f} MB")
        if not cuda_is_within_budget(built, place / "plain") or not call(sys.executable, "-m", "venv", place / "env"):
            return False
        python = place / "env" / "bin" / "python"
        lend_packages(python)
        if not call(python, *PIP, "install", "--no-deps", "--no-index", "--force-reinstall", built):
            return False
        shutil.copy(ROOT / "tools" / "use_installed.py", place)
        return call(
            python,
            "use_installed.py",
            cwd=place,
            env={"PYTHONPATH": "", "PATH": f"{python.parent}:{os.environ['PATH']}"},
        )


def cuda_is_within_budget(wheel: Path, scratch: Path) -> bool:
    """Note what CUDA costs; False where the wheel grew by more than it may. Uses what `build_without_cuda` made."""
    if not call("cmake", "--install", ROOT / "build" / "no-cuda", "--strip", "--prefix", scratch):
        return False
    (without,) = (scratch / "sparsecore").glob("_core.*.so")
    grown = max(0, cuda_budget.growth(wheel, without))
    logs = (ROOT / "build").glob(f"cp3{sys.version_info.minor}-*/.ninja_log")
    seconds = sum(cuda_budget.compile_seconds(log) for log in logs)
    NOTES.append(
        f"CUDA: {grown / 1e6:.2f} MB of the wheel, at most {cuda_budget.MOST_GROWTH / 1e6:.0f}; "
        f"{seconds:.0f} s of compilers when they last ran, at most {cuda_budget.MOST_SECONDS}"
    )
    print(NOTES[-1])
    return grown <= cuda_budget.MOST_GROWTH


def confirmed_by_hardware() -> str:
    """How many instructions of the CUDA kernels a GPU has confirmed."""
    count = len(list((ROOT / "tests" / "cuda" / "golden").glob("*.golden")))
    return f"CUDA: {count} golden vectors" if count else "CUDA: no golden vectors; layouts not confirmed by hardware"


def lend_packages(python: Path) -> None:
    """Let the new environment see torch and the rest of this one, but not the project: path lines run no hooks."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    target = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    lent = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    (Path(target) / "lender.pth").write_text("\n".join(lent) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="add the long sweeps and the other Pythons")
    options = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    parts: dict[str, Callable[[], bool]] = {
        "ruff": lint,
        "mypy --strict": types,
        "tests": tests,
        "benchmarks, untimed": benchmarks_run,
        "speed against its record": speed_against_its_record,
        "build without CUDA": build_without_cuda,
        "wheel, installed and used": wheel,
    }
    if options.full:
        parts |= {"long tests": long_tests, "large checkpoint": large_checkpoint, "floor versions": floor_versions}
        parts["other Pythons"] = other_pythons
    results: list[tuple[str, bool, float]] = []
    for name, part in parts.items():
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        results.append((name, part(), time.monotonic() - start))
    print("\n== time by part")
    for name, passed, seconds in results:
        print(f"{seconds:7.1f} s  {'passed' if passed else 'FAILED'}  {name}")
    for note in (*NOTES, confirmed_by_hardware()):
        print(note)
    failed = sum(not passed for _, passed, _ in results)
    print(f"{sum(s for _, _, s in results):7.1f} s  in all\n")
    print(f"{len(results) - failed} passed, {failed} failed")
    return int(failed > 0)


def other_pythons() -> bool:
    """Build, install and use the package with every other supported Python found; torch only where it is there."""
    ok = True
    for minor in (10, 11, 12, 13):
        python = find_python(minor)
        if minor == sys.version_info.minor or python is None:
            print(f"Python 3.{minor}: {'this one' if minor == sys.version_info.minor else 'not found'}")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            env = Path(scratch) / "env"
            done = (
                call(python, "-m", "venv", env)
                and call(env / "bin" / "python", *PIP, "install", ROOT)
                and call(env / "bin" / "python", ROOT / "tools" / "use_installed.py", "--without-torch", cwd=env)
            )
        print(f"Python 3.{minor}: {'passed' if done else 'FAILED'} (simulator and errors; torch not installed)")
        ok &= done
    return ok


def find_python(minor: int) -> str | None:
    """An interpreter of this minor version that can make environments: on the PATH, or one of pyenv's."""
    name = f"python3.{minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (shutil.which(name), *sorted(pyenv.glob(f"3.{minor}.*/bin/{name}"))):
        if candidate is not None:
            probe = [str(candidate), "-c", "import venv, ensurepip"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return str(candidate)
    return None


def floor_versions() -> bool:
    """The simulator's tests with the oldest release of every dependency that pyproject.toml admits."""
    text = (ROOT / "pyproject.toml").read_text()
    floors = re.findall(r'^    "([a-z0-9-]+>=[0-9.]+)",$', text[text.index("\ndependencies = [") :].split("]")[0], re.M)
    with tempfile.TemporaryDirectory() as scratch:
        env = Path(scratch) / "env"
        python = env / "bin" / "python"
        return (
            call(sys.executable, "-m", "venv", env)
            and call(python, *PIP, "install", ROOT, *(floor.replace(">=", "==") for floor in floors))
            and call(python, *PIP, "install", "pytest", "hypothesis", "jsonschema")
            and call(python, "-m", "pytest", "-q", ROOT / "tests" / "simulator", "-p", "no:cacheprovider", cwd=env)
        )


if __name__ == "__main__":
    sys.exit(main())
