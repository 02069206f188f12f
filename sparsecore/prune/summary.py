"""What a pruning run did, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LayerSummary", "PruneSummary", "SkippedLayer"]


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One pruned weight.

    name: module path, with the parameter and `[i]` added for expert i of a fused stack.
    pattern: its name, such as "2:4".
    shape: (out_features, in_features).
    zeros: weights that are zero now, the ones that were zero before included.
    kept_magnitude: sum of |w| after over sum of |w| before, 0 to 1; 1 for a weight that was all zero.
    """

    name: str
    pattern: str
    shape: tuple[int, int]
    zeros: int
    kept_magnitude: float

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.shape[0] * self.shape[1]

    @property
    def sparsity(self) -> float:
        """Zeros over all weights; 0 for a weight without elements."""
        return self.zeros / self.weights if self.weights else 0.0


@dataclass(frozen=True, slots=True)
class SkippedLayer:
    """A layer that could hold a pruned weight and was left alone."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PruneSummary:
    """What `one_shot` did. `str()` gives a table."""

    method: str
    pattern: str
    scope: str
    layers: tuple[LayerSummary, ...]
    skipped: tuple[SkippedLayer, ...] = ()

    @property
    def weights(self) -> int:
        """Number of weights in the pruned layers."""
        return sum(layer.weights for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Zeros over weights, over all pruned layers together."""
        return sum(layer.zeros for layer in self.layers) / self.weights if self.weights else 0.0

    def __str__(self) -> str:
        wide = max([len(layer.name) for layer in self.layers] + [5])
        share = f"{self.sparsity:.2%} of {self.weights} weights zero"
        lines = [f"{self.method}, {self.pattern}, scope {self.scope}: {share}"]
        lines.append(f"{'layer':<{wide}}  {'shape':>13}  sparsity  kept magnitude")
        for layer in self.layers:
            shape = f"{layer.shape[0]}x{layer.shape[1]}"
            lines.append(f"{layer.name:<{wide}}  {shape:>13}  {layer.sparsity:>8.2%}  {layer.kept_magnitude:>14.2%}")
        lines += [f"{layer.name}: left alone, {layer.reason}" for layer in self.skipped]
        return "\n".join(lines)
