"""What the package must know about a family of models: where its parts are, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Family"]


@dataclass(frozen=True, slots=True)
class Family:
    """Names of the parts of a Hugging Face model family; dotted paths as in `torch.nn.Module.get_submodule`.

    Parameters
    ----------
    name: `config.model_type` of the family.
    inputs: names of the leading positional arguments of the body's forward.
    encoder: path from the body (the model without heads) to the module that runs the layers.
    layers: path from the encoder to the list of layers.
    query, key, value, attention_out: paths from a layer to the projections of its attention.
    up, down: paths from a layer to the projections of its feed-forward part.
    attention_norm, output_norm: paths from a layer to the norms of the sums with the residual: behind the attention,
        and behind the feed-forward part, with which the layer ends.
    embeddings: path from the body to the embedding block. summed_embeddings: how many lookups it adds up.
    word_embeddings: path from the body to the table of the vocabulary. pooler: to the Linear on the first
        token; empty where the family has none.
    table_rows: the config's names of the sizes of the embedding tables, and the paths of these.
    first_position: position id of the first token; the table of positions has as many rows more than tokens fit.
    prefixes: what may stand before the body's names in a state dict of a model with heads, the empty one included.
    """

    name: str
    inputs: tuple[str, ...]
    encoder: str
    layers: str
    query: str
    key: str
    value: str
    attention_out: str
    up: str
    down: str
    attention_norm: str
    output_norm: str
    embeddings: str
    summed_embeddings: int
    word_embeddings: str
    pooler: str
    table_rows: Mapping[str, str]
    prefixes: tuple[str, ...]
    first_position: int = 0

    @property
    def projections(self) -> tuple[str, ...]:
        """Paths from a layer to all its Linears, in execution order."""
        return (self.query, self.key, self.value, self.attention_out, self.up, self.down)
