"""Sparsity patterns as values: `NM(2, 4)`, `Block(32, 32)`, `Unstructured()`, and `parse("2:4")`.

A weight is [out_features, in_features]. Groups of N:M run along the input dimension, blocks are rows x columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Union

import torch
from torch import Tensor

from sparsecore.errors import InvalidValueError, PatternError, ShapeError, UnknownNameError

__all__ = ["NM", "Block", "Pattern", "Unstructured", "parse"]

_MAX_GROUP = 32
_MAX_BLOCK = 2**31 - 1


@dataclass(frozen=True)
class NM:
    """N of every M consecutive weights along the input dimension are kept, 1 <= n < m <= 32.

    A last group shorter than m keeps min(n, its length). Raises InvalidValueError on other n or m.
    """

    n: int
    m: int
    kind: ClassVar[str] = "nm"

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m <= _MAX_GROUP:
            raise InvalidValueError(
                f"no such pattern: {self.n}:{self.m}", where="NM(n, m)", expected=f"1 <= n < m <= {_MAX_GROUP}"
            )

    @property
    def name(self) -> str:
        """Short text form, read back by `parse`: "2:4"."""
        return f"{self.n}:{self.m}"

    @property
    def sizes(self) -> tuple[int, int]:
        """(n, m): the two numbers that the kernels are given."""
        return self.n, self.m

    def kept_per_row(self, cols: int) -> int:
        """Values stored for each row of `cols` columns."""
        return cols // self.m * self.n + min(self.n, cols % self.m)

    def mask(self, dense: Tensor) -> Tensor:
        """Keep mask, bool [rows, cols], of a weight that satisfies the pattern: exactly n of each group.

        Non-zeros are kept first, then negative zeros, then the lowest index. Raises PatternError where a group has more
        than n non-zeros.
        """
        rows, cols = _matrix_sizes(dense)
        groups = -(-cols // self.m)
        padded = torch.nn.functional.pad(dense.detach(), (0, groups * self.m - cols)).reshape(rows, groups, self.m)
        kept = padded != 0
        room = self.n - kept.sum(-1, keepdim=True)
        if rows and cols and int(room.min()) < 0:
            row, group = (int(i) for i in (room.squeeze(-1) < 0).nonzero()[0])
            raise PatternError(
                f"the weight is not {self.name}: a group has {self.n - int(room[row, group])} non-zeros",
                where=f"row {row}, columns {group * self.m}..{min(cols, (group + 1) * self.m) - 1}",
                expected=f"at most {self.n} of {self.m}",
                hint=f'prune it first: sparsecore.prune.one_shot(model, "magnitude", pattern="{self.name}")',
            )
        present = torch.arange(groups * self.m, device=dense.device).reshape(groups, self.m) < cols
        zero = (padded == 0) & present
        for candidates in (zero & torch.signbit(padded), zero & ~torch.signbit(padded)):
            kept |= candidates & (candidates.cumsum(-1) <= room)
            room = self.n - kept.sum(-1, keepdim=True)
        return kept.reshape(rows, groups * self.m)[:, :cols]

    def density(self, dense: Tensor) -> float:
        """Stored values over all values of `dense`; 1 for a weight without elements."""
        rows, cols = _matrix_sizes(dense)
        return self.kept_per_row(cols) / cols if rows * cols else 1.0


@dataclass(frozen=True)
class Block:
    """Whole blocks of rows x cols weights are kept or zero; blocks at the edges may be ragged.

    Raises InvalidValueError on a size below 1.
    """

    rows: int
    cols: int
    kind: ClassVar[str] = "block"

    def __post_init__(self) -> None:
        if not (1 <= self.rows <= _MAX_BLOCK and 1 <= self.cols <= _MAX_BLOCK):
            raise InvalidValueError(
                f"no such pattern: block {self.rows}x{self.cols}", where="Block(rows, cols)", expected="sizes from 1 on"
            )

    @property
    def name(self) -> str:
        """Short text form, read back by `parse`: "block 32x32"."""
        return f"block {self.rows}x{self.cols}"

    @property
    def sizes(self) -> tuple[int, int]:
        """(rows, cols) of a block: the two numbers that the kernels are given."""
        return self.rows, self.cols

    def kept_blocks(self, dense: Tensor) -> Tensor:
        """Bool [ceil(rows / block rows), ceil(cols / block cols)]: blocks that hold a non-zero."""
        rows, cols = _matrix_sizes(dense)
        high, wide = -(-rows // self.rows), -(-cols // self.cols)
        # Scattered minima and maxima instead of a padded copy: a block may be far larger than the weight.
        kept = torch.zeros(high, wide, dtype=torch.bool, device=dense.device)
        row, col = dense.detach().nonzero(as_tuple=True)
        kept[row // self.rows, col // self.cols] = True
        return kept

    def mask(self, dense: Tensor) -> Tensor:
        """Keep mask, bool [rows, cols]: every position of a block that holds a non-zero."""
        rows, cols = _matrix_sizes(dense)
        kept = self.kept_blocks(dense)
        row = torch.arange(rows, device=dense.device) // self.rows
        col = torch.arange(cols, device=dense.device) // self.cols
        return kept[row[:, None], col[None, :]]

    def density(self, dense: Tensor) -> float:
        """Positions inside kept blocks over all positions of `dense`; 1 for a weight without elements."""
        return _share(self.mask(dense))


@dataclass(frozen=True)
class Unstructured:
    """Any position may be zero."""

    kind: ClassVar[str] = "bitmask"

    @property
    def name(self) -> str:
        """Short text form, read back by `parse`: "unstructured"."""
        return "unstructured"

    @property
    def sizes(self) -> tuple[int, int]:
        """(0, 0): the kernels need no number for this pattern."""
        return 0, 0

    def mask(self, dense: Tensor) -> Tensor:
        """Keep mask, bool [rows, cols]: the non-zeros. Negative zeros go: `weight * mask` leaves many of them."""
        _matrix_sizes(dense)
        return dense.detach() != 0

    def density(self, dense: Tensor) -> float:
        """Stored values over all values of `dense`; 1 for a weight without elements."""
        return _share(self.mask(dense))


Pattern = Union[NM, Block, Unstructured]  # noqa: UP007 - a runtime value on Python 3.10, used by isinstance and docs


def parse(text: str | Pattern) -> Pattern:
    """Return the pattern that `text` names: "2:4", "block 32x32", "block 32", "unstructured"; a pattern is itself.

    Raises UnknownNameError for other text and InvalidValueError for sizes out of range.
    """
    if isinstance(text, NM | Block | Unstructured):
        return text
    plain = text.strip().lower()
    if plain == "unstructured":
        return Unstructured()
    if match := re.fullmatch(r"(\d{1,3}):(\d{1,3})", plain):
        return NM(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"block[ :_-]?(\d{1,9})(?:x(\d{1,9}))?", plain):
        return Block(int(match[1]), int(match[2] or match[1]))
    raise UnknownNameError(
        f"no such sparsity pattern: {text!r}", expected='"N:M" such as "2:4", "block RxC", or "unstructured"'
    )


def _matrix_sizes(dense: Tensor) -> tuple[int, int]:
    if dense.dim() != 2:
        raise ShapeError(
            f"a weight has {dense.dim()} dimensions: {tuple(dense.shape)}", expected="[out_features, in_features]"
        )
    return dense.shape[0], dense.shape[1]


def _share(mask: Tensor) -> float:
    return int(mask.sum()) / mask.numel() if mask.numel() else 1.0
