"""SCALE-Sim v3: a topology of matrix products, and the array of a design.

Formats as read by scalesim 3.0.0 (github.com/scalesim-project/SCALE-Sim): topology_utils.py (load_arrays_gemm: a first
line that is skipped, then name, M, N, K, and N:M of sparse weights, each followed by a comma), layout_utils.py and
scale_config.py.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from simulator.designs.systolic import Systolic
from simulator.exchange.products import Grouped, Product

__all__ = ["HOW", "TOPOLOGY", "configuration", "differences", "files", "key", "place"]

TOPOLOGY, CONFIG, LAYOUT = "topology.csv", "scale.cfg", "layout.csv"
HOW = (
    'python -c "from scalesim.scale_sim import scalesim; '
    f"scalesim(True, True, '{CONFIG}', '{TOPOLOGY}', '{LAYOUT}', True).run_scale('results')\"",
    "with scalesim 3.0.0 and numpy below 2; its own command writes traces of every cycle as well. A line of "
    "COMPUTE_REPORT.csv is of one product: the workload does it as often as the counts of layers.csv that name it add "
    "up to.",
)
_LAYOUT_FIELDS = 22  # of a line of the layout; read, and without effect where no custom layout is asked for
_CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = {kib}
FilterSramSzkB = {kib}
OfmapSramSzkB = {kib}
IfmapOffset = 0
FilterOffset = 100000000
OfmapOffset = 200000000
Dataflow = {dataflow}
Bandwidth = 10
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = False
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def key(product: Product) -> Hashable:
    """Return what SCALE-Sim can tell products apart by."""
    return product.m, product.n, product.k, _ratio(product)


def place(index: int, product: Product) -> str:
    """Return which line of the topology a product is."""
    return f"{TOPOLOGY}, line {index + 2}"


def configuration(rows: int, columns: int, dataflow: str, kib: int) -> str:
    """Return the text of a configuration: an array, its dataflow (ws, os, is), and KiB of each of the three SRAMs."""
    return _CONFIG.format(rows=rows, columns=columns, dataflow=dataflow, kib=kib)


def files(found: Sequence[Grouped], design: Systolic) -> dict[str, str]:
    """Return the topology, a layout (which it asks for and does not use) and the configuration."""
    array = design.array
    lines = [_line(group.first) for group in found]
    layout = [f"{group.first.name}," + "1," * _LAYOUT_FIELDS for group in found]
    kib = max(design.settings.sram.bytes // 3 >> 10, 1)
    return {
        TOPOLOGY: "\n".join(["Layer,M,N,K,", *lines]) + "\n",
        LAYOUT: "\n".join(["Layer,", *layout]) + "\n",
        CONFIG: configuration(array.rows, array.columns, array.dataflow, kib),
    }


def _line(product: Product) -> str:
    ratio = _ratio(product)
    return f"{product.name},{product.m},{product.n},{product.k}," + (f"{ratio}," if ratio else "")


def _ratio(product: Product) -> str:
    return product.pattern if re.fullmatch(r"[1-9]\d*:[1-9]\d*", product.pattern) else ""


def differences(found: Sequence[Grouped], design: Systolic) -> list[str]:
    """Return in sentences what the files say otherwise than workload and design."""
    said = [
        "it has one SRAM for each operand: a third of the design's buffer each; with InterfaceBandwidth = CALC no "
        "memory stalls the array",
        "softmax, norms and everything else that is not a matrix product is left out",
    ]
    if design.array.overlap:
        said.append("its folds run one after the other, those of the design overlap")
    patterns = sorted({product.pattern for group in found for product in group.all} - {"dense"})
    if any(_ratio(group.first) for group in found):
        said.append("N:M of the weights is in the topology, and off in the configuration (SparsitySupport)")
    if others := [name for name in patterns if ":" not in name]:
        said.append(f"weights that are {', '.join(others)} are dense here: it knows N:M alone")
    return said
