"""What the config of a Hugging Face folder says of its weights: the shape of each, and where its heads are.

The names come from the simulator's families; a model of another kind, or without a config, has no structure to tell.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.workload import ModelInfo
from simulator.workload.families import FAMILIES, Family, sizes
from simulator.workload.recognise import from_config, locate
from sparsecore.errors import NamedError
from sparsecore.io import LoadedCheckpoint
from sparsecore.pattern_search import Finding

__all__ = ["Structure", "structure_of"]


@dataclass(frozen=True, slots=True)
class Structure:
    """A config read: the sizes of the model, and its family, which has the names."""

    info: ModelInfo
    family: Family

    def shape(self, name: str) -> tuple[int, int] | None:
        """Shape that the config gives the linear weight `name`; None for any other tensor."""
        sides = self._sides(name)
        if sides is None:
            return None
        named = sizes(self.info)
        makes, reads = named[sides[0]], named[sides[1]]
        return (reads, makes) if self.family.transposed else (makes, reads)

    def layer(self, name: str) -> int | None:
        """Number of the transformer layer that `name` is a linear weight of."""
        place = locate(name, self.info)
        return None if place is None else place[0]

    def zero_heads(self, name: str, found: Finding) -> tuple[int, ...]:
        """Heads whose rows (of Q, K and V) or columns (of the output projection) are all zero in the weight `name`."""
        sides = self._sides(name)
        if sides is None or (sides[0] not in ("query", "kv") and sides[1] != "query"):
            return ()
        by_makes = sides[0] in ("query", "kv")
        gone = set(found.zero_rows if by_makes != self.family.transposed else found.zero_cols)
        size = self.info.head_dim
        heads = found.shape[0 if by_makes != self.family.transposed else 1] // size
        return tuple(head for head in range(heads) if gone.issuperset(range(head * size, (head + 1) * size)))

    def _sides(self, name: str) -> tuple[str, str] | None:
        """Names of the sizes that the weight makes and reads."""
        place = locate(name, self.info)
        if place is None:
            return None
        linears = (*self.family.linears, *self.family.last)
        return next((linear.makes, linear.reads) for linear in linears if linear.name == place[1])


def structure_of(checkpoint: LoadedCheckpoint) -> Structure | None:
    """Return the structure that the config of `checkpoint` tells, or None."""
    if "model_type" not in checkpoint.config:
        return None
    try:
        info = from_config(dict(checkpoint.config), checkpoint.source)
    except NamedError:
        return None  # of a family that the simulator does not know, or without its sizes
    return Structure(info, FAMILIES[info.family])
