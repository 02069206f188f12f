"""Data about model families: where their parts are. The only package with names given by Hugging Face."""

from __future__ import annotations

from torch import nn

from sparsecore.models.bert import BERT
from sparsecore.models.conv1d import is_conv1d
from sparsecore.models.experts import ExpertLayout, expert_layout
from sparsecore.models.family import EncoderLayer, Family, child

__all__ = [
    "BERT",
    "FAMILIES",
    "EncoderLayer",
    "ExpertLayout",
    "Family",
    "child",
    "expert_layout",
    "family_of",
    "is_conv1d",
]

FAMILIES = (BERT,)


def family_of(model: nn.Module) -> Family | None:
    """Return the family that ``model.config.model_type`` names, or None for any other model."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return next((family for family in FAMILIES if kind in family.model_types), None)
