"""Faults in the kernels of scored attention."""

from __future__ import annotations

from faults.fault import Fault


def _ampere(name: str, file: str, right: str, wrong: str = "") -> Fault:
    source, tests = f"cuda/attention/prefill/{file}", "test_cuda_prefill_sm80.cpp"
    return Fault(f"prefill sm80: {name}", source, "cuda_prefill_kernel", right, wrong, file=tests)


def _hopper(name: str, right: str, wrong: str = "") -> Fault:
    source, tests = "cuda/attention/prefill/sm90_prefill.h", "test_cuda_prefill_sm90.cpp"
    return Fault(f"prefill sm90: {name}", source, "cuda_prefill_kernel", right, wrong, file=tests)


_NEXT = "        wait_copies<0>();\n        block_barrier();\n        fetch(step + 1);\n"
_WAIT = "        wait_products<0>(s);\n        if (kLastSweep) wait_products<0>(sums);\n"
FAULTS = (
    _ampere("a tile not waited for", "sm80_prefill.h", _NEXT, "        block_barrier();\n        fetch(step + 1);\n"),
    _ampere(
        "a tile refilled while it is read",
        "sm80_prefill.h",
        _NEXT,
        "        wait_copies<0>();\n        fetch(step + 1);\n        block_barrier();\n",
    ),
    _ampere("key guard dropped", "sm80_prefill.h", "first + row < tokens ? width - column : 0", "width - column"),
    _ampere("sums shrunk by the other row", "sm80_prefill.h", "shrink[i % 4 / 2];", "shrink[0];"),
    _ampere("scores of the tile before kept", "sm80_prefill.h", "        shared.tokens[i] = 0;\n"),
    _ampere("mask of another row", "strip.h", "first_query + lower * 8 + row;", "first_query + row;"),
    _hopper("a stage freed before it was read", "        ++step;\n", "        ++step;\n        free_stages();\n"),
    _hopper("products not waited for", _WAIT),
    _hopper(
        "scores moved before all are added", "        named_barrier(kSm90PrefillBarrier, kSm90PrefillConsumers);\n"
    ),
    _hopper("values of the other keys", "[0][i * 16][0]", "[0][i * 16 % 64][0]"),
)
