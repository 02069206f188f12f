"""`sparsify`: replaces the layers of a pruned model that run at least as fast packed as dense."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsecore.dispatch import ACCEPTED, LayerCost, Ratio, predict, token_grid
from sparsecore.dtypes import QUANTISED, is_quantised
from sparsecore.errors import CudaError, InvalidValueError, NamedError, PatternError, ShapeError
from sparsecore.formats import find_pattern, pack
from sparsecore.huggingface import attach
from sparsecore.inputs import Inputs
from sparsecore.nn import SparseExperts, SparseLinear
from sparsecore.nn.sparse_experts import follows_convention
from sparsecore.packed import PackedWeight
from sparsecore.patterns import Pattern, parse
from sparsecore.report import Row, dense_row, keep_rows, values_name
from sparsecore.semi_structured import is_semi_structured, natural_pattern
from sparsecore.survey import FilterFn, Found, survey
from sparsecore.trial import Pair, observed_tokens, time_pairs

__all__ = ["sparsify"]

_NO_END = 2**62


def sparsify(
    model: nn.Module,
    inputs: Inputs = None,
    tokens: tuple[int, int] = (1, 2048),
    filter_fn: FilterFn | None = None,
    keep_dense: bool = False,
    pattern: Pattern | str | None = None,
    min_ratio: float = ACCEPTED,
    dtype: torch.dtype | str | None = None,
) -> nn.Module:
    """Replace in place every nn.Linear, transformers Conv1D and fused-experts parameter that pays; return `model`.

    Layers on a CUDA device are packed for its kernels and judged by its table, or by a model where none was measured.

    A layer is packed only if at no number of tokens looked at it is below `min_ratio` of the speed of the dense layer;
    all others stay as they are, with the reason in `sparsecore.report(model)`. Nothing is printed. A weight that is a
    semi-structured tensor of torch is packed in any case.

    inputs: a tensor, a tuple of arguments, a mapping of keyword arguments, or a list of such batches. The model runs
        once on them, and every layer is timed both ways, in turns, at the token counts that it saw and at steps of 8
        through `tokens`, for some 20 ms; layers of equal sizes, type, pattern and density are timed together, and what
        20 s in all are too short for is predicted. Without inputs a calibration of the machine decides, at steps of 2
        (see `sparsecore.calibration`).
    tokens: lowest and highest number of tokens (batch x sequence) a layer will be given.
    filter_fn: filter_fn(module, name) -> False keeps a layer dense.
    keep_dense: pack also what is slower at some number of tokens, hold its dense form as well, and use at each number
        of tokens the form that was faster there.
    pattern: pattern to pack in; default: found from the zeros of each weight.
    min_ratio: 0 packs all that can be packed without looking at the speed, to save memory. On a GPU, where no kernel
        pays for many tokens, such a weight is written out for the call; the report says what that costs.
    dtype: "int8" or "fp8" (torch.int8, torch.float8_e4m3fn) quantises what is packed, with one scale an output;
        activations keep their type and are quantised at each call, one scale a token. The outputs then differ from
        those of the dense model: see `sparsecore.quantise.output_error`. Default: values keep their type. fp8 is for
        GPUs from Ada on and 2:4: a CPU has no instructions for it, and computes it slowly.

    Raises InvalidValueError for a range of tokens that is none, for another dtype, or where `model` is itself the
    layer.
    """
    _check(tokens, min_ratio)
    wanted = None if pattern is None else parse(pattern)
    values = _values_dtype(dtype)
    timed = min_ratio > 0 or keep_dense
    rows: list[Row] = []
    waiting: list[Candidate] = []
    pending = deque(survey(model, filter_fn))
    _refuse_root(model, pending)
    pending, converted = _convert(model, pending, values)
    rows.extend(converted)
    while pending:
        # Taken out one by one, so that a dense weight is freed as soon as it is replaced.
        found = pending.popleft()
        candidate = found.reason or _pack(found, wanted, values)
        if isinstance(candidate, Candidate):
            waiting.append(candidate)
        else:
            rows.append(dense_row(found.name, found.kind, candidate, found.dense_bytes, found.density))
        if inputs is None and not (pending and pending[0].module is found.module):
            _predict([one for one in waiting if timed or one.found.weight.is_cuda], token_grid(tokens, 2))
            rows.extend(_settle(model, waiting, min_ratio, keep_dense))
            waiting = []
    if inputs is not None:
        if timed:
            _measure(model, inputs, waiting, tokens)
        else:
            _predict([one for one in waiting if one.found.weight.is_cuda], token_grid(tokens, 2))
        rows.extend(_settle(model, waiting, min_ratio, keep_dense))
    keep_rows(model, rows)
    attach(model)
    return model


@dataclass(slots=True)
class Candidate:
    """A weight that may be packed, with its packed layers: one, or one for each expert of a 3-D parameter."""

    found: Found
    layers: list[SparseLinear]
    ratios: tuple[Ratio, ...] = ()

    @property
    def pattern_name(self) -> str:
        """Name of the pattern, or of all patterns that the experts have."""
        return " / ".join(sorted({layer.pattern.name for layer in self.layers}))

    def pairs(self) -> Iterator[Pair]:
        """Every packed layer beside its dense form."""
        experts = self.found.kind == "experts"
        dense_bytes = self.found.dense_bytes // len(self.layers)
        for layer, matrix in zip(self.layers, self.found.matrices if experts else (None,), strict=True):
            shape = (layer.out_features, layer.in_features)
            cost = LayerCost(
                layer.pattern,
                layer.density,
                shape,
                self.found.weight.dtype,
                dense_bytes,
                layer.held_bytes,
                layer.weight_dtype,
                layer.weight_device,
                layer.packed.layout,
            )
            yield Pair(cost, self.found.module if matrix is None else partial(_linear, matrix), layer)


def _linear(weight: Tensor, x: Tensor) -> Tensor:
    return F.linear(x, weight)


def _check(tokens: tuple[int, int], min_ratio: float) -> None:
    low, high = tokens
    if not 1 <= low <= high:
        raise InvalidValueError(
            f"no range of tokens: {tokens}",
            where="sparsify(tokens=)",
            expected="(lowest, highest), 1 <= lowest <= highest",
        )
    if min_ratio < 0:
        raise InvalidValueError(f"min_ratio is {min_ratio}", where="sparsify(min_ratio=)", expected="0 or more")


def _values_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Element type of packed values; None: that of the weight."""
    values = QUANTISED.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and (values is None or not is_quantised(values)):
        raise InvalidValueError(
            f"no such type of packed values: {dtype}",
            where="sparsify(dtype=)",
            expected='None, "int8", "fp8", torch.int8 or torch.float8_e4m3fn',
        )
    return values


def _refuse_root(model: nn.Module, found: Iterable[Found]) -> None:
    if any(one.module is model and not one.reason for one in found):
        raise InvalidValueError(
            f"the model is itself the layer to replace: {type(model).__name__}",
            where="sparsify(model)",
            expected="a module that contains layers",
            hint="SparseLinear.from_dense(layer, pattern)",
        )


def _convert(model: nn.Module, pending: deque[Found], dtype: torch.dtype | None) -> tuple[deque[Found], list[Row]]:
    """Replace the layers whose weights are semi-structured tensors; return what is left, and the rows of these.

    Their weights are packed already, for kernels of torch that run on a GPU only: there is no dense form to compare.
    """
    left: deque[Found] = deque()
    rows: list[Row] = []
    for found in pending:
        if found.reason or not is_semi_structured(found.weight):
            left.append(found)
            continue
        try:
            layer = SparseLinear.from_dense(found.module, natural_pattern(found.weight.dtype), dtype)
        except NamedError as error:
            rows.append(dense_row(found.name, found.kind, error.what, found.dense_bytes, found.density))
            continue
        _set(model, found.module_name, layer)
        said = (layer.pattern.name, found.density, found.dense_bytes, layer.held_bytes, (), values_name([layer]))
        rows.append(Row(found.name, found.kind, True, "it was a semi-structured tensor of torch", *said))
    return left, rows


def _pack(found: Found, wanted: Pattern | None, dtype: torch.dtype | None) -> Candidate | str:
    """Pack a weight, or say why it stays dense."""
    if found.kind == "experts" and not follows_convention(found.module):
        return f"{type(found.module).__name__} computes something else than fused experts do"
    layers: list[SparseLinear] = []
    for matrix in found.matrices:
        dense = matrix.cpu()  # looking for patterns and packing are the CPU's work
        pattern = wanted or find_pattern(dense)
        if pattern is None:
            density = found.density
            return "no zeros" if density == 1 else f"no pattern makes it smaller (density {density:.3f})"
        try:
            packed = PackedWeight.from_stored(pack(dense, pattern, dtype), device=matrix.device)
        except PatternError as error:
            return f"it is not {pattern.name}: {error.what}, {error.where}"
        except (InvalidValueError, ShapeError, CudaError) as error:
            # No quantised form, because it is not finite or too wide; or no kernels for the GPU.
            return error.what
        bias = None if found.kind == "experts" else found.module._parameters["bias"]
        layer = SparseLinear.from_packed(packed, bias, transposed=found.kind == "Conv1D")
        layers.append(layer.train(found.module.training))
    held = sum(layer.held_bytes for layer in layers)
    if held >= found.dense_bytes:
        return f"too small: packed it would hold {held} bytes, dense {found.dense_bytes}"
    return Candidate(found, layers)


def _predict(candidates: list[Candidate], grid: tuple[int, ...]) -> None:
    for candidate in candidates:
        candidate.ratios = predict(next(candidate.pairs()).cost, grid)


def _measure(model: nn.Module, inputs: Inputs, candidates: list[Candidate], tokens: tuple[int, int]) -> None:
    """Time the candidates; those with equal sizes and pattern together."""
    seen = observed_tokens(model, inputs, {id(c.found.module): c.found.module for c in candidates}.values())
    grid = set(token_grid(tokens, 8))
    pairs: dict[object, list[Pair]] = {}
    counts: dict[object, set[int]] = {}
    for candidate in candidates:
        for pair in candidate.pairs():
            pairs.setdefault(pair.key, []).append(pair)
            counts.setdefault(pair.key, set(grid)).update(seen.get(id(candidate.found.module), ()))
    ratios = time_pairs(pairs, counts)
    for candidate in candidates:
        # What only a layer of the same size saw, a pooler its one token, say, is no concern of this one.
        own = grid | seen.get(id(candidate.found.module), set())
        candidate.ratios = tuple(r for r in ratios[next(candidate.pairs()).key] if r.tokens in own)


def _settle(model: nn.Module, candidates: list[Candidate], min_ratio: float, keep_dense: bool) -> list[Row]:
    """Replace what pays, and return the rows of all."""
    rows = []
    chosen: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        packed, reason = _verdict(candidate, min_ratio, keep_dense)
        found = candidate.found
        rows.append(
            Row(
                found.name,
                found.kind,
                packed,
                reason,
                candidate.pattern_name,
                found.density,
                found.dense_bytes,
                found.dense_bytes,
                candidate.ratios,
                values_name(candidate.layers) if packed else None,
            )
        )
        if packed:
            chosen.setdefault(found.module_name, []).append(candidate)
    for name, parts in chosen.items():
        _replace(model, name, parts, keep_dense)
    return rows


def _verdict(candidate: Candidate, min_ratio: float, keep_dense: bool) -> tuple[bool, str]:
    if min_ratio == 0:
        return True, "packed to save memory, whatever its speed" + _expansion_note(candidate.ratios)
    if any(ratio.kind == "unknown" for ratio in candidate.ratios):
        return False, "nothing is known of its speed here: give inputs, or run `sparsecore doctor --calibrate`"
    slowest = min(candidate.ratios, key=lambda r: r.ratio)
    fastest = max(candidate.ratios, key=lambda r: r.ratio)
    if slowest.ratio >= min_ratio:
        return True, f"never below {slowest.ratio:.2f} of dense ({slowest.kind})"
    if keep_dense and fastest.ratio > 1:
        return True, f"both forms kept: packed is up to {fastest.ratio:.2f}x as fast, but not at every number of tokens"
    tokens = f"{slowest.tokens} token{'s' * (slowest.tokens != 1)}"
    return False, f"slower: {slowest.ratio:.2f} of dense at {tokens} ({slowest.kind}), needed {min_ratio:g}"


def _expansion_note(ratios: tuple[Ratio, ...]) -> str:
    """What it costs that a GPU writes the weight out for some numbers of tokens."""
    first = next((ratio for ratio in ratios if ratio.expansion_s), None)
    if first is None:
        return ""
    cost = f"{first.expansion_s * 1e6:.0f} us, {first.ratio:.2f} of dense ({first.kind})"
    return f"; at {first.tokens} tokens a call writes it out first: {cost}"


def _replace(model: nn.Module, name: str, parts: list[Candidate], keep_dense: bool) -> None:
    found = parts[0].found
    new: nn.Module
    if found.kind == "experts":
        new = SparseExperts.from_layers(
            found.module, {part.found.name.rpartition(".")[2]: part.layers for part in parts}
        )
    else:
        new = parts[0].layers[0]
    if keep_dense:
        for part in parts:
            ranges = _dense_ranges(part.ratios)
            for layer in part.layers if ranges else ():
                layer.keep_dense_copy(ranges)
    _set(model, name, new)


def _set(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    model.get_submodule(parent)._modules[last] = new


def _dense_ranges(ratios: tuple[Ratio, ...]) -> tuple[tuple[int, int], ...]:
    """Half-open ranges of token counts where dense was faster; each count looked at speaks for those up to the next."""
    ranges: list[tuple[int, int]] = []
    for index, here in enumerate(ratios):
        low = here.tokens if index else 0
        high = ratios[index + 1].tokens if index + 1 < len(ratios) else _NO_END
        if here.ratio < 1:
            low = ranges.pop()[0] if ranges and ranges[-1][1] == low else low
            ranges.append((low, high))
    return tuple(ranges)
