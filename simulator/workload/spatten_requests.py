"""A workload from the requests of SpAtten's authors, and the requests of a workload.

Every row becomes one head of an attention op; heads of a layer that follow each other and agree in all counts share an
op. A row with a selection ends its op, because a selection follows the op that names it.

Widths of -1 say that nothing was quantised. The released programs run V as 8 bits then, and K as 8 bits, in the
generation with 4 low bits that every query needs ("8+4"); the reductions of the paper count from 32 bits ("32").
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

from simulator.errors import InvalidValueError, UnsupportedError
from simulator.files import write_atomic
from simulator.workload.ir import AttentionOp, Kind, ModelInfo, Phase, Workload
from simulator.workload.ir import Sequence as InputSequence
from simulator.workload.spatten_csv import Request, read_request_file

__all__ = ["Unquantised", "read_requests", "write_requests"]

Unquantised = Literal["8+4", "32"]
_DECISIONS = ("tokens", "heads", "values", "lsb", "bits")
_NOTES = {
    "8+4": "widths of -1 run as in the released programs: V 8 bits, K 8 bits and 4 low ones for every query generated",
    "32": "widths of -1 run as 32 bits, from which the reductions of the paper count",
}


@dataclass(frozen=True, slots=True)
class _Widths:
    """Stored widths of a request, and how many of its queries are computed again."""

    query: int
    key: int
    low: int
    value: int
    low_queries: int

    @staticmethod
    def of(request: Request, unquantised: Unquantised, summarises: bool) -> _Widths:
        """Return the widths that a request runs with."""
        whole = unquantised == "32"
        query = request.query_bits if request.query_bits > 0 else 32 if whole else 12
        value = request.value_bits if request.value_bits > 0 else 32 if whole else 8
        if request.key_bits > 0:
            return _Widths(query, request.key_bits, request.low_bits, value, request.low_queries)
        if whole or summarises:
            return _Widths(query, 32 if whole else 8, 0, value, 0)
        return _Widths(query, 8, 4, value, request.queries)


def read_requests(path: Path, unquantised: str = "8+4", known: Sequence[ModelInfo] = ()) -> Workload:
    """Return the workload of a file of requests.

    Parameters
    ----------
    unquantised: what a width of -1 stands for, see above. known: models whose other sizes are taken where layers, heads
    and the size of a head are theirs.

    Raises
    ------
    InvalidValueError: another `unquantised`. Else as `simulator.workload.spatten_csv.read_request_file`.
    """
    if unquantised not in get_args(Unquantised):
        raise InvalidValueError(f"{unquantised!r} bits", where="--unquantised", expected="8+4 or 32")
    file = read_request_file(path)
    stored: Unquantised = "32" if unquantised == "32" else "8+4"
    widths = [_Widths.of(request, stored, file.summarises) for request in file.requests]
    steps = {iteration: index for index, iteration in enumerate(dict.fromkeys(r.iteration for r in file.requests))}
    groups = list(_groups(file.requests, widths))
    places = [(group[0][0].iteration, group[0][0].layer) for group in groups]
    ops = tuple(
        _op(group, file.summarises, steps, now == then)
        for group, now, then in zip(groups, places, [*places[1:], None], strict=True)
    )
    notes = ["the workload holds the attention alone: the file says nothing about other ops"]
    if any(-1 in (r.key_bits, r.query_bits, r.value_bits) for r in file.requests):
        notes.append(_NOTES[unquantised])
    return Workload(
        name=path.name,
        model=_model(file.requests, file.summarises, known),
        sequences=_sequences(file.requests, file.summarises, steps),
        attention=ops,
        linear=(),
        other=(),
        schedule=file.configuration or "requests of the file",
        source=str(path),
        notes=tuple(notes),
    )


def _groups(requests: Sequence[Request], widths: Sequence[_Widths]) -> Iterator[list[tuple[Request, _Widths]]]:
    """Yield the heads that make one op: neighbours of ascending number that agree in everything else."""
    group: list[tuple[Request, _Widths]] = []
    for request, width in zip(requests, widths, strict=True):
        if group and not _together(group[-1], (request, width)):
            yield group
            group = []
        group.append((request, width))
    yield group


def _together(last: tuple[Request, _Widths], new: tuple[Request, _Widths]) -> bool:
    def same(request: Request, width: _Widths) -> tuple[int, ...]:
        counts = (request.length, request.keys, request.values)
        return (request.iteration, request.layer, *counts, width.query, width.key, width.low, width.value)

    return last[0].select is None and last[0].head < new[0].head and same(*last) == same(*new)


def _op(group: list[tuple[Request, _Widths]], summarises: bool, steps: dict[int, int], continues: bool) -> AttentionOp:
    (first, width), last = group[0], group[-1][0]
    phase: Phase = "summarise" if summarises else "generate"
    kind: Kind = "published"
    # A selection for the next iteration's first layer takes from all tokens, not only from those of this layer.
    candidates = first.keys if (last.select or 0) <= first.keys else first.length
    return AttentionOp(
        layer=first.layer,
        sequence=steps[first.iteration] if summarises else 0,
        phase=phase,
        step=0 if summarises else first.iteration,
        context=first.length,
        queries=first.queries,
        keys=first.keys,
        heads=tuple(request.head for request, _ in group),
        kv_heads=len(group),
        head_dim=first.dim,
        values=(first.values,) * len(group),
        local_values=first.values,
        lsb_queries=tuple(width.low_queries for _, width in group),
        query_bits=width.query,
        key_msb_bits=width.key,
        key_lsb_bits=width.low,
        value_bits=width.value,
        token_select=None if last.select is None else (candidates, last.select),
        kind=dict.fromkeys(_DECISIONS, kind),
        continues=continues,
    )


def _model(requests: Sequence[Request], summarises: bool, known: Sequence[ModelInfo]) -> ModelInfo:
    layers, heads = (1 + max(getattr(r, name) for r in requests) for name in ("layer", "head"))
    family, dim = "bert" if summarises else "gpt2", requests[0].dim
    for model in known:
        if (model.family, model.layers, model.heads, model.head_dim) == (family, layers, heads, dim):
            return model
    return ModelInfo("unknown", layers, heads, heads, dim, heads * dim, 0, 0, 0, "f32")


def _sequences(requests: Sequence[Request], summarises: bool, steps: dict[int, int]) -> tuple[InputSequence, ...]:
    """Return one sequence for each iteration of a summarisation; else the prompt, one token before the first one."""
    if not summarises:
        return (InputSequence(0, requests[0].length - 1),)
    lengths = {steps[request.iteration]: request.length for request in requests}
    return tuple(InputSequence(index, length) for index, length in sorted(lengths.items()))


def write_requests(workload: Workload, path: Path) -> None:
    """Write the attention of `workload` as a file that the authors' programs read.

    Raises
    ------
    UnsupportedError: both phases, several sequences, or a decision that the format has no column for.
    """
    phases = {op.phase for op in workload.attention}
    rows = list(chain.from_iterable(_rows(op, str(path)) for op in workload.attention)) if len(phases) == 1 else []
    if not rows or (phases == {"generate"} and len(workload.sequences) > 1):
        raise UnsupportedError(
            "a file of requests holds the summarisation, or the generation of one sequence",
            where=str(path),
            hint="choose a workload of one phase, such as gpt2-medium@wikitext2",
        )
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    out.write(workload.schedule.replace(",", ";") + "," * (len(rows[0]) - 1) + "\n")
    write_atomic(path, out.getvalue())


def _rows(op: AttentionOp, where: str) -> Iterator[dict[str, object]]:
    """Yield the rows of an op; those of a step in the order of its layers, as the authors' files have them."""
    summarises = op.phase == "summarise"
    rows = op.keys if summarises else op.local_values
    plain = {*op.values, op.local_values} == {rows} and op.kv_heads == len(op.heads)
    if not plain or op.queries != (op.keys if summarises else 1):
        raise UnsupportedError(
            f"the format has no column for what layer {op.layer} does",
            where=where,
            expected="a K/V head for each head; in the summarisation all rows of V, in the generation one query",
        )
    for head, low in zip(op.heads, op.lsb_queries, strict=True):
        last = op.token_select is not None and head == op.heads[-1]
        keys = {"key_value_query_fetch_num": op.keys} if summarises else {"key_fetch_num": op.keys}
        yield {
            "iteration_id": op.sequence if summarises else op.step,
            "layer_id": op.layer,
            "head_id": head,
            "embedding_length_D": op.head_dim,
            "sentence_length_L": op.context,
            **keys,
            "quant_key_bit": op.key_msb_bits,
            "quant_query_bit": op.query_bits,
            "auto_requant_thres": -1,
            "if_requant": low > 0,
            "auto_requant_incre": op.key_lsb_bits or -1,
            **({"auto_requant_num": low} if summarises else {"value_fetch_num": op.local_values}),
            "quant_value_bit": op.value_bits,
            "if_accumulate_importance": True,
            "if_rescale_previous_importance": False,
            "if_topk": last,
            "topk": op.token_select[1] if last and op.token_select else -1,
        }
