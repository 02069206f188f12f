"""RoBERTa: BERT's layers under another prefix; its positions start behind the padding id."""

from __future__ import annotations

from dataclasses import replace

from sparsecore.models.bert import BERT

__all__ = ["ROBERTA"]

ROBERTA = replace(BERT, name="roberta", prefixes=("", "roberta."), first_position=2)
