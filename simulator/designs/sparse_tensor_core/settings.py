"""The parameters of a processor with sparse matrix units."""

from __future__ import annotations

from pydantic import Field, model_validator

from simulator.designs.roofline.settings import RooflineSettings
from simulator.settings import Settings

__all__ = ["SparseTensorCoreSettings"]


class MatrixUnitSettings(Settings):
    """How products are cut for the cores, and what a 2:4 weight changes.

    tiles: sizes (tokens, outputs) of the block of results that a core computes at a time. inner: K comes in whole
    steps of this. splits: K may be cut in so many parts, each on a core of its own.
    """

    sparse_factor: int = Field(ge=1, description="times the dense rate, for 2:4 weights")
    metadata_bits: int = Field(ge=0, description="of each kept value: its place among 4")
    tiles: list[list[int]] = Field(min_length=1)
    inner: int = Field(ge=1)
    splits: int = Field(ge=1)

    @model_validator(mode="after")
    def _positive(self) -> MatrixUnitSettings:
        if any(len(tile) != 2 or min(tile) < 1 for tile in self.tiles):
            raise ValueError("expected tiles of two sizes from 1, as [128, 64]")
        return self


class SparseTensorCoreSettings(RooflineSettings):
    """All parameters; the ceilings are those of a sheet, which names the cores."""

    matrix: MatrixUnitSettings

    @model_validator(mode="after")
    def _has_cores(self) -> SparseTensorCoreSettings:
        if self.sheet is None:
            raise ValueError("expected a sheet: measured ceilings do not say how many cores there are")
        return self
