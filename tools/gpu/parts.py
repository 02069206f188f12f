"""The parts of `make gpu`, on a GPU or by the emulator."""

from __future__ import annotations

import datetime
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from process import Ended, run

__all__ = ["PARTS", "Part", "Setting"]

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "cuda" / "golden"
RESULTS = ROOT / "benchmarks" / "results"
_LOST = 3
"""Exit status of the benchmarks where a kernel failed and nothing more can be run in that process."""
_SILENT_S = 45.0
"""No case takes so long without a word: its kernel hangs."""
_LAST_S = 20.0
"""For the last case that starts in time."""


@dataclass(frozen=True, slots=True)
class Setting:
    """gpu: the name of the GPU, None for the emulator. folder: for everything that is made. short: as little as shows
    that the command works. only: benchmarks whose name contains this text."""

    gpu: str | None
    folder: Path
    jobs: int
    short: bool = False
    only: str = ""

    @property
    def binaries(self) -> Path:
        """Programs of csrc/cuda in the build for the GPU."""
        return self.folder / "cmake" / "csrc" / "cuda"


@dataclass(frozen=True, slots=True)
class Part:
    """run(setting, key of the sources) -> passed. limit_s: on an H200 with 16 cores; all together under 10 minutes."""

    name: str
    limit_s: float
    sources: tuple[str, ...]
    run: Callable[[Setting, str, float], bool]
    gpu_only: bool = False


def _python(setting: Setting, *words: str | Path, limit_s: float, silent_s: float | None = None) -> Ended:
    """Run this interpreter on the source tree."""
    ended = run((sys.executable, *words), cwd=ROOT, limit_s=limit_s, silent_s=silent_s, PYTHONPATH=str(ROOT),
                PYTHONUNBUFFERED="1", CMAKE_BUILD_PARALLEL_LEVEL=str(setting.jobs))  # fmt: skip
    if not ended.passed:
        print(ended.why)
    return ended


def build(setting: Setting, key: str, limit_s: float) -> bool:
    """The extension beside its sources, by whatever this interpreter has; no index is asked for anything."""
    if setting.gpu is None:
        print(f"built for the emulator: {_module()}, {_replayer(setting)}")
        return True
    where = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=False
    )
    if where.returncode != 0 or shutil.which("cmake") is None:
        print(f"missing: {'cmake' if where.returncode == 0 else f'pybind11 for {sys.executable}'}")
        return False
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    tree = setting.folder / "cmake"
    targets = ("_core", "_sim", "sparsecore_golden", "sparsecore_ceiling")
    steps = (
        ("cmake", "-S", ROOT, "-B", tree, *generator, "-DCMAKE_BUILD_TYPE=Release", "-DSPARSECORE_CUDA=ON",
         f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={where.stdout.strip()}"),
        ("cmake", "--build", tree, "--parallel", str(setting.jobs), "--target", *targets),
        ("cmake", "--install", tree, "--prefix", ROOT),
    )  # fmt: skip
    for step in steps:
        ended = run(step, cwd=ROOT, limit_s=limit_s)
        if not ended.passed:
            print(f"{' '.join(map(str, step[:2]))}: {ended.why}")
            return False
    return _built_is_found(limit_s, setting)


def _built_is_found(limit_s: float, setting: Setting) -> bool:
    """Another build of the package in this interpreter would be measured in place of the one just made."""
    code = (
        "from sparsecore.native import core; from pathlib import Path; import sys; info = core.cuda_info(); "
        "print(core.__file__, info); ours = Path(core.__file__).parent == Path('sparsecore').resolve(); "
        "sys.exit(not (ours and info['available']))"
    )
    if _python(setting, "-c", code, limit_s=limit_s).passed:
        return True
    print("expected this build, and a GPU that it can use; give PYTHON= an interpreter without sparsecore")
    return False


def _module() -> Path:
    """The module of the CUDA kernels on the emulator."""
    return _cpp_build().build_module("_cuda_emulated")


def _replayer(setting: Setting) -> Path:
    """The program that replays golden vectors by the emulator; beside a GPU without sanitizers, for their time."""
    sanitizers = "address,undefined" if setting.gpu is None else ""
    return _cpp_build().build(sanitizers, "sparsecore_golden_emulated")


def _cpp_build() -> Any:
    """What builds for the tests."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    return importlib.import_module("cpp_build")


def test(setting: Setting, key: str, limit_s: float) -> bool:
    """The tests of the CUDA back end on the device; `make test` has those that need none: faults, the compile gate."""
    chosen = ["tests/cuda/test_nm_kernels.py", "-k", "emulated_device"] if setting.short else ["tests/cuda"]
    without = [
        f"--ignore=tests/cuda/test_{name}.py" for name in ("kernel_faults", "compile_gate", "golden", "gpu_command")
    ]
    words = ("-m", "pytest", "-v", "--no-header", "-p", "no:cacheprovider", *chosen, *without)
    return _python(setting, *words, limit_s=limit_s, silent_s=60.0).passed


def golden(setting: Setting, key: str, limit_s: float) -> bool:
    """Golden vectors: recorded on the GPU, replayed there and by the emulator. The emulator's own are not kept."""
    folder = setting.folder / "golden"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    emulator = _replayer(setting)
    recorder = emulator if setting.gpu is None else setting.binaries / "sparsecore_golden"
    complete = _record(recorder, folder, limit_s)
    same = [run((program, "replay", folder), cwd=ROOT, limit_s=limit_s).passed for program in {recorder, emulator}]
    if setting.gpu is not None:
        for path in folder.glob("*.golden"):
            shutil.copy(path, GOLDEN)
        print(f"golden vectors are in {GOLDEN.relative_to(ROOT)}")
    return complete and all(same)


def _record(program: Path, folder: Path, limit_s: float) -> bool:
    """Record in one process; where that does not get to the end, every missing case in one of its own."""
    words = (program, "record", folder, _driver(), datetime.date.today().isoformat())
    if run(words, cwd=ROOT, limit_s=limit_s / 2).passed:
        return True
    listed = subprocess.run([program, "list"], capture_output=True, text=True, check=False).stdout.split()
    ended = {
        name: run((*words, name), cwd=ROOT, limit_s=10) for name in listed if not (folder / f"{name}.golden").exists()
    }
    for name, one in ended.items():
        if not one.passed:
            print(f"no golden vector: {name}: {one.why}")
    return all(one.passed for one in ended.values())


def _driver() -> str:
    """Version of the driver; "unknown" where nvidia-smi does not tell."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def bench(setting: Setting, key: str, limit_s: float) -> bool:
    """The benchmarks, case by case: one that fails or hangs is noted, and the others follow in a new process."""
    kept = setting.folder / "cases" / key
    words: list[str | Path] = ["benchmarks/gpu", "--kept", kept, "--only", setting.only]
    if setting.gpu is None:
        return _python(setting, *words, "--emulate", *(["--first"] if setting.short else []), limit_s=limit_s).passed
    words += ["--ceiling", setting.binaries / "sparsecore_ceiling", "--results", RESULTS, "--driver", _driver()]
    while True:
        ended = _python(setting, *words, "--budget", str(limit_s), limit_s=limit_s + _LAST_S, silent_s=_SILENT_S)
        limit_s -= ended.seconds
        again = ended.code == _LOST or (ended.silent and _note_hung(kept))
        if not again or limit_s <= 0:
            break
    if ended.code is None:  # killed before it could write the results of what was done
        _python(setting, *words, "--budget", "0", limit_s=_LAST_S)
    return ended.passed


def _note_hung(kept: Path) -> bool:
    """Write the case that was under way as failed, so that it is not run again; whether there was one."""
    under_way = kept / "under-way"
    if not under_way.exists():
        return False
    case = json.loads(under_way.read_text())
    (kept / f"{case['key']}.json").write_text(json.dumps({**case, "failed": "its kernel did not end"}) + "\n")
    under_way.unlink()
    return True


def table(setting: Setting, key: str, limit_s: float) -> bool:
    """The dispatch table of this GPU, into sparsecore/data."""
    return _python(setting, "benchmarks/gpu/dispatch_table.py", limit_s=limit_s).passed


_KERNELS = ("csrc", "cmake", "CMakeLists.txt", "tools/gpu")
_PACKAGE = (*_KERNELS, "sparsecore")
PARTS = (
    Part("build", 150, _KERNELS, build),
    Part("test", 110, (*_PACKAGE, "tests/cuda"), test),
    Part("golden", 40, _KERNELS, golden),
    Part("bench", 210, (*_PACKAGE, "benchmarks/gpu"), bench),
    Part("table", 80, (*_PACKAGE, "benchmarks/gpu"), table, gpu_only=True),
)
