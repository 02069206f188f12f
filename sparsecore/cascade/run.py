"""The record of one cascade run: which tokens and heads each layer computed for each sequence."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from simulator.codec import decode, encode
from simulator.files import check_version, write_atomic
from simulator.workload.ir import ModelInfo
from sparsecore.cascade.schedule import Schedule
from sparsecore.cascade.work import Work, work_of
from sparsecore.errors import CorruptFileError, FileMissingError

__all__ = ["CascadeRun"]

FORMAT_VERSION = "1.1"
_KEY = "sparsecore.cascade_run"


@dataclass(frozen=True, slots=True, eq=False)
class CascadeRun:
    """What happened to B sequences, padded to L positions. All tensors are int32 on the CPU.

    Cascade pruning only ever removes, so one number per position and per head says everything: in how many layers, from
    the first, it took part.

    Parameters
    ----------
    schedule, model: what was asked for, and the sizes of the model.
    lengths: tokens of each sequence before pruning.
    survived: [B, L] layers that computed the position; 0 for padding.
    heads_survived: [B, H] layers that computed the head.
    values: [layers, B, H] V rows fetched: the union over the queries; 0 for a pruned head.
    low_queries: [layers, B, H] queries computed again with the low bits of K.
    narrowed: whether the projections computed the kept heads only.
    """

    schedule: Schedule
    model: ModelInfo
    lengths: tuple[int, ...]
    survived: Tensor
    heads_survived: Tensor
    values: Tensor
    low_queries: Tensor
    narrowed: bool = False

    def tokens(self, layer: int, sequence: int) -> Tensor:
        """Return the positions that `layer` computed for `sequence`, int64, ascending."""
        return (self.survived[sequence] > layer).nonzero().flatten()

    def heads(self, layer: int, sequence: int) -> Tensor:
        """Return the heads that `layer` computed for `sequence`, int64, ascending."""
        return (self.heads_survived[sequence] > layer).nonzero().flatten()

    def local_values(self, layer: int, sequence: int) -> int:
        """Return how many V rows each query of `layer` multiplied."""
        return self.schedule.value_count(int((self.survived[sequence] > layer).sum()), layer)

    @property
    def token_counts(self) -> Tensor:
        """Tokens computed by each layer for each sequence, int64 [layers, B]."""
        return torch.stack([(self.survived > layer).sum(1) for layer in range(self.model.layers)])

    @property
    def head_counts(self) -> Tensor:
        """Heads computed by each layer for each sequence, int64 [layers, B]."""
        return torch.stack([(self.heads_survived > layer).sum(1) for layer in range(self.model.layers)])

    @property
    def keep_mask(self) -> Tensor:
        """Positions that went through all layers, bool [B, L]."""
        return self.survived == self.model.layers

    @property
    def token_keep(self) -> float:
        """Mean over sequences and layers of kept tokens over the sequence's own length; 1 where there are none."""
        shares = [self.token_counts[:, b].double() / n for b, n in enumerate(self.lengths) if n]
        return float(torch.stack(shares).mean()) if shares else 1.0

    @property
    def head_keep(self) -> float:
        """Mean over sequences and layers of the share of heads kept; 1 where there are none."""
        return float(self.head_counts.double().mean()) / self.model.heads if self.lengths else 1.0

    @property
    def work(self) -> Work:
        """The shares of the dense model's multiply-adds that were done, part by part."""
        return work_of(self.lengths, self.token_counts, self.head_counts, self.model, self.narrowed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file: the tensors, and the rest as JSON in its header; an interrupt keeps the old file.

        Raises
        ------
        FileMissingError: the folder does not exist.
        """
        head = {
            "version": FORMAT_VERSION,
            "schedule": self.schedule.to_json(),
            "model": encode(self.model),
            "lengths": list(self.lengths),
            "narrowed": self.narrowed,
        }
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        write_atomic(path, to_bytes(tensors, metadata={_KEY: json.dumps(head)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CascadeRun:
        """Read what `save` wrote.

        Raises
        ------
        FileMissingError: no such file.
        CorruptFileError: damaged, or not the record of a cascade run.
        FormatVersionError: written by a newer major version.
        """
        where = str(path)
        head, tensors = _read(where)
        newer = check_version(head.get("version"), FORMAT_VERSION, where)
        lengths = head.get("lengths")
        if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
            raise CorruptFileError("the lengths are not a list of counts", where=where)
        run = cls(
            schedule=decode(Schedule, head.get("schedule"), f"{where}: schedule", ignore_unknown=newer),
            model=decode(ModelInfo, head.get("model"), f"{where}: model", ignore_unknown=newer),
            lengths=tuple(lengths),
            narrowed=head.get("narrowed") is True,
            **tensors,
        )
        run._check(where)
        return run

    def _check(self, where: str) -> None:
        batch, layers, heads = len(self.lengths), self.model.layers, self.model.heads
        per_head = (layers, batch, heads)
        shapes = {"heads_survived": (batch, heads), "values": per_head, "low_queries": per_head}
        for name, shape in shapes.items():
            if (found := tuple(getattr(self, name).shape)) != shape:
                raise CorruptFileError(f"tensor {name!r} has shape {found}", where=where, expected=str(shape))
        if self.survived.dim() != 2 or (self.survived > 0).sum(1).tolist() != list(self.lengths):
            raise CorruptFileError("tensor 'survived' does not fit the lengths of the sequences", where=where)
        for name in _TENSORS:
            tensor = getattr(self, name)
            limit = layers if name in ("survived", "heads_survived") else max(self.lengths, default=0)
            if tensor.dtype != torch.int32 or not bool(((tensor >= 0) & (tensor <= limit)).all()):
                raise CorruptFileError(f"tensor {name!r} is out of range", where=where, expected=f"int32, 0 to {limit}")


_TENSORS = ("survived", "heads_survived", "values", "low_queries")


def _read(where: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(where, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileMissingError("the file does not exist", where=where, hint="check the path") from error
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"the file is not readable as safetensors: {error}", where=where) from error
    if text is None or set(tensors) != set(_TENSORS):
        raise CorruptFileError(
            "the file is not the record of a cascade run", where=where, expected="a file written by CascadeRun.save"
        )
    try:
        head = json.loads(text)
    except json.JSONDecodeError as error:
        raise CorruptFileError(f"the header is not JSON: {error}", where=where) from error
    if not isinstance(head, dict):
        raise CorruptFileError("the header is not a JSON object", where=where)
    return head, tensors
