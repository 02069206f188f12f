"""Decoding steps with cascade pruning against the unmodified model: attention alone, and the whole model.

    python benchmarks/cascade_generation.py --cases small --threads 2 [--modes select evict] [--out FILE]

Random weights; the caches are filled with random keys and values, since speed does not depend on what they hold. Both
models take turns, step by step. `attention` is what the attention function and the cache's update take together; `SDPA`
the part of torch's attention in it, without the copies of the cache. The ceiling of the whole model is the ratio of
the bytes that a step has to read: weights, and rows of keys and values. Schedules are those of the workloads that the
authors of SpAtten released (arXiv 2012.09852); the grouped-query model has the first one's, stretched.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, DynamicCache, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sparsecore import cascade
from sparsecore.cascade.generation import CascadeCache
from sparsecore.machine import describe
from sparsecore.timing import median_ratio

Rows = tuple[torch.Tensor, ...]
SMALL = cascade.Schedule(
    token_keep=(0.9, 0.7, *(0.2,) * 4, *(0.1,) * 6), value_keep=0.2, msb_bits=6, value_bits=6, lsb_threshold=0.05
)
MEDIUM = cascade.Schedule(
    token_keep=(1.0, 1.0, 0.9, 0.8, 0.8, *(0.6,) * 6, *(0.3,) * 13),
    head_keep=(*(16,) * 16, *(13,) * 6, *(10,) * 2),
    value_keep=0.3,
    msb_bits=8,
    value_bits=8,
    lsb_threshold=1.0,
)
GROUPED = cascade.Schedule(
    token_keep=(0.9, 0.2, 0.2, 0.1), value_keep=0.2, msb_bits=8, value_bits=8, lsb_threshold=0.05
)


def gpt2(layers: int, heads: int, positions: int) -> Any:
    config = GPT2Config(n_layer=layers, n_head=heads, n_embd=64 * heads, n_positions=positions)
    return GPT2LMHeadModel(config)


def grouped(positions: int) -> Any:
    """Return 4 layers of a model of Llama 3's layer sizes, with a small vocabulary."""
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 4, "vocab_size": 8192}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, max_position_embeddings=positions))


@dataclass(frozen=True, slots=True)
class Case:
    """One model, batch and context; `steps` are timed."""

    name: str
    make: Callable[[], Any]
    schedule: cascade.Schedule
    batch: int
    context: int
    steps: int


CASES = {
    case.name: case
    for case in (
        Case("small", lambda: gpt2(12, 12, 1088), SMALL, 1, 992, 32),
        Case("medium", lambda: gpt2(24, 16, 1088), MEDIUM, 1, 992, 32),
        Case("small 8 x 4096", lambda: gpt2(12, 12, 4160), SMALL, 8, 4096, 16),
        Case("small 32 x 4096", lambda: gpt2(12, 12, 4160), SMALL, 32, 4096, 6),
        Case("grouped 1 x 16384", lambda: grouped(16448), GROUPED, 1, 16384, 16),
        Case("grouped 8 x 16384", lambda: grouped(16448), GROUPED, 8, 16384, 6),
    )
}
HEAD = (
    "case",
    "mode",
    "threads",
    "attention ms, unmodified (SDPA)",
    "cascade",
    "ratio",
    "over SDPA alone",
    "step ms, unmodified",
    "cascade",
    "ratio",
    "weights' share of bytes",
    "ceiling",
    "of ceiling",
    "cache MB",
)


class Clock:
    """Adds up the time that wrapped calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            out = call(*args, **kwargs)
            self.seconds += time.perf_counter() - start
            return out

        return timed


class Dense:
    """The unmodified model, with its cache filled."""

    def __init__(self, model: Any, case: Case, rows: Rows) -> None:
        self.model, self.clock, self.sdpa = model, Clock(), Clock()
        self.cache = DynamicCache()
        for layer in range(model.config.num_hidden_layers):
            self.cache.update(*rows, layer)
        self.cache.update = self.clock.wrap(self.cache.update)  # type: ignore[method-assign]
        AttentionInterface.register("timed_sdpa", self.clock.wrap(self.sdpa.wrap(sdpa_attention_forward)))
        self.bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in self.cache.layers)

    def step(self, tokens: torch.Tensor, positions: torch.Tensor) -> None:
        self.model.set_attn_implementation("timed_sdpa")
        self.model(tokens, position_ids=positions, **{_name(self.model): self.cache})


class Pruned:
    """The same model with cascade pruning, its cache filled with as many rows."""

    def __init__(self, model: Any, case: Case, mode: Any, selector: str, rows: Rows) -> None:
        self.model, self.clock = model, Clock()
        model.set_attn_implementation("sdpa")
        self.handle = cascade.apply(model, case.schedule, selector=selector, mode=mode)
        self.cache: CascadeCache = self.handle.cache()
        self.cache.begin(case.batch, case.context, None, torch.device("cpu"))
        for layer in self.cache.layers:
            layer.fill(*rows, self.cache.own_ids(), None, self.cache.prompt.counts)
        self.cache.columns = case.context
        self.cache.tokens.scores.random_(0, 1 << 24)
        for name in ("begin", "attend"):
            setattr(self.cache, name, self.clock.wrap(getattr(self.cache, name)))
        self.handle.remove()

    def step(self, tokens: torch.Tensor, positions: torch.Tensor) -> None:
        self.model.set_attn_implementation("sdpa")
        self.handle = cascade.apply(self.model, self.handle.schedule)
        self.handle.settings = self.cache.settings
        start = time.perf_counter()
        self.model(tokens, position_ids=positions, **{_name(self.model): self.cache})
        self.last = time.perf_counter() - start
        self.handle.remove()


def _name(model: Any) -> str:
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--modes", nargs="+", choices=("select", "evict"), default=["select", "evict"])
    parser.add_argument("--selector", choices=("heavy", "accumulated"), default="heavy")
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--out", type=Path, help="write the table as Markdown, too")
    options = parser.parse_args()
    lines = [f"| {' | '.join(HEAD)} |", "| " + " | ".join(["---"] * len(HEAD)) + " |"]
    for name in options.cases:
        for threads in options.threads:
            torch.set_num_threads(threads)
            for mode in options.modes:
                lines.append(measure(CASES[name], mode, threads, options.selector))
                print(lines[-1], flush=True)
                gc.collect()
    if options.out:
        machine = describe()
        note = f"{machine.cpu}, {machine.isa}; torch {torch.__version__}, bf16.\n\n"
        options.out.write_text("# Decoding with cascade pruning\n\n" + note + "\n".join(lines) + "\n")


@torch.inference_mode()
def measure(case: Case, mode: str, threads: int, selector: str) -> str:
    """Return the row of one case and mode."""
    torch.manual_seed(0)
    with torch.device("cpu"):
        torch.set_default_dtype(torch.bfloat16)
        model = case.make().eval()
        torch.set_default_dtype(torch.float32)
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = config.hidden_size // config.num_attention_heads
    shape = (case.batch, heads, case.context, size)

    rows = tuple(torch.randn((1, *shape[1:])).to(torch.bfloat16).expand(shape) for _ in range(2))
    dense, pruned = Dense(model, case, rows), Pruned(model, case, mode, selector, rows)
    times: dict[str, list[float]] = {"dense": [], "sdpa": [], "pruned": [], "dense step": [], "pruned step": []}
    for step in range(-1, case.steps):
        tokens = torch.randint(0, config.vocab_size, (case.batch, 1))
        positions = torch.full((case.batch, 1), case.context + step + 1)
        for one in (dense, pruned):
            one.clock.seconds = dense.sdpa.seconds = 0.0
            start = time.perf_counter()
            one.step(tokens, positions)
            seconds = time.perf_counter() - start
            if step < 0:
                continue
            if one is dense:
                times["dense"].append(dense.clock.seconds)
                times["sdpa"].append(dense.sdpa.seconds)
                times["dense step"].append(seconds)
            else:
                times["pruned"].append(pruned.clock.seconds)
                times["pruned step"].append(pruned.last)
    return _row(case, mode, threads, times, dense, pruned)


def _row(case: Case, mode: str, threads: int, times: dict[str, list[float]], dense: Dense, pruned: Pruned) -> str:
    weights = sum(p.nbytes for n, p in dense.model.named_parameters() if "wpe" not in n)
    if not dense.model.config.tie_word_embeddings:
        weights -= dense.model.get_input_embeddings().weight.nbytes  # one row of it is read
    run = pruned.cache.record(pruned.cache.settings.info)
    read = _bytes_read(pruned, run)
    ceiling = (weights + dense.bytes) / (weights + read)
    middle = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    whole = median_ratio(times["dense step"], times["pruned step"])
    cells = (
        case.name,
        mode,
        threads,
        f"{middle['dense']:.2f} ({middle['sdpa']:.2f})",
        f"{middle['pruned']:.2f}",
        f"{median_ratio(times['dense'], times['pruned']):.2f}",
        f"{median_ratio(times['sdpa'], times['pruned']):.2f}",
        f"{middle['dense step']:.1f}",
        f"{middle['pruned step']:.1f}",
        f"{whole:.2f}",
        f"{weights / (weights + dense.bytes):.0%}",
        f"{ceiling:.2f}",
        f"{whole / ceiling:.0%}",
        f"{dense.bytes / 1e6:.0f} -> {run.cache_bytes / 1e6:.0f}",
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _bytes_read(pruned: Pruned, run: Any) -> float:
    """Bytes of keys and values that one step has to read: as counted, in planes of 8 + 4 bits and int8, with scales."""
    store = pruned.cache.layers[0].store
    assert store is not None
    high, low, value = store.head_dim + 4, store.head_dim / 2, store.value_dim + 4
    groups = run.model.heads // run.model.kv_heads
    keys = run.counts[..., None] * run.heads * (high + run.low * low)
    return float((keys.sum() + (run.values * value).sum()) / groups / run.steps)


if __name__ == "__main__":
    main()
