"""The request files of SpAtten's authors (github.com/mit-han-lab/spatten): one row per iteration, layer and head.

Two programs of theirs read them. The test bench of the hardware takes the generation stage: one query per row, with
`key_fetch_num` keys and `value_fetch_num` rows of V. The behaviour model of BERT takes the summarisation: as many
queries, keys and rows of V as `key_value_query_fetch_num` says. The last line may name the configuration that the file
was made from. This module checks rows; simulator.workload.spatten_requests makes a workload of them.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.errors import CorruptFileError, nearest
from simulator.files import read_bytes

__all__ = ["GENERATION", "SUMMARISATION", "Request", "RequestFile", "is_request_file", "read_request_file"]

_SHARED = (
    "layer_id",
    "head_id",
    "embedding_length_D",
    "sentence_length_L",
    "quant_key_bit",
    "quant_query_bit",
    "auto_requant_thres",
    "if_requant",
    "auto_requant_incre",
    "quant_value_bit",
    "if_accumulate_importance",
    "if_topk",
    "topk",
)
_FUSED = "key_value_query_fetch_num"
GENERATION = frozenset((*_SHARED, "iteration_id", "key_fetch_num", "value_fetch_num", "if_rescale_previous_importance"))
SUMMARISATION = frozenset((*_SHARED, _FUSED))
_OPTIONAL = {
    GENERATION: frozenset[str](),
    SUMMARISATION: frozenset(("iteration_id", "if_rescale_previous_importance", "auto_requant_num")),
}
# Far above any model: a damaged number must not become a loop over all heads or tokens.
_MOST = {"layer_id": 4095, "head_id": 1023, "embedding_length_D": 65536}
_INTEGER = re.compile(r"[+-]?[0-9]+(\.0*)?", re.ASCII)
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Request:
    """One row, checked.

    Parameters
    ----------
    line: of the file, from 1. dim: elements of a head. length: tokens before pruning.
    queries, keys, values: rows that take part. low_queries: queries computed again with the low bits of K.
    key_bits, query_bits, value_bits: stored widths; -1: not quantised. low_bits: how many more K then has, or 0.
    select: how many tokens a top-k after this head keeps, None without one.
    """

    line: int
    iteration: int
    layer: int
    head: int
    dim: int
    length: int
    queries: int
    keys: int
    values: int
    low_queries: int
    key_bits: int
    query_bits: int
    value_bits: int
    low_bits: int
    select: int | None


@dataclass(frozen=True, slots=True)
class RequestFile:
    """The rows of a file in order, whether they are of the summarisation, and the configuration that it names."""

    requests: tuple[Request, ...]
    summarises: bool
    configuration: str


def is_request_file(path: Path) -> bool:
    """Tell by its name whether a file holds requests: .csv or .csv.gz."""
    return path.name.lower().endswith((".csv", ".csv.gz"))


def read_request_file(path: Path) -> RequestFile:
    """Read and check a file of requests, plain or compressed by gzip.

    Raises
    ------
    FileMissingError: no such file.
    CorruptFileError: truncated, not text, empty, or with a column or a row that is wrong, with its line.
    """
    where = str(path)
    rows = _rows(_text(path), where)
    header, names = next(rows, (0, []))
    if not header:
        raise CorruptFileError("the file is empty", where=where, expected="a line with the names of the columns")
    columns = [name.strip() for name in names]
    summarises = _layout(columns, f"{where}, line {header}") == SUMMARISATION
    requests, configuration, end = [], "", 0
    for line, cells in rows:
        place = f"{where}, line {line}"
        if end:
            raise CorruptFileError("a row follows the line that names the configuration", where=place, expected="none")
        if _names_configuration(cells):
            configuration, end = cells[0].strip(), line
        else:
            requests.append(_Row(place, columns, cells).request(line, summarises))
    if not requests:
        raise CorruptFileError("the file has no requests", where=where, expected="a row for each head")
    _check_together(requests, where)
    return RequestFile(tuple(requests), summarises, configuration)


def _text(path: Path) -> str:
    raw = read_bytes(path)
    packed = raw.startswith(b"\x1f\x8b")
    if path.suffix.lower() == ".gz" and not packed and raw:
        raise CorruptFileError("the file is not compressed by gzip", where=str(path), hint="name it .csv if it is text")
    try:
        return (gzip.decompress(raw) if packed else raw).decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorruptFileError(
            f"the compressed file is truncated or damaged: {error}", where=str(path), hint="copy it again"
        ) from error
    except UnicodeDecodeError as error:
        raise CorruptFileError("the file is not text", where=str(path), expected="comma-separated UTF-8") from error


def _rows(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank with their line numbers."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorruptFileError(f"not a row of CSV: {error}", where=f"{where}, line {reader.line_num}") from error
        if any(cell.strip() for cell in cells):
            yield reader.line_num, cells


def _layout(columns: Sequence[str], where: str) -> frozenset[str]:
    layout = SUMMARISATION if _FUSED in columns else GENERATION
    known = layout | _OPTIONAL[layout]
    unknown = [name for name in columns if name not in known]
    if missing := sorted(layout - set(columns)):
        near = nearest(missing[0], unknown) if unknown else ""
        raise CorruptFileError(
            f"the column {missing[0]!r} is missing", where=where, expected=_listed(layout), hint=near
        )
    if unknown:
        raise CorruptFileError(
            f"unknown column {unknown[0]!r}", where=where, expected=_listed(known), hint=nearest(unknown[0], known)
        )
    if twice := [name for i, name in enumerate(columns) if name in columns[:i]]:
        raise CorruptFileError(f"the column {twice[0]!r} is there twice", where=where, expected="once")
    return layout


def _listed(names: frozenset[str]) -> str:
    return "the columns " + ", ".join(sorted(names))


def _names_configuration(cells: Sequence[str]) -> bool:
    return not any(cell.strip() for cell in cells[1:]) and not _INTEGER.fullmatch(cells[0].strip())


class _Row:
    """The cells of one row by column."""

    def __init__(self, where: str, columns: Sequence[str], cells: Sequence[str]) -> None:
        self.where = where
        if len(cells) != len(columns):
            raise CorruptFileError(
                f"the row has {len(cells)} cells", where=where, expected=str(len(columns)), hint="it may be truncated"
            )
        self.cells: Mapping[str, str] = dict(zip(columns, (cell.strip() for cell in cells)))

    def wrong(self, what: str, column: str, expected: str) -> CorruptFileError:
        """Return the error about a cell."""
        return CorruptFileError(what, where=f"{self.where}, column {column}", expected=expected)

    def integer(self, column: str, least: int, most: int = 2**31 - 1) -> int:
        """Return a whole number; "64.0" is one."""
        text = self.cells[column]
        if not _INTEGER.fullmatch(text):
            raise self.wrong(f"{text!r} is not an integer", column, f"an integer of {least} or more")
        value = int(text.partition(".")[0]) if len(text) <= 20 else most + 1
        if not least <= value <= most:
            kind = "is negative" if value < 0 else "is out of range"
            raise self.wrong(f"{column} {text} {kind}", column, f"{least} to {most}")
        return value

    def truth(self, column: str) -> bool:
        """Return a switch."""
        text = self.cells[column]
        if text.lower() not in _BOOLEANS:
            raise self.wrong(f"{text!r} is no truth value", column, "True or False")
        return _BOOLEANS[text.lower()]

    def bits(self, column: str) -> int:
        """Return a width, -1 for not quantised."""
        value = self.integer(column, -1, 32)
        if value == 0:
            raise self.wrong("a width of 0 bits", column, "1 to 32, or -1 for not quantised")
        return value

    def request(self, line: int, summarises: bool) -> Request:
        """Return the checked row."""
        length = self.integer("sentence_length_L", 1)
        name = _FUSED if summarises else "key_fetch_num"
        keys = self.rows(name, 1, length, "tokens of the sentence")
        values = keys if summarises else self.rows("value_fetch_num", 0, keys, "keys: a row of V needs its probability")
        queries = keys if summarises else 1
        low_bits, low_queries = self.low(queries)
        self.truth("if_accumulate_importance")
        return Request(
            line=line,
            iteration=self.integer("iteration_id", 0) if "iteration_id" in self.cells else 0,
            layer=self.integer("layer_id", 0, _MOST["layer_id"]),
            head=self.integer("head_id", 0, _MOST["head_id"]),
            dim=self.integer("embedding_length_D", 1, _MOST["embedding_length_D"]),
            length=length,
            queries=queries,
            keys=keys,
            values=values,
            low_queries=low_queries,
            key_bits=self.bits("quant_key_bit"),
            query_bits=self.bits("quant_query_bit"),
            value_bits=self.bits("quant_value_bit"),
            low_bits=low_bits,
            select=self.select(length),
        )

    def rows(self, column: str, least: int, most: int, of: str) -> int:
        """Return a number of rows, which are among `most` others."""
        value = self.integer(column, least)
        if value > most:
            raise self.wrong(f"{column} is {value} of {most} {of}", column, f"{least} to {most}")
        return value

    def low(self, queries: int) -> tuple[int, int]:
        """Return the low bits of K and how many queries need them."""
        bits = self.integer("auto_requant_incre", -1, 31)
        threshold, column = self.cells["auto_requant_thres"], "auto_requant_thres"
        try:
            known = 0 <= float(threshold) <= 1 or float(threshold) == -1
        except ValueError:
            known = False
        if not known:
            raise self.wrong(f"{threshold!r} is no threshold", column, "a probability, or -1 for none")
        needed = queries if self.truth("if_requant") else 0
        if needed and bits < 1:
            raise self.wrong(f"if_requant is set, and K has {bits} low bits", "auto_requant_incre", "1 or more")
        if "auto_requant_num" in self.cells:
            count = self.integer("auto_requant_num", -1)
            needed = min(needed, self.rows("auto_requant_num", 0, queries, "queries")) if count >= 0 else needed
        return max(bits, 0), needed

    def select(self, length: int) -> int | None:
        """Return how many tokens are kept by the selection behind this head."""
        kept = self.integer("topk", -1)
        if not self.truth("if_topk"):
            return None
        if not 1 <= kept <= length:
            raise self.wrong(f"if_topk is set, and topk is {kept}", "topk", f"1 to {length}, the sentence's length")
        return kept


def _check_together(requests: Sequence[Request], where: str) -> None:
    """Check what rows say of each other: each head once, heads of one size, one length for the heads of a layer."""
    size, heads, layers = requests[0], dict[tuple[int, int, int], Request](), dict[tuple[int, int], Request]()
    for request in requests:
        iteration, layer, head = name = (request.iteration, request.layer, request.head)
        twin, sister = heads.setdefault(name, request), layers.setdefault((iteration, layer), request)
        if twin is not request:
            what, column, expected = (
                f"iteration {iteration}, layer {layer}, head {head} is there twice",
                "head_id",
                "once",
            )
            before = twin
        elif request.dim != size.dim:
            what, column, expected = f"a head of {request.dim} elements", "embedding_length_D", str(size.dim)
            before = size
        elif request.length != sister.length:
            what, column, expected = f"a sentence of {request.length} tokens", "sentence_length_L", str(sister.length)
            before = sister
        else:
            continue
        raise CorruptFileError(
            what,
            where=f"{where}, line {request.line}, column {column}",
            expected=f"{expected}, see line {before.line}",
        )
