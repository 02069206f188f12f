"""Keys and values of an attention layer in pages of one pool, which sequences of any length share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsecore.backends.reference import paged
from sparsecore.backends.reference.bitplane import join_keys
from sparsecore.cascade.kv_store import KVFormat
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError
from sparsecore.ops.decode_attention import kv_append_
from sparsecore.ops.decode_checks import PAGE_SIZES

__all__ = ["PagedKVStore"]


class PagedKVStore:
    """Keys and values of one layer for B sequences, in pages that a sequence takes when it needs one and gives back.

    No sequence is copied when another one grows, and none holds more than a page that it does not use. Slot s of
    sequence b is row s % page_size of page pages[b, s // page_size]; tokens lie in slots 0 ... lengths[b] - 1, in the
    order in which they came. The page table and the lengths are on the device for the kernels, and counted on the host
    besides, so that taking pages waits for no kernel.

    Parameters
    ----------
    batch: B. kv_heads: Hkv. head_dim: D of the keys. value_dim: Dv of the values; None: D. format: how they are held.
    pool: pages of all sequences together. page_size: slots of a page, 16, 32, 64, 128 or 256. longest: slots that a
        sequence may have; None: as many as the pool. device: where.

    Raises InvalidValueError for sizes below 1 and other page sizes.
    """

    def __init__(
        self,
        batch: int,
        kv_heads: int,
        head_dim: int,
        value_dim: int | None = None,
        *,
        pool: int,
        page_size: int = 64,
        longest: int | None = None,
        format: KVFormat | None = None,  # noqa: A002 - the field's word
        device: torch.device | str = "cpu",
    ) -> None:
        value_dim = head_dim if value_dim is None else value_dim
        longest = pool * page_size if longest is None else longest
        sizes = {"batch": batch, "kv_heads": kv_heads, "head_dim": head_dim, "value_dim": value_dim, "pool": pool}
        for name, size in {**sizes, "longest": longest}.items():
            if size < 1:
                raise InvalidValueError(f"{name} is {size}", where=name, expected="at least 1")
        if page_size not in PAGE_SIZES:
            raise InvalidValueError(f"page_size is {page_size}", where="page_size", expected=f"one of {PAGE_SIZES}")
        self.kv_heads, self.head_dim, self.value_dim, self.page_size = kv_heads, head_dim, value_dim, page_size
        self.format = format or KVFormat()
        self.starts = torch.zeros(batch, dtype=torch.int64, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.pages = torch.full((batch, -(-longest // page_size)), -1, dtype=torch.int32, device=device)
        self.width = 0
        self.keys, self.values = self.format.buffers((pool, kv_heads, page_size), head_dim, value_dim, device)
        self._free = list(range(pool - 1, -1, -1))
        self._held: list[list[int]] = [[] for _ in range(batch)]
        self._counts = [0] * batch

    def __repr__(self) -> str:
        used = self.pool - len(self._free)
        return f"PagedKVStore({self.batch} sequences, {used} of {self.pool} pages, {self.format}, {self.bytes()} bytes)"

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return self.starts.shape[0]

    @property
    def pool(self) -> int:
        """Pages of all sequences together."""
        return self.keys[0].shape[0]

    @property
    def free(self) -> int:
        """Pages that no sequence holds."""
        return len(self._free)

    @property
    def device(self) -> torch.device:
        """Where the buffers are."""
        return self.starts.device

    @property
    def msb_bits(self) -> int:
        """High bits of the keys, 0 where they are dense: the argument of the operators."""
        return self.format.key_bits or 0

    def bytes(self) -> int:
        """Bytes of the pool and of the table."""
        return sum(part.nbytes for part in (*self.keys, *self.values, self.pages))

    def append(self, k: Tensor, v: Tensor, *, counts: Sequence[int] | None = None) -> None:
        """Add tokens behind the last one of every sequence.

        Parameters
        ----------
        k: [B, Hkv, t, D]. v: [B, Hkv, t, Dv]. Any float dtype.
        counts: how many of the t tokens each sequence gets, the others are padding; None: all.

        Raises
        ------
        ShapeError, DtypeError: tensors of other sizes or types. InvalidValueError: counts outside of 0 ... t, more
        tokens than `longest`, or no page left; nothing is changed then.
        """
        if k.dim() != 4 or k.shape[0] != self.batch:
            raise ShapeError(f"k is {list(k.shape)}", where="k", expected=f"[{self.batch}, {self.kv_heads}, tokens, D]")
        tokens = k.shape[2]
        added = self._each(counts, tokens)
        self._take([held + count for held, count in zip(self._counts, added, strict=True)])
        # Padding falls behind the tokens, where it is overwritten by the next ones, or on no page.
        bits = {"msb_bits": self.msb_bits, "value_bits": self.format.value_bits or 0}
        kv_append_(self.keys, self.values, k, v, self.lengths, **bits, pages=self.pages)
        self._counts = [held + count for held, count in zip(self._counts, added, strict=True)]
        self.lengths = self.lengths + (tokens if counts is None else torch.tensor(added, device=self.device))
        self.width = max(self.width, *self._counts)

    def reserve(self, tokens: int) -> None:
        """Give every sequence pages for `tokens` slots and let `width` be that, so that shapes stay while tokens come.

        Raises InvalidValueError where a sequence is longer already, or where there are not so many pages.
        """
        if tokens < max(self._counts):
            raise InvalidValueError(f"tokens is {tokens}", where="tokens", expected=f"at least {max(self._counts)}")
        self._take([tokens] * self.batch)
        self.width = tokens

    def release(self, sequence: int) -> None:
        """Empty a sequence and give its pages back.

        Raises InvalidValueError for a sequence that is none of the store.
        """
        if not 0 <= sequence < self.batch:
            expected = f"0 ... {self.batch - 1}"
            raise InvalidValueError(f"sequence is {sequence}", where="sequence", expected=expected)
        self._give_back(sequence, 0)
        self._counts[sequence] = 0
        self.lengths[sequence] = 0
        self.width = max(self._counts)

    def evict(self, keep: Tensor, counts: Sequence[int] | None = None) -> None:
        """Remove all rows but the kept ones for good, in place, and give back the pages that become empty.

        Waits for the device, whose rows are checked.

        Parameters
        ----------
        keep: int64 [B, m], ascending slots of each sequence. counts: how many of them count; None: all m.

        Raises
        ------
        ShapeError, DtypeError: keep of another shape or type. InvalidValueError: counts outside of 0 ... m, or rows
        that are not ascending slots of their sequence; nothing is changed then.
        """
        if keep.dim() != 2 or keep.shape[0] != self.batch:
            raise ShapeError(f"keep is {list(keep.shape)}", where="keep", expected=f"[{self.batch}, rows]")
        if keep.dtype is not torch.int64:
            raise DtypeError(f"keep is {keep.dtype}", where="keep", expected="int64")
        kept = self._each(counts, keep.shape[1])
        keep = keep.to(self.device)
        counted = torch.tensor(kept, device=self.device)
        there = torch.arange(keep.shape[1], device=self.device) < counted[:, None]
        before = torch.nn.functional.pad(keep, (1, 0), value=-1)[:, :-1]
        if bool((there & ((keep <= before) | (keep >= self.lengths[:, None]))).any()):
            expected = "ascending slots of their sequence"
            raise InvalidValueError("rows that are not such", where="keep", expected=expected)
        sequence, place = there.nonzero(as_tuple=True)
        old_page, old_row = self._places(sequence, keep[there])
        new_page, new_row = self._places(sequence, place)
        for part in (*self.keys, *self.values):
            part[new_page, :, new_row] = part[old_page, :, old_row]  # all are read before one is written
        for index, count in enumerate(kept):
            self._give_back(index, -(-count // self.page_size))
        self._counts, self.lengths, self.width = kept, counted, max(kept)

    def reorder(self, index: Tensor | Sequence[int]) -> None:
        """Make sequence index[i] the i-th: reorders beams, selects sequences or repeats them. index: int64 [B'].

        The first that follows a sequence takes its pages as they are, further ones get copies, and pages of sequences
        that nobody follows are free again. Waits for the device where `index` is on it.

        Raises InvalidValueError for sequences that there are not, for none, or where there are not so many pages;
        nothing is changed then.
        """
        chosen = index.tolist() if isinstance(index, Tensor) else [int(sequence) for sequence in index]
        if not chosen or not all(0 <= sequence < self.batch for sequence in chosen):
            expected = f"one or more of 0 ... {self.batch - 1}"
            raise InvalidValueError(f"index is {chosen}", where="index", expected=expected)
        left = set(range(self.batch)) - set(chosen)
        room = self.free + sum(len(self._held[sequence]) for sequence in left)
        repeated = [sequence for place, sequence in enumerate(chosen) if sequence in chosen[:place]]
        self._require_pages(sum(len(self._held[sequence]) for sequence in repeated), room)
        for sequence in left:
            self._give_back(sequence, 0)
        held: list[list[int]] = []
        for place, sequence in enumerate(chosen):
            own = self._held[sequence]
            held.append(self._copied(own) if sequence in chosen[:place] else own)
        table = torch.full((len(chosen), self.pages.shape[1]), -1, dtype=torch.int32)
        for place, pages in enumerate(held):
            table[place, : len(pages)] = torch.tensor(pages, dtype=torch.int32)
        self.pages = table.to(self.device)
        picked = torch.tensor(chosen, device=self.device)
        self.starts, self.lengths = self.starts[picked], self.lengths[picked]
        self._held, self._counts = held, [self._counts[sequence] for sequence in chosen]
        self.width = max(self._counts)

    def repeat(self, times: int) -> None:
        """Follow each sequence by times - 1 copies of it."""
        self.reorder([sequence for sequence in range(self.batch) for _ in range(times)])

    def k(self) -> Tensor:
        """Keys [B, Hkv, width, D] as the kernels see them with all bits: in `format.dtype`, or fp32 of planes."""
        parts = [self._rows(part) for part in self.keys]
        if self.format.key_bits is None:
            return parts[0]
        return join_keys(tuple(parts[:-1]), self.msb_bits, self.head_dim).float() * parts[-1][..., None]

    def v(self) -> Tensor:
        """Values [B, Hkv, width, Dv] in `format.dtype`, or fp32 of integers."""
        parts = [self._rows(part) for part in self.values]
        return parts[0] if len(parts) == 1 else parts[0].float() * parts[1][..., None]

    def seen(self) -> Tensor:
        """Which slots hold a token of the sequence: bool [B, width]."""
        return torch.arange(self.width, device=self.device) < self.lengths[:, None]

    def _rows(self, part: Tensor) -> Tensor:
        return paged.gather(part, self.pages.clamp(min=0))[:, :, : self.width]

    def _each(self, counts: Sequence[int] | None, most: int) -> list[int]:
        """A number of 0 ... most for each sequence; None: `most`."""
        numbers = [most] * self.batch if counts is None else [int(count) for count in counts]
        if len(numbers) != self.batch or not all(0 <= count <= most for count in numbers):
            expected = f"{self.batch} numbers of 0 ... {most}"
            raise InvalidValueError(f"counts is {numbers}", where="counts", expected=expected)
        return numbers

    def _places(self, sequence: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Page and row of slots of sequences."""
        return self.pages[sequence, slot // self.page_size].long(), slot % self.page_size

    def _give_back(self, sequence: int, left: int) -> None:
        """Free all pages of a sequence but the first `left`."""
        self._free += reversed(self._held[sequence][left:])
        del self._held[sequence][left:]
        self.pages[sequence, left:] = -1

    def _copied(self, pages: list[int]) -> list[int]:
        """Free pages with what these hold."""
        fresh = [self._free.pop() for _ in pages]
        for part in (*self.keys, *self.values):
            part[fresh] = part[pages]
        return fresh

    def _require_pages(self, needed: int, free: int) -> None:
        if needed > free:
            raise InvalidValueError(
                f"{needed} pages are needed, {free} are free",
                where="pool",
                expected="as many free pages",
                hint="release sequences that have ended, or make the store with a larger pool",
            )

    def _take(self, tokens: Sequence[int]) -> None:
        """Give every sequence the pages for so many tokens."""
        wanted = [-(-count // self.page_size) for count in tokens]
        missing = [max(0, count - len(held)) for count, held in zip(wanted, self._held, strict=True)]
        if max(wanted) > self.pages.shape[1]:
            expected = f"at most {self.pages.shape[1] * self.page_size}, the longest sequence"
            raise InvalidValueError(f"a sequence of {max(tokens)} tokens", where="tokens", expected=expected)
        self._require_pages(sum(missing), self.free)
        if not sum(missing):
            return
        places: list[tuple[int, int, int]] = []
        for sequence, count in enumerate(missing):
            for _ in range(count):
                places.append((sequence, len(self._held[sequence]), self._free.pop()))
                self._held[sequence].append(places[-1][2])
        table = torch.tensor(places, device=self.device).T
        self.pages[table[0], table[1]] = table[2].int()
