"""The parameters of A3."""

from __future__ import annotations

from pydantic import Field

from simulator.designs.a3.decide import A3Rule
from simulator.engine.interface import DesignSettings
from simulator.settings import Settings
from simulator.units import FetcherSettings

__all__ = ["A3Settings"]


class SizeSettings(Settings):
    """What the SRAM and the multipliers are built for."""

    keys: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    integer_bits: int = Field(ge=0, le=15)
    fraction_bits: int = Field(ge=0, le=15)


class SearchSettings(Settings):
    """The greedy search: M iterations, one a cycle."""

    share: float = Field(gt=0, le=1, description="M over the keys of a query")
    fill_cycles: int = Field(ge=0)
    scan_per_cycle: int = Field(ge=1)


class PostScoringSettings(Settings):
    """Post-scoring: T in percent, and scores compared in a cycle."""

    percent: float = Field(gt=0, le=100)
    per_cycle: int = Field(ge=1)


class SortSettings(Settings):
    """Sorting the columns of K, and whether the sorted columns are read from DRAM beside K."""

    cycles_per_element: float = Field(ge=0)
    fetched: bool


class FractionSettings(Settings):
    """Published shares of the keys that are candidates and that are kept, and the number of keys they are for."""

    candidates: float = Field(ge=0, le=1)
    kept: float = Field(ge=0, le=1)
    keys: int = Field(ge=1)


class A3Settings(DesignSettings):
    """All parameters of A3; without `search` every key is a candidate, without `post_scoring` every one is kept."""

    size: SizeSettings
    units: int = Field(ge=1, description="A3 units that work on different heads")
    module_latency: int = Field(ge=0, description="cycles of a module beyond one row a cycle")
    buffers: int = Field(ge=1, description="heads whose K and V fit in the SRAM")
    search: SearchSettings | None
    post_scoring: PostScoringSettings | None
    sort: SortSettings
    fractions: FractionSettings
    fetcher: FetcherSettings
    output_bits: int = Field(ge=1, le=64)

    @property
    def rule(self) -> A3Rule:
        """The pruning rule of these settings."""
        search = None if self.search is None else self.search.share
        percent = None if self.post_scoring is None else self.post_scoring.percent
        return A3Rule(search, percent, self.size.integer_bits, self.size.fraction_bits)

    @property
    def element_bits(self) -> int:
        """Bits of an element of Q, K and V: sign, integer and fraction."""
        return 1 + self.size.integer_bits + self.size.fraction_bits
