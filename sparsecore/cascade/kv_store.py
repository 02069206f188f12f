"""Keys and values of an attention layer while text is generated: dense or as bit planes, with rows that can go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparsecore.backends.cpu.decode_attention import decode_spans
from sparsecore.backends.reference.bitplane import KEY_BITS, join_keys
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError
from sparsecore.memory import zeros
from sparsecore.native import Span, span
from sparsecore.ops.decode_attention import Decoded, decode_operator, kv_append_, kv_compact_
from sparsecore.ops.direct import runs_directly

if TYPE_CHECKING:
    from sparsecore.cascade.paged_store import PagedKVStore

__all__ = ["KVFormat", "KVStore", "decode_attention"]

_STEP = 64  # slots: capacities are multiples of it


@dataclass(frozen=True, slots=True)
class KVFormat:
    """How keys and values are held.

    Parameters
    ----------
    key_bits: None: dense; else the high bits of each key, 4, 6, 8, 10 or 12, to which 4 low bits are added.
    value_bits: None: in `dtype`; else 4 ... 8, stored as int8 with a scale a token.
    dtype: of dense keys and values: fp32, bf16 or fp16 (fp64 without a compiled kernel).

    Raises InvalidValueError for widths not offered, DtypeError for other dtypes.
    """

    key_bits: int | None = None
    value_bits: int | None = None
    dtype: torch.dtype = torch.bfloat16

    def __post_init__(self) -> None:
        if self.key_bits is not None and self.key_bits not in KEY_BITS:
            expected = f"None or one of {KEY_BITS}"
            raise InvalidValueError(f"key_bits is {self.key_bits}", where="key_bits", expected=expected)
        if self.value_bits is not None and not 4 <= self.value_bits <= 8:
            raise InvalidValueError(f"value_bits is {self.value_bits}", where="value_bits", expected="None or 4 ... 8")
        if not self.dtype.is_floating_point:
            raise DtypeError(f"dtype is {self.dtype}", where="dtype", expected="a floating point type")

    def token_bytes(self, head_dim: int, value_dim: int, *, low: bool = True) -> int:
        """Bytes of one token of one head; `low`: with the low bits of its key."""
        half = -(-head_dim // 2)
        if self.key_bits is None:
            keys = head_dim * self.dtype.itemsize
        else:
            high = half if self.key_bits == 4 else head_dim if self.key_bits <= 8 else head_dim + half
            keys = high + 4 + (half if low else 0)
        return keys + (value_dim * self.dtype.itemsize if self.value_bits is None else value_dim + 4)

    def buffers(
        self, shape: tuple[int, int, int], head_dim: int, value_dim: int, device: torch.device | str
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Tensors of zeros for the keys and the values of a store, `shape` with the width of each behind it."""
        half, bits = -(-head_dim // 2), self.key_bits

        def make(width: int | None, kind: torch.dtype) -> Tensor:
            return zeros(shape if width is None else (*shape, width), kind, device)

        if bits is None:
            keys: tuple[Tensor, ...] = (make(head_dim, self.dtype),)
        else:
            widths = (half, half) if bits == 4 else (head_dim, half) if bits <= 8 else (head_dim, half, half)
            keys = (*(make(width, torch.uint8) for width in widths), make(None, torch.float32))
        if self.value_bits is None:
            return keys, (make(value_dim, self.dtype),)
        return keys, (make(value_dim, torch.int8), make(None, torch.float32))


class KVStore:
    """Keys and values of one layer for B sequences, in slots 0 ... width - 1 of buffers that grow.

    Sequence b lies in slots starts[b] ... starts[b] + lengths[b] - 1, tokens in the order in which they came. Buffers
    are [B, Hkv, capacity, ...] and double when they are full; those of 2 MiB and more lie in huge pages where the
    system has them.

    Parameters
    ----------
    batch: B. kv_heads: Hkv. head_dim: D of the keys. value_dim: Dv of the values; None: D. format: how they are held.
    capacity: slots to begin with. device: where.

    Raises InvalidValueError for sizes below 1.
    """

    def __init__(
        self,
        batch: int,
        kv_heads: int,
        head_dim: int,
        value_dim: int | None = None,
        *,
        format: KVFormat | None = None,  # noqa: A002 - the field's word
        capacity: int = 256,
        device: torch.device | str = "cpu",
    ) -> None:
        value_dim = head_dim if value_dim is None else value_dim
        for name, size in (("batch", batch), ("kv_heads", kv_heads), ("head_dim", head_dim), ("value_dim", value_dim)):
            if size < 1:
                raise InvalidValueError(f"{name} is {size}", where=name, expected="at least 1")
        self.kv_heads, self.head_dim, self.value_dim = kv_heads, head_dim, value_dim
        self.format = format or KVFormat()
        self.starts = torch.zeros(batch, dtype=torch.int64, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.width = 0
        self.keys, self.values = self._buffers(batch, _rounded(capacity))
        self._spans: tuple[tuple[Tensor, ...], tuple[Tensor, ...], list[Span], list[Span]] | None = None

    def __repr__(self) -> str:
        slots = f"{self.batch} sequences, {self.width} of {self.capacity} slots"
        return f"KVStore({slots}, {self.format}, {self.bytes()} bytes)"

    pages: None = None
    """A sequence's slots lie together; of `PagedKVStore` the table of its pages."""

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return self.starts.shape[0]

    @property
    def capacity(self) -> int:
        """Slots of the buffers."""
        return self.keys[0].shape[2]

    @property
    def device(self) -> torch.device:
        """Where the buffers are."""
        return self.starts.device

    @property
    def msb_bits(self) -> int:
        """High bits of the keys, 0 where they are dense: the argument of the operators."""
        return self.format.key_bits or 0

    def bytes(self) -> int:
        """Bytes of the buffers, free slots included."""
        return sum(part.nbytes for part in self._parts())

    def append(self, k: Tensor, v: Tensor, *, starts: Tensor | None = None, counts: Tensor | None = None) -> None:
        """Add tokens behind the last one of every sequence.

        Parameters
        ----------
        k: [B, Hkv, t, D]. v: [B, Hkv, t, Dv]. Any float dtype.
        starts: int64 [B], for the first tokens only: the first starts[b] are padding, stored and never seen.
        counts: int64 [B], the tokens from counts[b] on are padding: the next ones overwrite them. None: all t are real.

        Raises
        ------
        ShapeError, DtypeError: tensors of other sizes or types. InvalidValueError: padding of a store that is not
        empty, or more of it than there are tokens.
        """
        if k.dim() != 4:
            raise ShapeError(f"k is {list(k.shape)}", where="k", expected=f"[{self.batch}, {self.kv_heads}, tokens, D]")
        tokens = k.shape[2]
        added = tokens if starts is None and counts is None else self._padded(tokens, starts, counts)
        # Padding on the right may take more slots now than the sequence will.
        need = self.width + tokens if counts is None else int((self.starts + self.lengths).max()) + tokens
        if need > self.capacity:
            self._copy(max(need, 2 * self.capacity), range(self.batch))
        positions = self.starts + self.lengths
        value_bits = self.format.value_bits or 0
        kv_append_(self.keys, self.values, k, v, positions, msb_bits=self.msb_bits, value_bits=value_bits)
        if starts is not None:
            self.starts = starts.clone()
        self.lengths = self.lengths + added
        self.width = self.width + tokens if counts is None else int((self.starts + self.lengths).max())

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` slots and let `width` be all of them, so that shapes stay while tokens come.

        Raises InvalidValueError where there are more tokens already.
        """
        if capacity < self.width:
            raise InvalidValueError(f"capacity is {capacity}", where="capacity", expected=f"at least {self.width}")
        if capacity > self.capacity:
            self._copy(capacity, range(self.batch))
        self.width = capacity

    def evict(self, keep: Tensor, counts: Tensor | None = None) -> None:
        """Remove all rows but the kept ones for good, in place; afterwards every sequence starts in slot 0.

        Buffers of which less than half is in use then are replaced by smaller ones.

        Parameters
        ----------
        keep: int64 [B, m], ascending slots of each sequence. counts: int64 [B], how many of them count; None: all m.

        Raises
        ------
        ShapeError; IndexTableError where rows are not ascending slots of their sequence.
        """
        counts = torch.full_like(self.lengths, keep.shape[-1]) if counts is None else counts
        self._check_rows(keep, counts)
        kv_compact_(self._parts(), keep, counts)
        self.starts = torch.zeros_like(self.starts)
        self.lengths = counts.clone()
        self.width = int(counts.max())
        if 2 * _rounded(self.width) <= self.capacity:
            self._copy(self.width + self.width // 8, range(self.batch))

    def reorder(self, index: Tensor) -> None:
        """Make sequence index[i] the i-th: reorders beams, selects sequences or repeats them. index: int64 [B']."""
        self._copy(self.capacity, index.tolist())
        self.starts, self.lengths = self.starts[index], self.lengths[index]

    def repeat(self, times: int) -> None:
        """Follow each sequence by times - 1 copies of it."""
        self.reorder(torch.arange(self.batch, device=self.device).repeat_interleave(times))

    def k(self) -> Tensor:
        """Keys [B, Hkv, width, D] as the kernels see them with all bits: in `format.dtype`, or fp32 of planes."""
        parts = [part[:, :, : self.width] for part in self.keys]
        if self.format.key_bits is None:
            return parts[0]
        return join_keys(tuple(parts[:-1]), self.msb_bits, self.head_dim).float() * parts[-1][..., None]

    def v(self) -> Tensor:
        """Values [B, Hkv, width, Dv] in `format.dtype`, or fp32 of integers."""
        parts = [part[:, :, : self.width] for part in self.values]
        return parts[0] if len(parts) == 1 else parts[0].float() * parts[1][..., None]

    def seen(self) -> Tensor:
        """Which slots hold a token of the sequence: bool [B, width]."""
        slots = torch.arange(self.width, device=self.device)
        return (slots >= self.starts[:, None]) & (slots < (self.starts + self.lengths)[:, None])

    def spans(self) -> tuple[list[Span], list[Span]]:
        """Keys and values as the compiled module takes them, made once for each set of buffers."""
        known = self._spans
        if known is None or known[0] is not self.keys or known[1] is not self.values:
            made = [span(part) for part in self.keys], [span(part) for part in self.values]
            known = self._spans = (self.keys, self.values, *made)
        return known[2], known[3]

    def _parts(self) -> list[Tensor]:
        return [*self.keys, *self.values]

    def _padded(self, tokens: int, starts: Tensor | None, counts: Tensor | None) -> Tensor:
        """Tokens that each sequence grows by."""
        if starts is not None and self.width:
            raise InvalidValueError(
                "padding on the left of later tokens, not the first", where="starts", expected="None"
            )
        full = torch.full_like(self.lengths, tokens) if counts is None else counts
        first = torch.zeros_like(self.starts) if starts is None else starts
        for name, given in (("starts", first), ("counts", full)):
            if given.shape != self.lengths.shape or given.dtype != torch.int64:
                raise ShapeError(
                    f"{name} is {given.dtype} {list(given.shape)}", where=name, expected=f"int64 [{self.batch}]"
                )
        if (starts is not None or counts is not None) and bool(((first < 0) | (full > tokens) | (first > full)).any()):
            raise InvalidValueError(
                f"starts {first.tolist()}, counts {full.tolist()}",
                where="starts, counts",
                expected=f"0 <= starts <= counts <= {tokens}, the tokens",
            )
        return full - first

    def _check_rows(self, keep: Tensor, counts: Tensor) -> None:
        if keep.dim() != 2 or keep.shape[0] != self.batch:
            raise ShapeError(f"keep is {list(keep.shape)}", where="keep", expected=f"[{self.batch}, rows]")
        place = torch.arange(keep.shape[1], device=keep.device)
        outside = (keep < self.starts[:, None]) | (keep >= (self.starts + self.lengths)[:, None])
        if bool((outside & (place < counts[:, None])).any()):
            raise InvalidValueError(
                "a row to keep is no slot of its sequence", where="keep", expected="starts <= row < starts + lengths"
            )

    def _copy(self, capacity: int, sequences: Sequence[int]) -> None:
        """Replace the buffers by others that hold these sequences."""
        keys, values = self._buffers(len(sequences), _rounded(capacity))
        for old, new in zip(self._parts(), (*keys, *values), strict=True):
            for place, sequence in enumerate(sequences):
                new[place, :, : self.width] = old[sequence, :, : self.width]
        self.keys, self.values = keys, values

    def _buffers(self, batch: int, capacity: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return self.format.buffers((batch, self.kv_heads, capacity), self.head_dim, self.value_dim, self.device)


def decode_attention(
    store: KVStore | PagedKVStore,
    q: Tensor,
    *,
    rows: Tensor | None = None,
    row_counts: Tensor | None = None,
    heads: Tensor | None = None,
    scale: float | None = None,
    threshold: float = 0.1,
    value_keep: float = 1.0,
    value_mass: float = 0.0,
    group_values: bool = False,
    token_scores: bool = True,
    head_scores: bool = True,
) -> Decoded:
    """Attention of one new token of each sequence, q [B, Hq, 1, D], over `store`, whose last token is usually that one.

    See `sparsecore.ops.decode_attention` for the parameters, the result and the errors.
    """
    factor = store.head_dim**-0.5 if scale is None else scale
    wanted = (token_scores, head_scores)
    rule: tuple[Any, ...] = (store.msb_bits, factor, threshold, value_keep, value_mass, group_values, *wanted)
    seen: tuple[Any, ...] = (store.starts, store.lengths, store.width, rows, row_counts, heads)
    if (
        isinstance(store, KVStore)
        and store.format.dtype is not torch.float64
        and q.dtype is not torch.float64
        and runs_directly(q, store.starts)
    ):
        return Decoded(*decode_spans(q, *store.spans(), store.value_dim, *seen, *rule))
    return Decoded(*decode_operator(q, list(store.keys), list(store.values), *seen, *rule, store.pages))


def _rounded(capacity: int) -> int:
    return max(-(-capacity // _STEP) * _STEP, _STEP)
