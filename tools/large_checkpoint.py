"""Loads a checkpoint of 4 GB into packed layers in a new process and bounds the growth of its resident memory.

Once from dense bf16 weights with zeros, in shards, and once from the same weights in the form sparse-24-bitmask. The
files go to a temporary folder and are removed again; where its disk has too little room, that is said and nothing run.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAYERS, SIZE, SHARDS = 32, 8192, 8
DENSE_BYTES = LAYERS * SIZE * SIZE * 2
SPARE_BYTES = 2 * 10**9
MOST_GROWTH = 1.2  # of the packed model


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="sparsecore-large-") as scratch:
        free = shutil.disk_usage(scratch).free
        if free < DENSE_BYTES + SPARE_BYTES:
            needed = (DENSE_BYTES + SPARE_BYTES) / 1e9
            print(
                f"not run: {scratch} has {free / 1e9:.1f} GB free, {needed:.1f} GB are needed (TMPDIR= chooses another)"
            )
            return 0
        return max(check(Path(scratch), form) for form in ("dense", "packed"))


def check(scratch: Path, form: str) -> int:
    folder = scratch / form
    folder.mkdir()
    start = time.monotonic()
    write(folder, packed=form == "packed")
    held = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(f"{form}: {held / 1e9:.2f} GB in {SHARDS} shards, written in {time.monotonic() - start:.1f} s", flush=True)
    done = subprocess.run([sys.executable, __file__, "load", str(folder)], capture_output=True, text=True, check=False)
    shutil.rmtree(folder)
    if done.returncode:
        print(done.stderr)
        return 1
    found = json.loads(done.stdout)
    share = found["growth"] / found["packed"]
    print(
        f"{form}: resident memory grew by {found['growth'] / 1e9:.2f} GB at its peak for a packed model of "
        f"{found['packed'] / 1e9:.2f} GB, {share:.2f} of it; loaded in {found['seconds']:.1f} s"
    )
    return int(share > MOST_GROWTH)


def write(folder: Path, packed: bool) -> None:
    """Every weight is another roll of one 2:4 pattern; a row of each is kept to compare with."""
    import torch
    from safetensors.torch import save_file

    import sparsecore as sc

    rng = torch.Generator().manual_seed(0)
    keep = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]]).bfloat16()
    base = torch.randn(SIZE, SIZE, generator=rng).bfloat16()
    base *= keep[torch.randint(6, (SIZE, SIZE // 4), generator=rng)].reshape(SIZE, SIZE)
    rows, files = {}, {}
    for shard in range(SHARDS):
        file, tensors = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors", {}
        for layer in range(shard, LAYERS, SHARDS):
            weight = base.roll(layer, 0)
            rows[f"{layer}.weight"] = weight[layer].clone()
            named = sc.pack(weight, "2:4").tensors if packed else {"weight": weight}
            tensors.update({f"{layer}.{name}": tensor.clone() for name, tensor in named.items()})
        save_file(tensors, folder / file)
        files.update(dict.fromkeys(tensors, file))
    save_file(rows, folder / "rows.st")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def load(folder: Path) -> None:
    """The measured process: a model of packed layers on the meta device takes the checkpoint."""
    import torch
    from safetensors.torch import load_file
    from torch import nn

    import sparsecore as sc

    kind = {"bias": False, "pattern": "2:4", "device": "meta", "dtype": torch.bfloat16}
    layer = sc.nn.SparseLinear(SIZE, SIZE, **kind)
    model = nn.Sequential(layer, *(copy.deepcopy(layer) for _ in range(LAYERS - 1)))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, start = resident("VmRSS"), time.monotonic()
    sc.load(folder, into=model)
    seconds, growth = time.monotonic() - start, resident("VmHWM") - before
    for name, row in load_file(folder / "rows.st").items():
        layer = int(name.partition(".")[0])
        if not torch.equal(model[layer].weight[layer], row):
            raise SystemExit(f"{name} came back changed")
    print(json.dumps({"growth": growth, "packed": sum(layer.held_bytes for layer in model), "seconds": seconds}))


def resident(key: str) -> int:
    """Bytes of VmRSS or of its peak, VmHWM, of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) * 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        load(Path(sys.argv[2]))
    else:
        sys.exit(main())
