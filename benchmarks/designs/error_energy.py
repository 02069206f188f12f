"""What accuracy costs on each design: the pruning knob of each swept on one model, output error against energy.

    python benchmarks/designs/error_energy.py minilm       # into benchmarks/results/designs-minilm.json
    python benchmarks/designs/error_energy.py gpt2         # the decoder of benchmarks/quality/train_gpt2.py
    python benchmarks/designs/error_energy.py picture      # docs/pictures/error_energy.svg from both files

Error: of the model's output with every attention computed by the design's rule in its arithmetic (SpAtten: by cascade
pruning), relative to the model as it is. Energy: of attention, DRAM included, on the design with the multipliers,
bandwidth and SRAM of SpAtten's 1/8 scale (`--iso spatten-eighth`); each at its own node, by closed forms.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from attention import computed_by
from torch import Tensor, nn

import simulator
import sparsecore as sc
from simulator.designs.iso import equalised
from simulator.designs.registry import make
from simulator.workload import Workload
from sparsecore.cascade import Schedule

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
BASE = "spatten-eighth"
KNOBS: dict[str, tuple[str, tuple[float, ...]]] = {
    "a3": ("search.share", (1.0, 0.5, 0.25, 0.125)),
    "elsa": ("approximation", (0.5, 1.0, 2.0, 4.0)),
    "sanger": ("threshold", (0.0005, 0.002, 0.005, 0.02, 0.05)),
    "mnnfast": ("threshold", (0.003, 0.01, 0.03, 0.1)),
}
TOKEN_KEEP = (1.0, 0.95, 0.9, 0.8, 0.65)


@dataclass(frozen=True)
class Model:
    """A model with inputs, and what counts as its output."""

    name: str
    model: nn.Module
    inputs: list[Any]
    output: Callable[[], Tensor]
    prunes: bool  # whether SpAtten prunes it in one forward pass


def minilm() -> Model:
    """Return all-MiniLM-L6-v2 with some passages of the demo; its output are the embeddings."""
    sys.path.insert(0, str(ROOT / "examples" / "demo"))
    from texts import Corpus, embed_all, load_dense

    model, corpus = load_dense(), Corpus.load()
    batches = Corpus([], corpus.passages[::21]).batches()
    return Model("all-MiniLM-L6-v2", model, batches, lambda: embed_all(model, batches), True)


def gpt2() -> Model:
    """Return the decoder of the quality tables with held-out source; its output are the log-probabilities."""
    sys.path.insert(0, str(ROOT / "benchmarks" / "quality"))
    from corpus import cache_folder, held_out_contexts
    from transformers import GPT2LMHeadModel

    folder = cache_folder()
    model = GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
    ids = held_out_contexts(folder, 256, 2, per_file=1)

    def output() -> Tensor:
        with torch.inference_mode():
            return torch.cat([model(row[None]).logits.log_softmax(-1)[0] for row in ids])

    return Model("GPT-2 of 12 M parameters", model, [{"input_ids": ids}], output, False)


def relative(ours: Tensor, dense: Tensor) -> float:
    """Return |ours - dense| / |dense|."""
    return float((ours.double() - dense.double()).norm() / dense.double().norm())


def energy(workload: Workload, arch: str, settings: dict[str, Any]) -> tuple[float, float, float]:
    """Return joules of attention on the design with the resources of BASE, and the ends of their interval."""
    changes = settings if arch == BASE else {**equalised(arch, BASE, settings).changes, **settings}
    result = simulator.run(workload, arch, set=changes, fidelity="analytical")
    scope = result.scopes["attention"]
    items = list(result.energy.values())
    assert scope.energy_pj is not None
    share = scope.energy_pj / sum(item.energy_pj for item in items)
    return tuple(1e-12 * share * sum(getattr(i, n) for i in items) for n in ("energy_pj", "low_pj", "high_pj"))  # type: ignore[return-value]


def points(given: Model) -> Iterator[dict[str, Any]]:
    """Yield a point for each value of each knob."""
    dense = given.output()
    rules = {
        (arch, value): make(arch, {**equalised(arch, BASE, {key: value}).changes, key: value})[0].rule
        for arch, (key, values) in KNOBS.items()
        for value in values
    }
    workload = sc.capture(given.model, given.inputs, designs=[rule for rule in rules.values() if rule is not None])
    for (arch, value), rule in rules.items():
        assert rule is not None
        with computed_by(given.model, rule):
            error = relative(given.output(), dense)
        key = KNOBS[arch][0]
        joules = energy(workload, arch, {key: value})
        yield {"design": arch, "knob": key, "value": value, "error": error, "joules": joules}
    for keep in TOKEN_KEEP if given.prunes else ():
        with sc.cascade.apply(given.model, Schedule(token_keep=keep, msb_bits=8, value_bits=12)):
            error = relative(given.output(), dense)
            pruned = sc.capture(given.model, given.inputs)
        yield {
            "design": BASE, "knob": "token_keep", "value": keep, "error": error, "joules": energy(pruned, BASE, {}),
        }  # fmt: skip


def measure(given: Model, path: Path) -> None:
    """Write the points of a model."""
    found = []
    for point in points(given):
        found.append(point)
        print(point, flush=True)
    lines = ",\n".join("  " + json.dumps(point) for point in found)
    path.write_text(f'{{"model": {json.dumps(given.name)}, "iso": "{BASE}", "points": [\n{lines}\n]}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("minilm", "gpt2", "picture"))
    what = parser.parse_args().what
    if what == "picture":
        from picture import draw

        files = [RESULTS / f"designs-{name}.json" for name in ("minilm", "gpt2")]
        draw([json.loads(path.read_text()) for path in files if path.exists()], ROOT / "docs" / "pictures")
        return
    measure(minilm() if what == "minilm" else gpt2(), RESULTS / f"designs-{what}.json")


if __name__ == "__main__":
    main()
