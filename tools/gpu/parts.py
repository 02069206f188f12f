"""The parts of `make gpu`, on a GPU or by the emulator."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from process import Deadline, Ended, run

__all__ = ["PARTS", "Part", "Setting"]

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "cuda" / "golden"
RESULTS = ROOT / "benchmarks" / "results"
_NO_TESTS = 5
"""Exit status of pytest where a file has no test that was asked for."""
_CASE_S = 10.0
"""For one golden vector."""
_LOST = 3
"""Exit status of the benchmarks where a kernel failed and nothing more can be run in that process."""
_SILENT_S = 45.0
"""No case takes so long without a word: its kernel hangs."""
_LAST_S = 20.0
"""For the last case that starts in time."""
_WRITTEN_S = 15.0
"""For a process that only writes the results of what was done."""
_PROCESSES = 4
"""Of tests on one GPU at the same time."""
_SLOWER = 6
"""How much longer parts may take by the emulator, on any machine."""


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

    @property
    def slower(self) -> int:
        """By what all limits are multiplied."""
        return 1 if self.gpu else _SLOWER

    @property
    def replayer(self) -> Path:
        """The file that says where the program is that replays golden vectors by the emulator."""
        return self.folder / "replayer"


@dataclass(frozen=True, slots=True)
class Part:
    """run(setting, key of the sources, deadline) -> passed. limit_s: on an H200 with 16 cores."""

    name: str
    limit_s: float
    sources: tuple[str, ...]
    run: Callable[[Setting, str, Deadline], bool]
    gpu_only: bool = False


def _python(setting: Setting, *words: str | Path, by: Deadline, silent_s: float | None = None) -> Ended:
    """Run this interpreter on the source tree."""
    ended = run((sys.executable, *words), cwd=ROOT, limit_s=by.left, silent_s=silent_s, PYTHONPATH=str(ROOT),
                PYTHONUNBUFFERED="1", CMAKE_BUILD_PARALLEL_LEVEL=str(setting.jobs))  # fmt: skip
    if not ended.passed:
        print(ended.why)
    return ended


def build(setting: Setting, key: str, deadline: Deadline) -> bool:
    """The extension beside its sources, by whatever this interpreter has, and what tests run by the emulator.

    Both at once: the last kernel that nvcc compiles leaves most cores idle. No index is asked for anything.
    """
    setting.folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        emulated = pool.submit(_build_emulated, setting, deadline)
        kernels = setting.gpu is None or _build_kernels(setting, deadline)
        return emulated.result() and kernels


def _build_emulated(setting: Setting, deadline: Deadline) -> bool:
    """The module of the tests, and the program that replays golden vectors: beside a GPU fast, without sanitizers."""
    sanitizers = "address,undefined" if setting.gpu is None else ""
    return _python(setting, "tools/gpu/emulated.py", sanitizers, setting.replayer, by=deadline).passed


def _build_kernels(setting: Setting, deadline: Deadline) -> bool:
    """The extension with the CUDA kernels, and the programs for the GPU."""
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
        ended = run(step, cwd=ROOT, limit_s=deadline.left)
        if not ended.passed:
            print(f"{' '.join(map(str, step[:2]))}: {ended.why}")
            return False
    return _built_is_found(setting, deadline)


def _built_is_found(setting: Setting, deadline: Deadline) -> bool:
    """Another build of the package in this interpreter would be measured in place of the one just made."""
    code = (
        "from sparsecore.native import core; from pathlib import Path; import sys; info = core.cuda_info(); "
        "print(core.__file__, info); ours = Path(core.__file__).parent == Path('sparsecore').resolve(); "
        "sys.exit(not (ours and info['available']))"
    )
    if _python(setting, "-c", code, by=deadline).passed:
        return True
    print("expected this build, and a GPU that it can use; give PYTHON= an interpreter without sparsecore")
    return False


def test(setting: Setting, key: str, deadline: Deadline) -> bool:
    """The tests of the CUDA back end on the device; `make test` has those that need none: faults, the compile gate.

    Each file has a process of its own: a kernel that fails or hangs takes no other file's tests with it.
    """
    without = {f"test_{name}.py" for name in ("kernel_faults", "compile_gate", "golden")}
    files = [path for path in sorted((ROOT / "tests" / "cuda").glob("test_*.py")) if path.name not in without]
    chosen: list[str] = []
    if setting.short:
        files, chosen = [path for path in files if path.name == "test_nm_kernels.py"], ["-k", "emulated_device"]

    def passes(path: Path) -> bool:
        words = ("-m", "pytest", "-v", "--no-header", "-p", "no:cacheprovider", path.relative_to(ROOT), *chosen)
        ended = _python(setting, *words, by=deadline, silent_s=60.0 * setting.slower)
        passed = ended.code in (0, _NO_TESTS)
        if not passed:
            print(f"FAILED: {path.relative_to(ROOT)}: {ended.why}")
        return passed

    with ThreadPoolExecutor(_PROCESSES if setting.gpu else 1) as pool:
        return all(list(pool.map(passes, files)))


def golden(setting: Setting, key: str, deadline: Deadline) -> bool:
    """Golden vectors: recorded on the GPU, replayed there and by the emulator. The emulator's own are not kept."""
    folder = setting.folder / "golden"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    emulator = Path(setting.replayer.read_text())
    recorder = emulator if setting.gpu is None else setting.binaries / "sparsecore_golden"
    complete = _record(recorder, folder, deadline)
    if setting.gpu is not None:
        for path in folder.glob("*.golden"):
            shutil.copy(path, GOLDEN)
        print(f"golden vectors are in {GOLDEN.relative_to(ROOT)}")
    replays = [run((program, "replay", folder), cwd=ROOT, limit_s=deadline.left) for program in {recorder, emulator}]
    return complete and all(replay.passed for replay in replays)


def _record(program: Path, folder: Path, deadline: Deadline) -> bool:
    """Record in one process; where that does not get to the end, every missing case in one of its own."""
    words = (program, "record", folder, _driver(), datetime.date.today().isoformat())
    if run(words, cwd=ROOT, limit_s=deadline.left / 3).passed:
        return True
    listed = subprocess.run([program, "list"], capture_output=True, text=True, check=False).stdout.split()
    missing = [name for name in listed if not (folder / f"{name}.golden").exists()]
    within = deadline.before(deadline.left / 2)  # the rest is for the replays
    ended = {name: run((*words, name), cwd=ROOT, limit_s=min(_CASE_S, within.left)) for name in missing}
    for name, one in ended.items():
        if not one.passed:
            print(f"no golden vector: {name}: {one.why}")
    return not missing or all(one.passed for one in ended.values())


def _driver() -> str:
    """Version of the driver; "unknown" where nvidia-smi does not tell."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return (
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
            .stdout.splitlines()[0]
            .strip()
        )
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def bench(setting: Setting, key: str, deadline: Deadline) -> bool:
    """The benchmarks, case by case: one that fails or hangs is noted, and the others follow in a new process."""
    kept = setting.folder / "cases" / key
    words: list[str | Path] = ["benchmarks/gpu", "--kept", kept, "--only", setting.only]
    if setting.gpu is None:
        return _python(setting, *words, "--emulate", *(["--first"] if setting.short else []), by=deadline).passed
    words += ["--ceiling", setting.binaries / "sparsecore_ceiling", "--results", RESULTS, "--driver", _driver()]
    cases = deadline.before(_WRITTEN_S)
    while True:
        budget = max(0.0, cases.left - _LAST_S)
        ended = _python(setting, *words, "--budget", str(budget), by=cases, silent_s=_SILENT_S)
        died = ended.silent or (ended.code is not None and ended.code < 0)
        again = ended.code == _LOST or (died and _note_dead(kept, ended.why))
        if not again or cases.left < _LAST_S:
            break
    if ended.code is None or ended.code == _LOST:  # it ended before it could write the results of what was done
        _python(setting, *words, "--budget", "0", by=Deadline.within(_WRITTEN_S))
    return ended.passed


def _note_dead(kept: Path, why: str) -> bool:
    """Write the case that was under way as failed, so that it is not run again; whether there was one."""
    under_way = kept / "under-way"
    if not under_way.exists():
        return False
    case = json.loads(under_way.read_text())
    (kept / f"{case['key']}.json").write_text(json.dumps({**case, "failed": f"its process: {why}"}) + "\n")
    under_way.unlink()
    return True


def table(setting: Setting, key: str, deadline: Deadline) -> bool:
    """The dispatch table of this GPU, into sparsecore/data."""
    words = ("benchmarks/gpu/dispatch_table.py", "--kept", setting.folder / "table" / key)
    return _python(setting, *words, by=deadline, silent_s=_SILENT_S).passed


_KERNELS = ("csrc", "cmake", "CMakeLists.txt", "tools/gpu")
_PACKAGE = (*_KERNELS, "sparsecore")
PARTS = (
    Part("build", 240, _KERNELS, build),
    Part("test", 110, (*_PACKAGE, "tests/cuda"), test),
    Part("golden", 40, _KERNELS, golden),
    Part("bench", 210, (*_PACKAGE, "benchmarks/gpu"), bench),
    Part("table", 80, (*_PACKAGE, "benchmarks/gpu"), table, gpu_only=True),
)
