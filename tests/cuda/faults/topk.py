"""Faults in the top-k kernels and in those that move rows."""

from __future__ import annotations

from faults.fault import Fault

_HELD, _LONG, _VERY_LONG = "topk_of_rows_that_a_block", "topk_of_long", "topk_of_very_long"
_PIECES, _RAGGED = "topk_of_rows_in_pieces", "cuda_ragged"
_SHORT, _PLAN = "topk_of_short", "topk_by_its_plan"  # by the launch functions
_LAUNCHES = ("cuda/topk/f32.cu",)


def _topk(name: str, source: str, tests: str, right: str, wrong: str = "") -> Fault:
    launches = _LAUNCHES if tests in (_SHORT, _PLAN) else ()
    return Fault(f"top-k: {name}", f"cuda/topk/{source}.h", tests, right, wrong, "test_cuda_topk.cpp", launches)


def _rows(name: str, right: str, wrong: str = "") -> Fault:
    source, launches = "cuda/rows/kernels.h", ("cuda/rows/launch.cu",)
    return Fault(f"rows: {name}", source, "cuda_rows_go", right, wrong, "test_cuda_rows.cpp", launches)


FAULTS = (
    _topk("NaN by its bits", "keys", _SHORT, "if (magnitude > kInfinity) return kLargest;"),
    _topk("keys behind a row's end", "warp_topk", _SHORT, "own.holds(i) ? ", "true ? "),
    _topk("ties to the higher index", "candidates", _HELD, "number = ~c.position[i];", "number = c.position[i];"),
    _topk("histogram read before it is complete", "candidates", _HELD,
          "    block_barrier();\n    find_bin", "    find_bin"),
    _topk("bitmap read before it is complete", "candidates", _HELD,
          "        block_barrier();\n        const std::uint32_t positions", "        const std::uint32_t positions"),
    _topk("windows not parted", "candidates", _VERY_LONG, "if (bit < kWindow &&", "if ("),
    _topk("candidates overwritten before they are read", "candidates", _LONG,
          "block_barrier();  // all of the round", "// all of the round"),
    _topk("no room made", "collect", _LONG, "at + number > Store::kMostWanted", "at + number > Store::kCapacity"),
    _topk("a limit above what was kept", "collect", _LONG, "Order<T>::above(least);",
          "Order<T>::above(Order<T>::kLargest - 1);"),
    _topk("threads that disagree on whether there is room", "collect", _LONG,
          "block_barrier_any(append(tile, lead, index, limit, c))", "append(tile, lead, index, limit, c)"),
    _topk("a row's end not looked at", "tile", _LONG, "first + e < part.n ?", "true ?"),
    _topk("finds of the wrong piece", "block_topk", _PIECES, "find / k * finds", "find % k * finds"),
    _topk("a short piece taken for a whole one", "block_topk", _PIECES, "(rest < sizes.k ? rest : sizes.k)", "sizes.k"),
    _topk("a tie too many", "cut", _PLAN, "own.equal < cut.ties", "own.equal <= cut.ties"),
    _topk("a segment before left out", "radix_topk", _PLAN, "i < chunk * kRadixWarps", "i < chunk * kRadixWarps - 1"),
    _topk("counts not clamped", "output", _RAGGED, "count < a.n ? count : a.n", "count"),
    _rows("an earlier slot marked", "row.s + 1));\n    });", "a.m - row.s));\n    });"),
    _rows("negative indices not counted from the end", "if (place < 0) place += a.rows;"),
)  # fmt: skip
