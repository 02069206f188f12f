"""Decode attention against the fastest form of torch's SDPA in bf16, cold: every form takes the next of many copies.

    python benchmarks/suite/decode.py --threads 1 --shapes mha --batches 1 --contexts 1024,4096

`make bench` runs all of it. "Fastest form": of SDPA on tensors of the allocator (pages of 4 KiB) and in huge pages,
grouped queries as `enable_gqa` and as rows of one head, whichever is fastest in the case. Beside it stands eager torch,
matmul, softmax in fp32 and matmul, which is faster than SDPA on some machines.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from sparsecore.cascade import KVFormat, KVStore, decode_attention
from sparsecore.memory import zeros
from sparsecore.timing import interleaved

COLD = 230 * 10**6  # bytes of all copies of one form: no cache holds them
KEEP = 0.3
SHAPES = {"mha": (12, 12, 64), "gqa": (32, 8, 128)}  # query heads, key heads, head size
CONTEXTS, BATCHES, SHORT = (1024, 4096, 16384), (1, 8), 128
SINGLE = 0.75
"""No single case may fall below this share of its bar, which is for the geometric mean."""
SHORT_LEAST = 0.95
"""Smallest ratio at the context `SHORT`."""


@dataclass(frozen=True, slots=True)
class Form:
    """One row of the table. planes: K 8 + 4 bits and V int8, else bf16. bars: of each shape, for 1 and 2 threads.

    low: share of the query heads that read the low bits. rows: "all"; "select" or "evict" read `KEEP` of them.
    """

    name: str
    planes: bool
    low: float
    rows: str
    value_keep: float
    bars: dict[str, tuple[float, float]]

    def bytes(self, batch: int, context: int, kv_heads: int, dim: int) -> float:
        """Bytes of keys and values that a call reads."""
        tokens = batch * kv_heads * (context if self.rows == "all" else kept(context))
        if not self.planes:
            return tokens * 4.0 * dim
        return tokens * (dim + 4 + self.low * dim / 2 + self.value_keep * (dim + 4))


FORMS = (
    Form("dense bf16", False, 0, "all", 1, {"mha": (1.1, 1.45), "gqa": (1.7, 1.95)}),
    Form("K 8+4, V int8, low bits for 6 %", True, 0.06, "all", 1, {"mha": (1.9, 2.35), "gqa": (3.1, 3.4)}),
    Form("K 8+4, V int8, low bits for all", True, 1, "all", 1, {"mha": (1.45, 1.85), "gqa": (2.45, 2.65)}),
    Form("K 8+4, V int8, top 30 % of the values", True, 0.06, "all", KEEP, {"mha": (2.15, 2.75), "gqa": (3.7, 4.1)}),
    Form("30 % of the tokens, select", True, 0.06, "select", 1, {"mha": (3.0, 3.7), "gqa": (5.2, 5.8)}),
    Form("30 % of the tokens, evict", True, 0.06, "evict", 1, {"mha": (5.5, 6.6), "gqa": (9.0, 9.5)}),
    Form("evict and top 30 % of the values", True, 0.06, "evict", KEEP, {"mha": (6.4, 7.7), "gqa": (10.8, 11.2)}),
)  # fmt: skip


def kept(context: int) -> int:
    """Tokens that `select` and `evict` read."""
    return max(64, round(KEEP * context / 64) * 64)


class Case:
    """Inputs of one shape, batch and context, in copies, and the calls of all forms on them."""

    def __init__(self, shape: str, batch: int, context: int, seed: int = 0) -> None:
        self.shape, self.batch, self.context = shape, batch, context
        self.heads, self.kv_heads, self.dim = SHAPES[shape]
        rng = torch.Generator().manual_seed(seed)
        self.q, self.k, self.v = self._inputs(rng)
        self.rows = torch.randperm(context, generator=rng)[: kept(context)].sort().values.expand(batch, -1).contiguous()
        self.exact = sdpa(*(t.double() for t in (self.q, self.k, self.v)), enable_gqa=True)
        self.dense = self._copies([self.k, self.v])
        self.small_pages = [[t.clone() for t in pair] for pair in self.dense]
        self.stores = self._stores(self.k, self.v, KVFormat(8, 8))
        pick = self.rows[0]
        self.evicted = self._stores(self.k[:, :, pick], self.v[:, :, pick], KVFormat(8, 8))
        self.dense_stores = [self._store(k, v) for k, v in self.dense]

    def _inputs(self, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Random tensors; all but 6 % of the heads attend mostly to three tokens, so that they need no low bits."""
        kv, context, dim = self.kv_heads, self.context, self.dim
        q = torch.randn(self.batch, self.heads, 1, dim, generator=rng).bfloat16()
        k, v = (torch.randn(self.batch, kv, context, dim, generator=rng) for _ in range(2))
        flat = int(FORMS[1].low * self.batch * self.heads)
        group = self.heads // kv
        for head in range(flat, self.batch * self.heads):
            b, h = divmod(head, self.heads)
            own = q[b, h, 0].float()
            for place, bonus in enumerate((2.5, 1.5, 0.5)):
                # A key along q whose score is log(context) + bonus.
                slot = (97 * (h % group + 1) + 31 * place) % context
                k[b, h // group, slot] = own * ((math.log(context) + bonus) * dim**0.5 / float(own @ own))
        return q, k.bfloat16(), v.bfloat16()

    def _copies(self, parts: Sequence[Tensor]) -> list[list[Tensor]]:
        """As many copies in huge pages as keep a turn out of the caches."""
        count = max(2, min(256, -(-COLD // sum(t.nbytes for t in parts))))
        made = []
        for _ in range(count):
            copy = [zeros(t.shape, t.dtype) for t in parts]
            for target, source in zip(copy, parts, strict=True):
                target.copy_(source)
            made.append(copy)
        return made

    def _stores(self, k: Tensor, v: Tensor, form: KVFormat) -> list[KVStore]:
        first = KVStore(self.batch, self.kv_heads, self.dim, format=form, capacity=k.shape[2])
        first.append(k, v)
        stores = []
        for parts in self._copies([*first.keys, *first.values]):
            copy = KVStore(self.batch, self.kv_heads, self.dim, format=form, capacity=1)
            copy.keys, copy.values = tuple(parts[: len(first.keys)]), tuple(parts[len(first.keys) :])
            copy.lengths, copy.width = first.lengths, first.width
            stores.append(copy)
        return stores

    def _store(self, k: Tensor, v: Tensor) -> KVStore:
        store = KVStore(self.batch, self.kv_heads, self.dim, capacity=1)
        store.keys, store.values = (k,), (v,)
        store.lengths, store.width = torch.full((self.batch,), self.context), self.context
        return store

    def call(self, form: Form) -> Callable[[KVStore], Any]:
        """The call of a form on a store."""
        options: dict[str, Any] = {"threshold": 2.0 if form.low == 1 else 0.1, "value_keep": form.value_keep}
        options["group_values"] = True
        if form.rows == "select":
            options["rows"] = self.rows
        return lambda store: decode_attention(store, self.q, token_scores=False, head_scores=False, **options)

    def stores_of(self, form: Form) -> list[KVStore]:
        """Copies of the store that a form reads."""
        return self.dense_stores if not form.planes else self.evicted if form.rows == "evict" else self.stores

    def calls(self) -> dict[str, Callable[[], object]]:
        """Every form on the next of its copies; those of torch begin with "torch"."""
        q = self.q.view(self.batch, self.kv_heads, -1, self.dim)
        calls: dict[str, Callable[[], object]] = {}
        for pages, copies in (("huge pages", self.dense), ("4 KiB pages", self.small_pages)):
            calls[f"torch, {pages}"] = _in_turn(copies, lambda pair: sdpa(q, *pair))
            if self.heads != self.kv_heads:
                grouped = _in_turn(copies, lambda pair: sdpa(self.q, *pair, enable_gqa=True))
                calls[f"torch enable_gqa, {pages}"] = grouped
        calls["eager"] = _in_turn(self.dense, lambda pair: eager(q, *pair))
        for form in FORMS:
            calls[form.name] = _in_turn(self.stores_of(form), self.call(form))
        return calls

    def error(self, form: Form) -> float:
        """Relative error of a form over the tokens that it reads, against float64 on the bf16 inputs."""
        exact = self.exact
        if form.rows != "all":
            pick = self.rows[0]
            exact = sdpa(self.q.double(), self.k[:, :, pick].double(), self.v[:, :, pick].double(), enable_gqa=True)
        out = self.call(form)(self.stores_of(form)[0]).out.double()
        return float((out - exact).norm() / exact.norm())


def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention from its parts."""
    return torch.softmax((q @ k.mT).float() * q.shape[-1] ** -0.5, -1).to(v.dtype) @ v


def _in_turn(copies: Sequence[Any], call: Callable[[Any], object]) -> Callable[[], object]:
    turn = cycle(copies)
    return lambda: call(next(turn))


def measure_case(case: Case, threads: int, budget_s: float) -> Iterator[dict[str, Any]]:
    """Yield one dictionary for each form: seconds, ratio to the fastest form of SDPA, bytes, error."""
    torch.set_num_threads(threads)
    times = interleaved(case.calls(), rounds=200, least=5, warmup=2, budget_s=budget_s)
    medians = {name: statistics.median(own) for name, own in times.items()}
    fastest = min((name for name in times if name.startswith("torch")), key=medians.__getitem__)
    where = {"shape": case.shape, "batch": case.batch, "context": case.context, "threads": threads}
    sizes = case.batch, case.context, case.kv_heads, case.dim
    dense_bytes = FORMS[0].bytes(*sizes)
    for name in medians:
        if name.startswith("torch") or name == "eager":
            yield {**where, "form": name, "seconds": medians[name], "gb_s": dense_bytes / medians[name] / 1e9}
    for form in FORMS:
        read = form.bytes(*sizes)
        yield {
            **where,
            "form": form.name,
            "seconds": medians[form.name],
            "gb_s": read / medians[form.name] / 1e9,
            "ratio": statistics.median(a / b for a, b in zip(times[fastest], times[form.name])),
            "eager": statistics.median(a / b for a, b in zip(times["eager"], times[form.name])),
            "bytes_ratio": dense_bytes / read,
            "against": fastest,
            "error": case.error(form),
        }


def measure_decode(threads: Sequence[int], budget_s: float = 3.0, **only: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Yield the points of every case; `only` may name shapes, batches or contexts."""
    chosen = {"shapes": tuple(SHAPES), "batches": BATCHES, "contexts": (*CONTEXTS, SHORT), **only}
    for shape, batch, context in product(chosen["shapes"], chosen["batches"], chosen["contexts"]):
        case = Case(shape, batch, context)
        for count in threads:
            yield from measure_case(case, count, budget_s)


def decode_table(points: Sequence[dict[str, Any]]) -> str:
    """The points as Markdown: geometric means over contexts and batches, least case, verdict, error.

    bytes: of SDPA over those of the form, the limit at equal bandwidth.
    """
    lines = [
        "| to the fastest SDPA bf16 | shape | threads | mean / least | must | bytes | to eager | GB/s | error "
        f"| context {SHORT} |",
        "| --- | --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = [p for p in points if "ratio" in p]
    for form, shape, threads in product(FORMS, SHAPES, sorted({p["threads"] for p in ours})):
        own = _of(ours, form, shape, threads)
        if not own:
            continue
        short = [p["ratio"] for p in ours if p["context"] == SHORT and _is(p, form, shape, threads)]
        must = form.bars[shape][min(threads, 2) - 1]
        mean, least = statistics.geometric_mean(p["ratio"] for p in own), min(p["ratio"] for p in own)
        verdict = "met" if mean >= must and least >= SINGLE * must else "missed"
        means = {key: statistics.geometric_mean(p[key] for p in own) for key in ("bytes_ratio", "eager", "gb_s")}
        error = max(p["error"] for p in own)
        brief = f"{min(short):.2f} {'met' if min(short) >= SHORT_LEAST else 'missed'}" if short else "-"
        rates = f"{means['bytes_ratio']:.2f} | {means['eager']:.2f} | {means['gb_s']:.1f} | {error:.1e} | {brief}"
        lines.append(f"| {form.name} | {shape} | {threads} | {mean:.2f} / {least:.2f} | {must:g} {verdict} | {rates} |")
    return "\n".join(lines)


def _is(point: dict[str, Any], form: Form, shape: str, threads: int) -> bool:
    return (point["form"], point["shape"], point["threads"]) == (form.name, shape, threads)


def _of(points: Sequence[dict[str, Any]], form: Form, shape: str, threads: int) -> list[dict[str, Any]]:
    return [p for p in points if p["context"] != SHORT and _is(p, form, shape, threads)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--contexts", default="1024,4096,16384,128")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each case and number of threads")
    parser.add_argument("--points", type=Path, help="add the points to this file and print the table of all in it")
    options = parser.parse_args()
    numbers = {name: tuple(map(int, getattr(options, name).split(","))) for name in ("threads", "batches", "contexts")}
    points = list(
        measure_decode(numbers["threads"], options.seconds, shapes=tuple(options.shapes.split(",")),
                       batches=numbers["batches"], contexts=numbers["contexts"])
    )  # fmt: skip
    for p in points:
        ratio = f"{p['ratio']:6.2f} of {p['bytes_ratio']:5.2f}, error {p['error']:.1e}" if "ratio" in p else ""
        where = f"{p['shape']} B{p['batch']} S{p['context']} T{p['threads']} {p['form']:40s}"
        print(f"{where} {p['seconds'] * 1e6:9.1f} us {p['gb_s']:5.1f} GB/s {ratio}")
    if options.points is not None:
        points = (json.loads(options.points.read_text()) if options.points.exists() else []) + points
        options.points.write_text(json.dumps(points))
        print(decode_table(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
