"""Results held against each other: side by side, and whether the order of designs is sure."""

from simulator.comparison.orders import Order, Turn, interval, orders
from simulator.comparison.sides import Factors, Side, SideBySide, factors, require_comparable, side_by_side
from simulator.comparison.work import same_work

__all__ = [
    "Factors",
    "Order",
    "Side",
    "SideBySide",
    "Turn",
    "factors",
    "interval",
    "orders",
    "require_comparable",
    "same_work",
    "side_by_side",
]
