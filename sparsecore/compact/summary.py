"""What compaction did."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CompactSummary"]


@dataclass(frozen=True, slots=True)
class CompactSummary:
    """Parts removed from a model.

    layers: numbers of whole layers removed. heads, neurons: removed from each layer that is left, by its new number.
    channels: removed from each chain of plain layers, by the name of the layer that made them.
    parameters: number of parameter elements before and after.
    in_config: the config of a Hugging Face model describes the new sizes, so that from_pretrained can build it.
    """

    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    neurons: tuple[int, ...] = ()
    channels: tuple[tuple[str, int], ...] = ()
    parameters: tuple[int, int] = (0, 0)
    in_config: bool = False

    def __str__(self) -> str:
        before, after = self.parameters
        parts = [
            f"{len(self.layers)} layers",
            f"{sum(self.heads)} heads",
            f"{sum(self.neurons)} neurons",
            f"{sum(count for _, count in self.channels)} channels",
        ]
        return f"removed {', '.join(parts)}; parameters {before} -> {after}"
