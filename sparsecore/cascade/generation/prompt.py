"""The slots in which the tokens of a prompt stand during its pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Prompt", "Shrunk"]


@dataclass(slots=True)
class Prompt:
    """The slots of the prompt's pass, which may become fewer from layer to layer.

    Parameters
    ----------
    valid: bool [B, n], slots that hold a token; None: all.
    order: int64 [B, width], the slots that hold tokens, ascending; None: all.
    ids: int64 [B, width], the tokens in them; None: slot r of `order` holds token r.
    counts: int64 [B], tokens of each sequence. width: the most of them.
    """

    valid: Tensor | None
    order: Tensor | None
    ids: Tensor | None
    counts: Tensor
    width: int

    @classmethod
    def whole(cls, batch: int, length: int, mask: Tensor | None, device: torch.device) -> Prompt:
        """Return the slots of a prompt as it is given: [B, L], `mask` nonzero where a token is."""
        if mask is None or bool(mask.all()):
            return cls(None, None, None, torch.full((batch,), length, device=device), length)
        valid = mask.bool()
        counts = valid.sum(1)
        width = int(counts.max())
        order = torch.argsort((~valid).to(torch.int8), dim=1, stable=True)[:, :width]
        return cls(valid, order, None, counts, width)


@dataclass(slots=True)
class Shrunk:
    """Where the slots of a pass that has shrunk came from.

    Parameters
    ----------
    columns: int64 [B, n], the position of each slot in the prompt as it was given; past the end for empty slots.
    output: [B, L, C], the last state of every position.
    """

    columns: Tensor
    output: Tensor
