"""The compiled module. A span is (pointer, bytes, shape, strides in elements, dtype name); see csrc/bindings."""

from collections.abc import Sequence
from typing import Any

_Span = tuple[int, int, tuple[int, ...], tuple[int, ...], str]

CUDA_GATHERED_LAYOUTS: dict[int, int]

def available_isas() -> list[str]: ...
def compiled_isas() -> list[str]: ...
def cpu_features() -> dict[str, bool]: ...
def limits_peak_rate(unit: str, threads: int, seconds: float) -> float: ...
def limits_read_rate(size: int, threads: int, seconds: float) -> float: ...
def num_threads_runtime() -> str: ...
def runtime_isa() -> str: ...
def set_isa(name: str) -> None: ...
def bitmask_count(dense: _Span) -> int: ...
def bitmask_pack(dense: _Span, compressed: _Span, bitmask: _Span, row_offsets: _Span) -> None: ...
def bitmask_unpack(compressed: _Span, bitmask: _Span, row_offsets: _Span, dense: _Span) -> None: ...
def bitmask_validate(compressed: _Span, bitmask: _Span, row_offsets: _Span, cols: int) -> None: ...
def block_count(dense: _Span, r: int, c: int) -> int: ...
def block_pack(dense: _Span, r: int, c: int, blocks: _Span, block_cols: _Span, block_row_offsets: _Span) -> None: ...
def block_unpack(blocks: _Span, block_cols: _Span, block_row_offsets: _Span, dense: _Span) -> None: ...
def block_validate(blocks: _Span, block_cols: _Span, block_row_offsets: _Span, rows: int, cols: int) -> None: ...
def nm_bitmask_to_codes(bitmask: _Span, cols: int, n: int, m: int, codes: _Span) -> None: ...
def nm_code_bytes(kept_per_row: int, m: int) -> int: ...
def nm_codes_to_bitmask(codes: _Span, cols: int, n: int, m: int, bitmask: _Span) -> None: ...
def nm_kept_per_row(cols: int, n: int, m: int) -> int: ...
def nm_pack(dense: _Span, n: int, m: int, compressed: _Span, bitmask: _Span) -> None: ...
def nm_unpack(compressed: _Span, bitmask: _Span, n: int, m: int, dense: _Span) -> None: ...
def nm_validate(bitmask: _Span, cols: int, n: int, m: int) -> None: ...
def nm_validate_codes(codes: _Span, cols: int, n: int, m: int) -> None: ...
def packed_linear(x: _Span, resident: _Span, bias: _Span | None, out: _Span, activation: str, threads: int) -> None: ...
def resident_info(resident: _Span) -> dict[str, Any]: ...
def resident_make(
    kind: str, rows: int, cols: int, p0: int, p1: int, stored: dict[str, _Span], isa: str, out: _Span
) -> None: ...
def resident_size(kind: str, rows: int, cols: int, p0: int, p1: int, stored: dict[str, _Span], isa: str) -> int: ...
def resident_to_stored(resident: _Span, stored_out: dict[str, _Span]) -> None: ...
def resident_validate(resident: _Span) -> None: ...
def topk_select(x: _Span, k: int, values: _Span, indices: _Span, threads: int) -> None: ...
def topk_threshold(x: _Span, k: int, out: _Span, threads: int) -> None: ...
def decode_attention(
    q: _Span,
    keys: Sequence[_Span],
    values: Sequence[_Span],
    starts: _Span,
    lengths: _Span,
    width: int,
    rows: _Span | None,
    row_counts: _Span | None,
    heads: _Span | None,
    msb_bits: int,
    scale: float,
    threshold: float,
    value_keep: float,
    value_mass: float,
    group_values: bool,
    out: _Span,
    lse: _Span,
    token_scores: _Span | None,
    head_scores: _Span | None,
    low: _Span,
    values_used: _Span,
    threads: int,
) -> None: ...
def kv_append(
    keys: Sequence[_Span],
    values: Sequence[_Span],
    new_keys: _Span,
    new_values: _Span,
    positions: _Span,
    msb_bits: int,
    value_bits: int,
    threads: int,
) -> None: ...
def kv_compact(stored: Sequence[_Span], index: _Span, counts: _Span, threads: int) -> None: ...
def bitplane_attention(
    q: _Span,
    k: _Span,
    v: _Span,
    mask: _Span | None,
    scale: float,
    msb_bits: int,
    lsb_bits: int,
    threshold: float,
    out: _Span,
    column_sums: _Span,
    needs_lsb: _Span,
    threads: int,
) -> None: ...
def scored_attention(
    q: _Span,
    k: _Span,
    v: _Span,
    mask: _Span | None,
    counted: _Span | None,
    causal: bool,
    scale: float,
    value_keep: float,
    out: _Span,
    lse: _Span,
    token_scores: _Span | None,
    head_scores: _Span | None,
    values_used: _Span,
    threads: int,
) -> None: ...
def gather_rows(x: _Span, index: _Span, out: _Span, threads: int) -> None: ...
def scatter_rows(out: _Span, positions: _Span, x: _Span, threads: int) -> None: ...
def ragged_topk(scores: _Span, counts: _Span, keep: _Span, index: _Span, threads: int) -> None: ...
def cuda_info() -> dict[str, Any]: ...
def cuda_bitmask_linear(
    x: _Span, resident: _Span, kept: int, bias: _Span | None, out: _Span, activation: str, stream: int
) -> None: ...
def cuda_expand(
    resident: _Span,
    kind: str,
    dtype: str,
    rows: int,
    cols: int,
    p0: int,
    p1: int,
    kept: int,
    layout: int,
    out: _Span,
    marks_pruned: bool,
    stream: int,
) -> None: ...
def cuda_repair(a: _Span, weight: _Span, bias: _Span | None, out: _Span, stream: int) -> None: ...
def cuda_block_linear(
    x: _Span,
    resident: _Span,
    height: int,
    width: int,
    kept: int,
    bias: _Span | None,
    out: _Span,
    activation: str,
    stream: int,
) -> None: ...
def cuda_gather_rows(x: _Span, index: _Span, out: _Span, stream: int) -> None: ...
def cuda_scatter_rows(out: _Span, positions: _Span, x: _Span, sources: _Span, stream: int) -> None: ...
def cuda_ragged_topk(
    scores: _Span, counts: _Span, keep: _Span, index: _Span, workspace: _Span, stream: int
) -> None: ...
def cuda_topk_select(x: _Span, k: int, values: _Span, indices: _Span, workspace: _Span, stream: int) -> None: ...
def cuda_topk_threshold(x: _Span, k: int, out: _Span, workspace: _Span, stream: int) -> None: ...
def cuda_topk_workspace(rows: int, n: int, k: int, dtype: str) -> int: ...
def cuda_decode_workspace(
    batch: int,
    heads: int,
    kv_heads: int,
    value_width: int,
    most_rows: int,
    prunes_values: bool,
    group_values: bool,
) -> int: ...
def cuda_decode_attention(
    q: _Span,
    keys: list[_Span],
    values: list[_Span],
    starts: _Span,
    lengths: _Span,
    width: int,
    rows: _Span | None,
    row_counts: _Span | None,
    heads: _Span | None,
    pages: _Span | None,
    msb_bits: int,
    scale: float,
    threshold: float,
    value_keep: float,
    value_mass: float,
    group_values: bool,
    out: _Span,
    lse: _Span,
    token_scores: _Span | None,
    head_scores: _Span | None,
    low: _Span,
    values_used: _Span,
    workspace: _Span,
    stream: int,
) -> None: ...
def cuda_kv_append(
    keys: list[_Span],
    values: list[_Span],
    new_keys: _Span,
    new_values: _Span,
    positions: _Span,
    pages: _Span | None,
    msb_bits: int,
    value_bits: int,
    stream: int,
) -> None: ...
def cuda_kv_compact(stored: list[_Span], index: _Span, counts: _Span, stream: int) -> None: ...
def cuda_nm_linear(
    x: _Span,
    resident: _Span,
    n: int,
    m: int,
    bias: _Span | None,
    out: _Span,
    activation: str,
    stream: int,
    workspace: _Span | None = None,
    layout: int = ...,
) -> None: ...
def cuda_int8_linear(
    x: _Span,
    resident: _Span,
    n: int,
    m: int,
    bias: _Span | None,
    out: _Span,
    activation: str,
    stream: int,
    q: _Span,
    x_scales: _Span,
    workspace: _Span | None = None,
) -> None: ...
def cuda_nm_splits(tokens: int, rows: int, cols: int, n: int, m: int, dtype: str, layout: int = ...) -> int: ...
def cuda_nm_transposed_tokens(tokens: int, rows: int, cols: int, layout: int) -> int: ...
def cuda_scored_attention(
    q: _Span,
    k: _Span,
    v: _Span,
    mask: _Span | None,
    counted: _Span | None,
    block_offsets: _Span | None,
    block_indices: _Span | None,
    query_block: int,
    key_block: int,
    causal: bool,
    scale: float,
    value_keep: float,
    out: _Span,
    lse: _Span,
    token_scores: _Span | None,
    head_scores: _Span | None,
    used: _Span | None,
    scratch: _Span,
    odd_count: _Span,
    odd_queries: _Span,
    stream: int,
) -> None: ...
def cuda_scored_attention_scratch(rows: int, keys: int) -> int: ...
