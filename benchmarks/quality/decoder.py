"""What pruning costs a decoder: the GPT-2 of train_gpt2.py on held-out source, token by token after a prompt.

    python benchmarks/quality/decoder.py                 # everything, into benchmarks/results/quality-decoder.json
    python benchmarks/quality/decoder.py values bits     # some parts, in the place of what the file holds

Every context of 1024 tokens is read up to PROMPT; the tokens after it are given one by one, as in generation, and their
loss is taken. The tokens are the same in every case, so that perplexities differ by what was pruned alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from corpus import cache_folder, held_out_contexts
from results import RESULTS, add
from torch import Tensor, nn
from transformers import DynamicCache, GPT2LMHeadModel

from sparsecore.cascade import Schedule, apply
from sparsecore.cascade.importance import OPTIONS
from sparsecore.cascade.selectors import selector_of

CONTEXTS, PROMPT, END = 6, 992, 1024
SHARES = (0.7, 0.5, 0.3)
SEEDS = (0, 1, 2)
FILE = RESULTS / "quality-decoder.json"


@dataclass(frozen=True)
class Case:
    """One line of a table: what is applied, and where on the axis it stands."""

    name: str
    x: float
    schedule: Schedule
    settings: dict[str, Any] = field(default_factory=dict)


def token_cases(share: float, mode: str) -> Iterator[Case]:
    """Return every selector, and every importance option of the accumulated one, at one budget."""
    schedule = Schedule(token_keep=share)
    for option in OPTIONS:
        settings = {"selector": "accumulated", "scores": option, "mode": mode}
        yield Case(f"accumulated, {option}", share, schedule, settings)
    for option in ("paper", "mean"):
        yield Case(f"heavy, {option}", share, schedule, {"selector": "heavy", "scores": option, "mode": mode})
    for seed in SEEDS:
        yield Case("random", share, schedule, {"selector": selector_of("random", seed=seed), "mode": mode})
    yield Case("recent", share, schedule, {"selector": "recent", "mode": mode})


def cases(part: str) -> Iterator[Case]:
    """Return the cases of one part."""
    mode, _, share = part.partition(" ")
    if mode in ("select", "evict"):
        yield from token_cases(float(share), mode)
    elif part == "heads":
        for kept in (0.95, 0.8):
            yield Case("heads", kept, Schedule(head_keep=kept))
    elif part == "values":
        for kept in (0.3, 0.1):
            for mass in (0.0, 0.9):
                name = f"guard at {mass}" if mass else "no guard"
                yield Case(name, kept, Schedule(value_keep=kept), {"value_mass": mass})
    elif part == "bits":
        for bits in (4, 8):
            for threshold in (0.0, 0.1):
                yield Case(
                    f"threshold {threshold}", bits, Schedule(msb_bits=bits, lsb_threshold=threshold, value_bits=8)
                )


PARTS = (
    *(f"select {share}" for share in SHARES),
    *(f"evict {share}" for share in (0.5,)),
    "heads",
    "values",
    "bits",
)


@torch.inference_mode()
def step_by_step(model: nn.Module, ids: Tensor) -> Tensor:
    """Return the logits of the tokens from PROMPT on, [B, END - PROMPT, vocabulary], each read with a cache."""
    cache, places = DynamicCache(), torch.arange(ids.shape[1])[None]
    found = []
    for begin, end in pairwise((0, *range(PROMPT, ids.shape[1]))):
        out: Any = model(ids[:, begin:end], cache=cache, position_ids=places[:, begin:end], use_cache=True)
        found.append(out.logits[:, -1])
    return torch.stack(found, dim=1)


def perplexity(logits: Tensor, ids: Tensor) -> float:
    """Return exp of the mean loss of the tokens from PROMPT on."""
    return float(nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, PROMPT:].flatten()).exp())


def measure(model: nn.Module, ids: Tensor, dense: Tensor, part: str, case: Case) -> dict[str, Any]:
    """Run one case."""
    with apply(model, case.schedule, **case.settings):
        logits = step_by_step(model, ids)
    found = {"part": part, "name": case.name, "x": case.x, "perplexity": perplexity(logits, ids)}
    found["ratio"] = found["perplexity"] / perplexity(dense, ids)
    found["same_token"] = float((logits.argmax(-1) == dense.argmax(-1)).double().mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parts = parser.parse_args().parts or PARTS
    folder = cache_folder()
    model = GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
    ids = held_out_contexts(folder, END, CONTEXTS, per_file=2)
    dense = step_by_step(model, ids)
    about = json.loads((folder / "gpt2" / "training.json").read_text())
    about |= {"contexts": CONTEXTS, "prompt": PROMPT, "targets": CONTEXTS * (END - PROMPT)}
    about["perplexity"] = perplexity(dense, ids)
    print(f"dense perplexity {about['perplexity']:.3f}", flush=True)
    for part in parts:
        points = []
        for case in cases(part):
            points.append(measure(model, ids, dense, part, case))
            print(
                " ".join(f"{k} {v:.4f}" if isinstance(v, float) else str(v) for k, v in points[-1].items()), flush=True
            )
        add(FILE, about, part, points)


if __name__ == "__main__":
    main()
