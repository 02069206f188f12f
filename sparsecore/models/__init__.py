"""Model families: the only place with attribute names of Hugging Face models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsecore.errors import UnsupportedError
from sparsecore.models.bert import BERT
from sparsecore.models.conv1d import conv1d_like, is_conv1d
from sparsecore.models.distilbert import DISTILBERT
from sparsecore.models.experts import ExpertLayout, expert_layout
from sparsecore.models.family import Family
from sparsecore.models.roberta import ROBERTA

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "BERT",
    "DISTILBERT",
    "FAMILIES",
    "ROBERTA",
    "ExpertLayout",
    "Family",
    "body_of",
    "conv1d_like",
    "expert_layout",
    "family_of",
    "is_conv1d",
]

FAMILIES: dict[str, Family] = {family.name: family for family in (BERT, DISTILBERT, ROBERTA)}


def family_of(model: nn.Module) -> Family:
    """Return the family of a Hugging Face model, by its `config.model_type`.

    Raises
    ------
    UnsupportedError: no Hugging Face model, or of a family that is not described here.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind in FAMILIES:
        return FAMILIES[kind]
    found = f"model type {kind!r}" if kind else "no Hugging Face config"
    raise UnsupportedError(
        f"this kind of model is not supported: {type(model).__name__} has {found}",
        expected="a Hugging Face model of one of these types: " + ", ".join(sorted(FAMILIES)),
        hint="" if kind else "pass the Hugging Face model that the module wraps",
    )


def body_of(model: nn.Module) -> nn.Module:
    """Return the part of a Hugging Face model that its heads stand on (the model itself if it has none)."""
    body: nn.Module = getattr(model, "base_model", model)
    return body
