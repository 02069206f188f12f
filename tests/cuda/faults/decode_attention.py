"""Faults in the kernels of decode attention and of its store."""

from __future__ import annotations

from faults.fault import Fault

_FOLDER = "cuda/attention/decode"
_EQUALS, _BITS, _TIES = "cuda_decode_attention_equals", "attention_has_the_same_bits", "attention_gives_ties"
_BARRIER = "block_barrier();"


def _fault(name: str, source: str, right: str, wrong: str, launch: str, tests: str = _EQUALS) -> Fault:
    launches = tuple(f"{_FOLDER}/{part}.cu" for part in launch.split())
    return Fault(
        f"decode attention: {name}",
        f"{_FOLDER}/{source}",
        tests,
        right,
        wrong,
        "test_cuda_decode_attention.cpp",
        launches,
        True,
    )


def _scores(name: str, source: str, right: str, wrong: str, tests: str = _EQUALS) -> Fault:
    return _fault(name, source, right, wrong, "scores_planes", tests)


FAULTS = (
    _scores("nibbles meet the other half of a query", "products.h", "place + half *", "place + (1 - half) *"),
    _scores("queries multiplied too early", "scores.h", f"shared);\n    {_BARRIER}\n\n", "shared);\n\n", _BITS),
    _scores("low bits for queries that are sure", "scores.h", " || !shared.used[query]", ""),
    _scores("rows behind the last one", "scores.h", "there[r] = index[r] < end;", "there[r] = true;"),
    _scores("the first page for all slots", "places.h", "slot >> paging.page_bits", "0 * slot"),
    _scores("pages not clamped", "places.h", "place.owner = 0;", "place.owner = 9;", "stays_inside"),
    _fault("ties to the higher row", "choose.h", "row < cut.ties_end", "row >= cut.ties_end", "launch values", _TIES),
    _fault("the smallest rows", "select.h", "kBins - 1 - (lane * kBinsOfLane + i)", "lane * kBinsOfLane + i", "launch"),
    _fault("mass of the chosen rows not looked at", "choose.h", "if (!enough) cut = all;", "", "launch"),
    _fault("a dropped row of another query", "values.h", "(wanted >> q & 1u) == 0", "false", "values", "ignores_inf"),
    _fault("list replaced while it is read", "values.h", f"{_BARRIER}\n    }}\n    write", "}\n    write", "values",
           _BITS),
    _fault("sums of a split left out", "finish.h", "split = 0; split < used", "split = 1; split < used", "launch",
           "merges_many_splits"),
    _fault("nibbles exchanged", "append.h", "element(d) | high << 4", "element(d) << 4 | high", "store",
           "kv_append_writes"),
    _fault("rows written before all are read", "compact.h", f"        }}\n        {_BARRIER}\nSC", "        }\nSC",
           "store", "kv_compact"),
)  # fmt: skip
