"""Many points at once: sweeps over designs, models and parameters, what is best among them, and a search."""

from simulator.explore.axes import Axis, parse_axis
from simulator.explore.pareto import front
from simulator.explore.plan import Plan, Point
from simulator.explore.records import Record
from simulator.explore.runner import Where
from simulator.explore.store import Store
from simulator.explore.sweep import Done, sweep

__all__ = ["Axis", "Done", "Plan", "Point", "Record", "Store", "Where", "front", "parse_axis", "sweep"]
