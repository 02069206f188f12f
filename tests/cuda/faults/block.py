"""Faults in the block-sparse kernels and their layout."""

from __future__ import annotations

from faults.fault import Fault

BLOCK = "cuda/block_linear"
_DECODE, _GEMM, _HOPPER = "cuda_block_decode", "cuda_block_gemm", "cuda_block_hopper"
_SM80 = (f"{BLOCK}/bf16.cu", f"{BLOCK}/f16.cu")
_SM90 = (f"{BLOCK}/sm90_bf16.cu", f"{BLOCK}/sm90_f16.cu")


def _fault(name: str, source: str, tests: str, launches: tuple[str, ...], right: str, wrong: str) -> Fault:
    return Fault(f"block {name}", f"{BLOCK}/{source}", tests, right, wrong, "test_cuda_block.cpp", launches)


def _decode(name: str, right: str, wrong: str = "") -> Fault:
    return _fault(f"decode: {name}", "sm80_decode.h", _DECODE, _SM80, right, wrong)


def _gemm(name: str, right: str, wrong: str = "") -> Fault:
    return _fault(f"sm80: {name}", "sm80_gemm.h", _GEMM, _SM80, right, wrong)


def _hopper(name: str, right: str, wrong: str = "") -> Fault:
    return _fault(f"sm90: {name}", "sm90_gemm.h", _HOPPER, _SM90, right, wrong)


FAULTS = (
    _fault("layout: a step of one row tile", "layout.cpp", _GEMM, (), "((1u << tiles) - 1) <<", "1u <<"),
    _fault("layout: the units of a line not exchanged", "layout.cpp", _GEMM, (), "(packs ? placed : plain),", "plain,"),
    _decode("rows of a fragment exchanged", "lower * 8 + g", "(1 - lower) * 8 + g"),
    _decode("inner index renumbered for A alone", "{w[m][0].word[half], w[m][1].word[half], w[m][0].word[half + 1],",
            "{w[m][0].word[half + 1], w[m][1].word[half], w[m][0].word[half],"),
    _decode("row guard dropped", "|| out_row >= a.rows "),
    _decode("blocks beyond the weight's", "first / kUnit + t, column", "first / kUnit + t + 1, column"),
    _gemm("copies not waited for", "wait_copies<kGemmStages - 2>();"),
    _gemm("no barrier before a stage is read", "block_barrier();  // this stage", "// this stage"),
    _gemm("a stage refilled while it is read", "slice + kGemmStages - 1, first", "slice + kGemmStages, first"),
    _gemm("pruned tiles multiplied", "if ((tiles >> m & 1) == 0) continue;"),
    _gemm("the next block not counted", "if (in_step + 1 == walk.in_step) ++walk.next[i];"),
    _gemm("token guard dropped", "token < a.tokens ? a.cols - column : 0", "a.cols - column"),
    _hopper("a stage held while others are skipped", "if (held >= 0) release(shared, held);\n        held = -1;\n"),
    _hopper("a stage filled before it is free", "wait_phase(&shared.empty[place.stage], place.parity ^ 1);"),
    _hopper("a skipped stage not freed", "        release(shared, place.stage);\n"),
    _hopper("wrong number of announced bytes", "groups * kTileElements * 2", "kGroups * kTileElements * 2"),
    _hopper("products not waited for", "        wait_products<1>(sums);\n        if (held", "        if (held"),
    _hopper("the ring starts anew with every item", "        const Item item(a, number, kTokens);\n        float",
            "        place = {};\n        const Item item(a, number, kTokens);\n        float"),
    _hopper("staged results not waited for",
            "    named_barrier(1 + group, kGroupThreads);\n    write_results", "    write_results"),
    _hopper("the second half of the tokens in place of the first", "item.first_token + kFirst", "item.first_token"),
)  # fmt: skip
