"""Ask SCALE-Sim how long products of random sizes take: what tests/simulator/test_designs_systolic.py compares with.

    python -m venv ss && ss/bin/pip install "scalesim==3.0.0" "numpy<2"
    python tools/scalesim_reference.py ss/bin/python tests/data/scalesim-3.0.0.csv --seed 7 --arrays 10 --products 11

SCALE-Sim (github.com/scalesim-project/SCALE-Sim) is run as it is, in the interpreter that is given. Its bandwidth is
"CALC": the memory never stalls the array, so that "Total Cycles" are those of the dataflow alone.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from simulator.exchange.scalesim import configuration

Gemm = tuple[int, int, int]  # M x K times K x N
_DRIVER = (
    "import sys; from scalesim.scale_sim import scalesim; "
    "scalesim(True, False, sys.argv[1], sys.argv[2], sys.argv[3], True).run_scale(sys.argv[4])"
)
_SRAM_KIB = 16384  # of each operand: whatever is drawn fits
# Beside random ones: one product for each way of not filling an array, vectors, and layers of BERT-base and GPT-2.
_FIXED: list[tuple[int, int, Gemm]] = [
    (1, 1, (2, 3, 2)),
    (32, 32, (1, 768, 768)),
    (32, 32, (128, 64, 128)),
    (32, 32, (33, 33, 33)),
    (256, 256, (200, 300, 257)),
    (128, 128, (1, 768, 768)),
]


def cases(seed: int, arrays: int, products: int) -> Iterator[tuple[int, int, list[Gemm]]]:
    """Yield rows and columns of an array, and the products that it computes."""
    draw = random.Random(seed)
    for _ in range(arrays):
        rows, columns = draw.choice((1, 2, 3, 4, 7, 8, 12, 16, 32, 64)), draw.choice((2, 3, 4, 7, 8, 12, 16, 32, 64))
        around = max(rows, columns)
        sizes = [(1, 1, 1)]
        for _ in range(products):
            m, k, n = (draw.randint(1, 1 + draw.choice((1, 2, 3)) * around) for _ in range(3))
            sizes.append((m, k, n))
        yield rows, columns, [size for size in sizes if _folds(size, rows, columns) <= 200]
    for rows, columns, gemm in _FIXED:
        yield rows, columns, [gemm]


def _folds(gemm: Gemm, rows: int, columns: int) -> int:
    """At most so many tiles in any dataflow: SCALE-Sim takes each of their cycles apart."""
    return -(-max(gemm) // rows) * -(-max(gemm) // columns)


def total_cycles(python: str, rows: int, columns: int, dataflow: str, gemms: Sequence[Gemm]) -> list[int]:
    """Return SCALE-Sim's "Total Cycles" of each product."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "array.cfg").write_text(configuration(rows, columns, dataflow, _SRAM_KIB))
        lines = [f"p{i},{m},{n},{k},\n" for i, (m, k, n) in enumerate(gemms)]
        (folder / "products.csv").write_text("Layer,M,N,K,\n" + "".join(lines))
        layout = [f"p{i}," + "1," * 22 + "\n" for i in range(len(gemms))]
        (folder / "layout.csv").write_text("Layer,\n" + "".join(layout))
        paths = [str(folder / part) for part in ("array.cfg", "products.csv", "layout.csv", "out")]
        subprocess.run([python, "-c", _DRIVER, *paths], check=True, stdout=subprocess.DEVNULL)
        with (folder / "out" / "run" / "COMPUTE_REPORT.csv").open(newline="") as file:
            rows_read = list(csv.DictReader(file, skipinitialspace=True))
    return [int(float(row["Total Cycles"])) for row in rows_read]


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="an interpreter with scalesim 3.0.0 and numpy below 2")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--arrays", type=int, default=16)
    parser.add_argument("--products", type=int, default=10)
    given = parser.parse_args()
    with given.out.open("w", newline="") as file:
        file.write(f"# tools/scalesim_reference.py PYTHON OUT --seed {given.seed} --arrays {given.arrays}")
        file.write(f" --products {given.products}; scalesim 3.0.0, CALC bandwidth, column Total Cycles\n")
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("rows", "columns", "dataflow", "m", "k", "n", "cycles"))
        for rows, columns, gemms in cases(given.seed, given.arrays, given.products):
            for dataflow in ("ws", "os", "is"):
                found = total_cycles(given.python, rows, columns, dataflow, gemms)
                for gemm, cycles in zip(gemms, found, strict=True):
                    table.writerow((rows, columns, dataflow, *gemm, cycles))


if __name__ == "__main__":
    main()
