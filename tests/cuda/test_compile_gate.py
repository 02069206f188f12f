"""Every CUDA source compiles, for its architectures: no spills, registers within a budget, the expected instructions.

Each is compiled as a build compiles it, for all architectures of a wheel at once, the host's part included: what only
the host's compiler refuses is found as well. Needs nvcc on PATH; architectures that it does not know are left out. The
instructions are looked for in the machine code where nvdisasm is found, in the PTX otherwise.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from background import started

ROOT = Path(__file__).resolve().parents[2]
NVCC = shutil.which("nvcc")


@dataclass(frozen=True)
class Gate:
    """What a source must come to: the most registers of its kernels, and instructions as (PTX, machine code).

    Machine code of all `architectures` is made from PTX of the first, as cmake/cuda.cmake has it.
    """

    source: str
    architectures: tuple[str, ...]
    registers: int
    instructions: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The source, and the architecture of its PTX."""
        return f"{self.source}-{self.architectures[0]}"


_COPY = ("cp.async.cg", "LDGSTS")
_SPARSE = ("mma.sp", "HMMA.SP")
_TILES = (("mma.sync", "HMMA.16816"), ("ldmatrix", "LDSM"))
_ALL = ("80", "89", "90", "100", "120")
_HOPPER = (("wgmma.mma_async.sp", "HGMMA.SP"), ("cp.async.bulk.tensor.2d", "UTMALDG"), ("mbarrier.try_wait", "SYNCS"))
_INT8 = ("wgmma.mma_async.sp.sync.aligned.m64n256k64.s32.s8.s8", "IGMMA.SP.64x256x64.S8.S8")
_E4M3 = ("wgmma.mma_async.sp.sync.aligned.m64n256k64.f32.e4m3.e4m3", "QGMMA.SP.64x256x64.F32.E4M3.E4M3")
_MULTICAST = ("multicast::cluster", "UTMALDG.2D.MULTICAST")
_BULK = (("wgmma.mma_async.sync", "HGMMA.64x"), ("cp.async.bulk.shared", "UBLKCP"), *_HOPPER[1:])
_DENSE = ("mma.sync", "HMMA.16816")
_ATTENTION = (("wgmma.mma_async.sync", "HGMMA.64x128x16"), ("cp.async.bulk.tensor.4d", "UTMALDG.4D"), _HOPPER[2])
_TOPK = (("redux.sync", "REDUX"), ("atom.shared.add", "ATOMS.POPC.INC"), ("ld.global.v4", "LDG.E.128"))
_BYTES = ("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8", "IMMA.16832.U8.S8")
_SIGNED_BYTES = ("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8", "IMMA.16832.S8.S8")
_SPARSE_BYTES = ("mma.sp", "IMMA.SP.16864.S8.S8")
_FROM_89, _PAIRS = ("89", "90", "100", "120"), ("cvt.rn.f16x2.e4m3x2", "F2FP.F16.E4M3.UNPACK_B")
_PREFETCH = ("prefetch.global.L2", "CCTL")
_WIDE = ("ld.global.v4", "LDG.E.128")
GATES = (
    Gate("attention/decode/launch.cu", _ALL, 96, (("atom.shared.add", "ATOMS"),)),
    Gate("attention/decode/scores_dense.cu", _ALL, 128, (("mma.sync.aligned.m16n8k16", "HMMA.16816"), _PREFETCH)),
    Gate("attention/decode/scores_planes.cu", _ALL, 128, (_BYTES, _PREFETCH, _WIDE)),
    Gate("attention/decode/store.cu", _ALL, 64, ()),
    Gate("attention/decode/values.cu", _ALL, 128, (_PREFETCH, _WIDE)),
    Gate("attention/prefill/launch.cu", _ALL, 128, (("ex2.approx", "MUFU.EX2"), ("atom", "RED"))),
    *(Gate(f"attention/prefill/{t}.cu", _ALL, 255, (_DENSE, _COPY)) for t in ("bf16", "f16")),
    *(Gate(f"attention/prefill/sm90_{t}.cu", ("90a",), 168, _ATTENTION) for t in ("bf16", "f16")),
    Gate("nm_linear/launch.cu", _ALL, 72, (("shfl", "SHFL"),)),
    *(Gate(f"nm_linear/octets/{t}.cu", _ALL, 128, (("mma.sync", "HMMA"), _COPY)) for t in ("bf16", "f16")),
    # 9.0 and 10.0 have products of fp8 in this form as those of fp16: no layer takes them there.
    Gate("nm_linear/int8/e4m3.cu", ("89", "120"), 200, (("mma.sp", "QMMA.SP.16864.F32.E4M3.E4M3"), _COPY)),
    Gate("nm_linear/int8/e4m3.cu", ("80",), 200, ()),
    *(
        Gate(f"nm_linear/{family}/e4m3_decode.cu", architectures, 128, (*products, _COPY, *converted))
        for family, products in (("int8", (_SPARSE,)), ("byte_octets", (_DENSE, _SPARSE)))
        for architectures, converted in ((("80",), ()), (_FROM_89, (_PAIRS,)))
    ),
    Gate("nm_linear/int8/decode.cu", _ALL, 128, (_SPARSE_BYTES, _COPY)),
    Gate("nm_linear/byte_octets/decode.cu", _ALL, 128, (_SIGNED_BYTES, ("shf.l.wrap", "SHF.L.W"), _COPY)),
    Gate("nm_linear/int8/launch.cu", _ALL, 200, (_SPARSE_BYTES, _COPY)),
    *(Gate(f"nm_linear/gathered/{t}.cu", _ALL, 240, (_SPARSE, _COPY)) for t in ("bf16", "f16")),
    *(Gate(f"nm_linear/gathered/sm90_{t}.cu", ("90a",), 168, (_HOPPER[0], _COPY, _HOPPER[2])) for t in ("bf16", "f16")),
    Gate("nm_linear/gathered/transpose.cu", ("90a",), 32, (("ldmatrix", "LDSM.16.MT88.4"), _COPY)),
    *(Gate(f"nm_linear/two_four/{t}.cu", _ALL, 200, (_SPARSE, _COPY)) for t in ("bf16", "f16")),
    *(Gate(f"bitmask_linear/{t}.cu", _ALL, 96, (_TILES[0], _COPY)) for t in ("bf16", "f16")),
    Gate("expand/launch.cu", _ALL, 72, ()),
    *(Gate(f"block_linear/{t}.cu", _ALL, 255, (*_TILES, _COPY)) for t in ("bf16", "f16")),
    *(Gate(f"block_linear/sm90_{t}.cu", ("90a",), 168, _BULK) for t in ("bf16", "f16")),
    Gate("nm_linear/int8/sm90_int8.cu", ("90a",), 168, (_INT8, _MULTICAST, _HOPPER[2])),
    Gate("nm_linear/int8/sm90_e4m3.cu", ("90a",), 168, (_E4M3, _MULTICAST, _HOPPER[2])),
    *(Gate(f"nm_linear/two_four/sm90_{t}.cu", ("90a",), 168, (*_HOPPER, _MULTICAST)) for t in ("bf16", "f16")),
    *(Gate(f"topk/{t}.cu", _ALL, 128, _TOPK) for t in ("f32", "f16", "bf16")),
    Gate("topk/i64.cu", _ALL, 168, (*_TOPK[:2], ("ld.global.v2", "LDG.E.128"))),
    Gate("rows/launch.cu", _ALL, 48, (("ld.global.v4", "LDG.E.128"),)),
    *(
        Gate(f"golden/{t}.cu", ("80",), 32, (p,))
        for t, p in (
            ("bits", ("prmt", "PRMT")),
            ("arithmetic", ("ex2.approx", "MUFU.EX2")),
            ("copy", _COPY),
            ("matrix", _SPARSE),
            ("matrix_int8", _BYTES),
            ("thread", ("popc", "POPC")),
            ("warp", ("shfl", "SHFL")),
        )
    ),
    *(
        Gate(f"golden/sm90_{t}.cu", ("90a",), 168, (p,))
        for t, p in (
            ("barrier", _HOPPER[2]),
            ("cluster", _MULTICAST),
            ("bytes", _INT8),
            ("rows", ("wgmma.mma_async", "HGMMA")),
            ("tile", _HOPPER[1]),
            ("warpgroup", _HOPPER[0]),
        )
    ),
    Gate("ceiling/sm90_rate.cu", ("90a",), 168, _HOPPER),
)


def _nvdisasm() -> str | None:
    wheel = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / "nvdisasm"
    return str(wheel) if wheel.exists() else shutil.which("nvdisasm")


@cache
def _known() -> str:
    assert NVCC is not None
    return subprocess.run([NVCC, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout


def _real(gate: Gate) -> list[str]:
    """Architectures of a source that nvcc knows; it names those with instructions of their own without the letter."""
    return [a for a in gate.architectures if f"sm_{a.rstrip('a')}\n" in _known()]


def _problems(gate: Gate, place: Path) -> list[str]:
    """What is wrong with a source, one line each; nvcc's own words where it refuses."""
    source = ROOT / "csrc" / "cuda" / gate.source
    virtual = gate.architectures[0]
    codes = [f"-gencode=arch=compute_{virtual},code=sm_{real}" for real in _real(gate)]
    options = ["-std=c++17", f"-I{ROOT / 'csrc'}", *codes, "-Xptxas", "-v", "--keep", "--keep-dir", place]
    command = [NVCC, *options, "-c", "-o", place / "object.o", source]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [done.stderr]
    found = [said for architecture in _real(gate) for said in _missing(gate, architecture, place)]
    if "serializ" in done.stderr:
        found.append(f"products that wait for each other:\n{done.stderr}")
    return [*_excess(gate, done.stderr), *found]


def _excess(gate: Gate, said: str) -> Iterator[str]:
    """Kernels that spill or take too many registers, by what ptxas said of each."""
    kernels = re.findall(r"Compiling entry function '(\w+)' for 'sm_(\w+)'((?:(?!Compiling entry)[\s\S])*)", said)
    for architecture in set(_real(gate)) - {architecture for _, architecture, _ in kernels}:
        yield f"sm_{architecture} has no kernels: {said}"
    for name, architecture, properties in kernels:
        if re.search(r"[1-9]\d* bytes spill", properties):
            yield f"sm_{architecture} spills in {name}:{properties}"
        registers = max(int(count) for count in re.findall(r"Used (\d+) registers", properties))
        if registers > gate.registers:
            yield f"sm_{architecture}: {registers} registers in {name}, at most {gate.registers}"


def _missing(gate: Gate, architecture: str, place: Path) -> Iterator[str]:
    """Expected instructions that the code for an architecture does not have."""
    if (nvdisasm := _nvdisasm()) is not None:
        # nvcc names the architecture where there are several.
        (binary,) = [*place.glob(f"*.sm_{architecture}.cubin")] or place.glob("*.cubin")
        code = subprocess.run([nvdisasm, "-c", binary], capture_output=True, text=True, check=True).stdout
    else:
        (kept,) = place.glob("*.ptx")
        code = kept.read_text()
    for ptx, machine in gate.instructions:
        expected = machine if nvdisasm is not None else ptx
        if expected not in code:
            yield f"sm_{architecture} has no {expected}"


@pytest.fixture(scope="session")
def problems(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[list[str]]]]:
    """By name: what is wrong with it, of all chosen sources; as many are compiled at once as there are cores."""
    with started(request, Gate, lambda gate: gate.name, _problems) as futures:
        yield futures


@pytest.mark.skipif(NVCC is None, reason="needs nvcc on PATH")
@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_kernels_assemble(gate: Gate, problems: Mapping[str, Future[list[str]]]) -> None:
    assert not problems[gate.name].result()


PLANTED = """
#ifndef __CUDA_ARCH__
ON_HOST
#endif
__global__ void kernel(float* x) { x[threadIdx.x] += 1.0f; }
"""


@pytest.mark.skipif(NVCC is None, reason="needs nvcc on PATH")
@pytest.mark.parametrize(
    ("on_host", "registers", "instructions", "told"),
    [
        ("", 16, (("add", "FADD"),), None),
        ('static_assert(sizeof(int) == 8, "only the host sees it");', 16, (), "only the host sees it"),
        ("", 1, (), "registers in"),
        ("", 16, (("mma.sync", "HMMA"),), "has no"),
    ],
)
def test_the_gate_tells_what_is_wrong(on_host, registers, instructions, told, tmp_path):
    source = tmp_path / "planted.cu"
    source.write_text(PLANTED.replace("ON_HOST", on_host))
    found = _problems(Gate(str(source), ("80",), registers, instructions), tmp_path)
    assert told is None if not found else (told is not None and told in found[0])


STAYING = """
#include "cuda/attention/prefill/strip.h"

using namespace sparsecore::cuda;

struct Strip {
    StripRows rows;
    StripScores scores;
    float shrink[2];
};

__global__ void kernel(Strip* strips, float slope) {
    Strip& strip = strips[threadIdx.x];
    raise_largest(strip.rows, strip.scores, slope, strip.shrink);
}
"""


@pytest.mark.skipif(NVCC is None, reason="needs nvcc on PATH")
def test_sums_are_kept_exactly_while_the_largest_product_stays(tmp_path: Path) -> None:
    """A product fused with the difference of two would leave its rounding error in 2^(a s - a s), which is to be 1."""
    source = tmp_path / "staying.cu"
    source.write_text(STAYING)
    gate = Gate(str(source), ("80", "90"), 64, (("ex2.approx", "MUFU.EX2"), ("mul.rn.f32", "FMUL")))
    assert not _problems(gate, tmp_path)
    for binary in tmp_path.glob("*.cubin") if _nvdisasm() else ():
        code = subprocess.run([str(_nvdisasm()), "-c", binary], capture_output=True, text=True, check=True).stdout
        assert "FFMA" not in code
