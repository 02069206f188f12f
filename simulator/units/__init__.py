"""The units that designs are built of: each one file, with its closed formula and the source of it."""

from simulator.units.arithmetic import Arithmetic, ArithmeticSettings
from simulator.units.fetcher import Fetcher, FetcherSettings
from simulator.units.multipliers import MultiplierArray
from simulator.units.softmax import Softmax, SoftmaxSettings
from simulator.units.sram import Sram, SramSettings
from simulator.units.systolic import SystolicArray
from simulator.units.topk import TopK, TopKSettings, quick_select_mean
from simulator.units.zero_eliminator import ZeroEliminator

__all__ = [
    "Arithmetic",
    "ArithmeticSettings",
    "Fetcher",
    "FetcherSettings",
    "MultiplierArray",
    "Softmax",
    "SoftmaxSettings",
    "Sram",
    "SramSettings",
    "SystolicArray",
    "TopK",
    "TopKSettings",
    "ZeroEliminator",
    "quick_select_mean",
]
