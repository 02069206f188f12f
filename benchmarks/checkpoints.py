"""Checkpoints end to end: a dense folder with zeros is converted, loaded in a new process, run and compared.

    python benchmarks/checkpoints.py [--gigabytes 1.0] [--out FILE.md]

Two models: the demo's (MiniLM, fp32, pruned to 2:4 here) and one of Llama's shape in bf16 with random 2:4 weights.
Every step is a process of its own, so that times and peak memory are those of a user. Load time per byte is the median
of five `sparsecore.load(folder, into=model)` after one that filled the page cache, divided by the bytes of the weights:
values are copied into the model's own memory in both forms. `from_pretrained` maps dense files and reads nothing until
the first run, so its time is shown but not compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOAD_MUST = 1.2

_LOAD = """
import json, resource, statistics, sys, time
import torch, transformers, sparsecore
folder, auto, probe = sys.argv[1:4]
kind = getattr(transformers, auto)
transformers.logging.set_verbosity_error(); transformers.logging.disable_progress_bar()
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
model = kind.from_pretrained(folder, dtype="auto")
first = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ids = torch.arange(2 * 16).view(2, 16) % 97 + 5
with torch.inference_mode():
    model(ids)
    start = time.perf_counter()
    y = model(ids)[0].float()
    run = time.perf_counter() - start
torch.save(y, probe)
seconds = []
for _ in range(6):
    start = time.perf_counter()
    sparsecore.load(folder, into=model)
    seconds.append(time.perf_counter() - start)
packed = sum(type(m).__name__ == "SparseLinear" for m in model.modules())
found = {"first_s": first, "load_s": statistics.median(seconds[1:]), "peak": (peak - base) * 1024}
found.update(run_s=run, packed=packed)
print(json.dumps(found))
"""

_MINILM = """
import sys
sys.path.insert(0, sys.argv[2])
from texts import load_dense
import sparsecore as sc
model = load_dense()
sc.prune.one_shot(model, "magnitude", pattern="2:4")
model.save_pretrained(sys.argv[1])
"""

_LLAMA = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
import sparsecore as sc
layers = int(sys.argv[2])
config = LlamaConfig(hidden_size=2048, intermediate_size=5632, num_hidden_layers=layers, num_attention_heads=16,
                     num_key_value_heads=8, vocab_size=8192, dtype="bfloat16")
torch.set_default_dtype(torch.bfloat16)
model = LlamaForCausalLM(config)
sc.prune.one_shot(model.model, "magnitude", pattern="2:4")
model.save_pretrained(sys.argv[1])
"""


def run(*command: str) -> tuple[str, float]:
    """Standard output and seconds of one process; its errors are shown."""
    import time

    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return done.stdout, time.perf_counter() - start


def weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def measure(name: str, dense: Path, auto: str, scratch: Path) -> dict[str, Any]:
    """Convert `dense`, load both folders in new processes, compare what they compute."""
    import torch

    packed = scratch / f"{dense.name}-packed"
    code = (
        "import json, resource, sys; from sparsecore.io.convert import convert;"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "convert(sys.argv[1], sys.argv[2], 'sparsecore');"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024)"
    )
    text, convert_s = run("-c", code, str(dense), str(packed))
    loads = {}
    for folder in (dense, packed):
        probe = scratch / f"{folder.name}.pt"
        loads[folder] = json.loads(run("-c", _LOAD, str(folder), auto, str(probe))[0].splitlines()[-1])
    a, b = (torch.load(scratch / f"{folder.name}.pt", weights_only=True).double() for folder in (dense, packed))
    sizes = {folder: weight_bytes(folder) for folder in (dense, packed)}
    per_byte = {folder: loads[folder]["load_s"] / sizes[folder] for folder in (dense, packed)}
    return {
        "model": name,
        "dense_bytes": sizes[dense],
        "packed_bytes": sizes[packed],
        "packed_layers": loads[packed]["packed"],
        "convert_s": convert_s,
        "convert_peak": int(text.split()[-1]),
        "first_s": [loads[folder]["first_s"] for folder in (dense, packed)],
        "load_s": [loads[folder]["load_s"] for folder in (dense, packed)],
        "load_peak": [loads[folder]["peak"] for folder in (dense, packed)],
        "load_per_byte": per_byte[packed] / per_byte[dense],
        "run_s": [loads[folder]["run_s"] for folder in (dense, packed)],
        "difference": float((a - b).norm() / a.norm()),
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """One table; dense / packed where a cell holds two figures."""
    lines = [
        "| model | weights MB | of dense | convert | peak MB | from_pretrained s | its peak MB | load s "
        "| time a byte, must 1.2 | run s | output |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        pair = [f"{row['dense_bytes'] / 1e6:.0f} / {row['packed_bytes'] / 1e6:.0f}"]
        pair += [f"{row['packed_bytes'] / row['dense_bytes']:.3f}", f"{row['convert_s']:.1f} s"]
        pair += [f"{row['convert_peak'] / 1e6:.0f}", " / ".join(f"{s:.3f}" for s in row["first_s"])]
        pair += [" / ".join(f"{b / 1e6:.0f}" for b in row["load_peak"]), " / ".join(f"{s:.3f}" for s in row["load_s"])]
        pair += [f"{row['load_per_byte']:.2f} {'met' if row['load_per_byte'] <= LOAD_MUST else 'missed'}"]
        pair += [" / ".join(f"{s:.4f}" for s in row["run_s"]), f"relative L2 {row['difference']:.1e}"]
        lines.append(f"| {row['model']} ({row['packed_layers']} layers) | {' | '.join(pair)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the model of Llama's shape")
    parser.add_argument("--out", type=Path, help="append the table to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        run("-c", _MINILM, str(scratch / "minilm"), str(ROOT / "examples" / "demo"))
        layers = max(1, round((options.gigabytes * 1e9 - 2 * 8192 * 2048 * 2) / 94.4e6))
        run("-c", _LLAMA, str(scratch / "llama"), str(layers))
        rows = [measure("MiniLM, fp32 2:4", scratch / "minilm", "AutoModel", scratch)]
        rows.append(
            measure(f"Llama shape, {layers} layers, bf16 2:4", scratch / "llama", "AutoModelForCausalLM", scratch)
        )
    table = markdown(rows)
    print(table)
    if options.out:
        with options.out.open("a") as file:
            file.write(table + "\n")


if __name__ == "__main__":
    main()
