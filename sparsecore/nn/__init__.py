"""Drop-in modules: over packed weights, and attention that prunes."""

from __future__ import annotations

from sparsecore.nn.cascade_attention import CascadeAttention
from sparsecore.nn.sparse_experts import SparseExperts
from sparsecore.nn.sparse_linear import SparseLinear
from sparsecore.nn.state_dict import dense_state_dict

__all__ = ["CascadeAttention", "SparseExperts", "SparseLinear", "dense_state_dict"]
