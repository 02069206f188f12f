"""What compaction must know about the layers of a family."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Block"]


@dataclass(frozen=True, slots=True)
class Block:
    """Names of the parts of one transformer layer; dotted paths as in `torch.nn.Module.get_submodule`.

    Parameters
    ----------
    layers: path from the body (the model without heads) to the list of layers.
    attention: path from a layer to its attention module.
    queries, keys, values, out: paths from a layer to the projections. Where the three are one fused layer, their paths
        are equal and its outputs are those of the queries, the keys and the values, in this order.
    up: paths from a layer to the projections into the feed-forward part: one, or gate and up, whose results are
        multiplied. down: path to the projection back.
    activation: path from a layer to the module or function applied to the first of `up`.
    head_dim: name of the attention module's number of values a head.
    heads, kv_heads, widths, groups: names of attributes of the attention module that hold the number of query heads, of
        key heads, heads times head_dim, and query heads for each key head; updated where they exist.
    pre_norm: the norms stand before the parts, so that a layer whose parts add nothing is the identity.
    layer_counts: names of the config that count the layers; per_layer: names of the config that list something a layer.
    layer_index: paths from a layer to the modules that know the position of their layer.
    config_neurons, config_heads, config_kv_heads: names of the config for the sizes that all layers have in common;
        heads only where the config holds head_dim by itself, so that other sizes do not follow from theirs.
    """

    layers: str
    attention: str
    queries: str
    keys: str
    values: str
    out: str
    up: tuple[str, ...]
    down: str
    activation: str
    head_dim: str
    heads: tuple[str, ...] = ()
    kv_heads: tuple[str, ...] = ()
    widths: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    pre_norm: bool = True
    layer_counts: tuple[str, ...] = ("num_hidden_layers",)
    per_layer: tuple[str, ...] = ()
    layer_index: tuple[str, ...] = ()
    config_neurons: str = "intermediate_size"
    config_heads: str = ""
    config_kv_heads: str = ""

    @property
    def fused(self) -> bool:
        """Whether queries, keys and values come from one layer."""
        return self.queries == self.keys

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths from a layer to its projections."""
        return (self.queries, self.keys, self.values, self.out, *self.up, self.down)
