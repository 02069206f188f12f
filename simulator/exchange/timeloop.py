"""Timeloop v4: a problem for each matrix product, with the density of its weights for Sparseloop.

Format as read by github.com/NVlabs/timeloop, version 0.4 of its input: problem.shape (dimensions, data_spaces with
their projections) and problem.instance (a size for each dimension, densities by data space).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import yaml

from simulator.designs.systolic import Systolic
from simulator.exchange.products import Grouped, Product

__all__ = ["HOW", "differences", "files", "key", "place"]

HOW = (
    "timeloop-mapper ARCHITECTURE.yaml MAPPER.yaml problems/NAME.yaml",
    "once for each problem: the workload does it as often as the counts of layers.csv that name it add up to.",
)
VERSION = 0.4


def key(product: Product) -> Hashable:
    """Return what makes products different problems."""
    return product.m, product.n, product.k, product.density, _distribution(product)


def place(index: int, product: Product) -> str:
    """Return the file of a problem."""
    return f"problems/{product.name}.yaml"


def files(found: Sequence[Grouped], design: Systolic) -> dict[str, str]:
    """Return a problem for each product; the design matters to none of them."""
    return {place(i, group.first): _text(group.first) for i, group in enumerate(found)}


def _text(product: Product) -> str:
    return yaml.safe_dump({"problem": _problem(product)}, sort_keys=False, default_flow_style=None)


def _problem(product: Product) -> dict[str, Any]:
    spaces = [
        {"name": "Inputs", "projection": [[["M"]], [["K"]]]},
        {"name": "Weights", "projection": [[["K"]], [["N"]]]},
        {"name": "Outputs", "projection": [[["M"]], [["N"]]], "read_write": True},
    ]
    instance: dict[str, Any] = {"M": product.m, "N": product.n, "K": product.k}
    if product.density < 1:
        weights = {"distribution": _distribution(product), "density": product.density}
        instance["densities"] = {"Weights": weights}
    shape = {"name": "GEMM", "dimensions": ["M", "N", "K"], "data_spaces": spaces}
    return {"version": VERSION, "shape": shape, "instance": instance}


def _distribution(product: Product) -> str:
    """N:M has as many in every group; anything else is taken as spread at random."""
    return "fixed_structured" if ":" in product.pattern else "hypergeometric"


def differences(found: Sequence[Grouped], design: Systolic) -> list[str]:
    """Return in sentences what the files say otherwise than the workload."""
    said = ["softmax, norms and everything else that is not a matrix product is left out"]
    if any(group.first.pattern.startswith("block") and group.first.density < 1 for group in found):
        said.append("kept blocks are taken as single weights spread at random: it has no distribution of blocks")
    return said
