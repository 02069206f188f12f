"""`SparseLinear`: nn.Linear over a packed weight."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsecore.dtypes import is_quantised
from sparsecore.errors import NamedError, ShapeError, UnsupportedError
from sparsecore.formats import StoredWeight, from_tensors, pack, require_value_dtype
from sparsecore.models import is_conv1d
from sparsecore.nn.state_dict import split_state
from sparsecore.nn.weights import density, moved, named_for, retyped
from sparsecore.packed import PackedWeight
from sparsecore.patterns import Pattern, parse
from sparsecore.semi_structured import is_semi_structured

__all__ = ["SparseLinear"]


class SparseLinear(nn.Module):
    """Drop-in for nn.Linear (and transformers' Conv1D): y = x W^T + b with W packed.

    Parameters as nn.Linear, and `pattern`, a pattern or its name. The new layer holds zeros until a state is loaded;
    use `from_dense` to pack an existing layer.

    Shapes: x [..., in_features] -> [..., out_features], any rank from 1, zero tokens allowed. The result has the
    element type of the weight; under autocast the product is computed in the weight's type and then cast to the
    autocast type. Pruned positions contribute nothing, even where x is infinite or NaN.

    A weight of torch.int8 or torch.float8_e4m3fn has one scale an output; x keeps its float type, which the result has,
    and is quantised at each call with one scale a token (docs/formats.md). `.half()` and its like leave such a weight
    as it is. Gradients to x pass by value * scale, as if x were not rounded (straight-through).

    The packed weight is neither parameter nor buffer, so optimisers, DDP and FSDP pass it by. `state_dict` holds its
    stored tensors (``shape``, ``compressed``, ``bitmask``, ...); `load_state_dict` takes those or a dense ``weight``.

    Attributes
    ----------
    packed: the weight, a PackedWeight [out_features, in_features].
    bias: nn.Parameter [out_features] or None.
    transposed: the layer stands for a Conv1D, whose dense weight is [in_features, out_features].
    dense_tokens: half-open ranges of token counts that a kept dense copy serves; empty without a copy.
    """

    packed: PackedWeight
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        pattern: Pattern | str = "2:4",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        kind = dtype or torch.get_default_dtype()
        require_value_dtype(kind)
        dense = torch.get_default_dtype() if is_quantised(kind) else kind  # also of the bias
        place = torch.device(device) if device is not None else torch.get_default_device()
        with torch.device("cpu"):  # packing needs memory, even where a `with torch.device("meta")` surrounds this
            zeros = torch.zeros(out_features, in_features, dtype=dense)
            packed = PackedWeight.from_dense(zeros, parse(pattern), kind)
            self._set_up(packed, nn.Parameter(torch.zeros(out_features, dtype=dense)) if bias else None)
            self.to(place)

    def _set_up(self, packed: PackedWeight, bias: nn.Parameter | None, transposed: bool = False) -> None:
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.packed = packed
        self.bias = bias
        self.transposed = transposed
        self.dense_tokens: tuple[tuple[int, int], ...] = ()
        self._dense: Tensor | None = None
        # On the meta device only: the stored form, sizes without values.
        self._sizes: StoredWeight | None = None

    @classmethod
    def from_packed(
        cls, packed: PackedWeight, bias: nn.Parameter | None = None, *, transposed: bool = False
    ) -> SparseLinear:
        """Return a layer over `packed` [out_features, in_features] and `bias` [out_features].

        Raises ShapeError where the bias has another length.
        """
        if bias is not None and tuple(bias.shape) != (packed.shape[0],):
            raise ShapeError(
                f"bias of shape {tuple(bias.shape)} for a weight of shape {tuple(packed.shape)}",
                where="SparseLinear.from_packed",
                expected=f"({packed.shape[0]},)",
            )
        layer = cls.__new__(cls)
        layer._set_up(packed, bias, transposed)
        return layer

    @classmethod
    def from_dense(
        cls,
        linear: nn.Module,
        pattern: Pattern | str,
        dtype: torch.dtype | None = None,
        *,
        weight_grad: bool = False,
    ) -> SparseLinear:
        """Pack an nn.Linear or a transformers Conv1D whose weight satisfies `pattern`.

        The weight may be a semi-structured tensor of torch (see `sparsecore.semi_structured`).

        `dtype`: element type of the new layer (float32, float16, bfloat16); default: that of `linear`. torch.int8
        and torch.float8_e4m3fn quantise the weight, and the bias and x keep the type of `linear`. The bias parameter is
        shared with `linear` unless its type changes. `weight_grad=True` keeps a dense leaf beside the packed weight: it
        receives the dense gradient, it counts in the memory figures, and after an optimiser step `repack` takes its
        values over.

        Raises UnsupportedError for other modules, DtypeError for other types, PatternError where a group has too many
        non-zeros.
        """
        transposed = is_conv1d(linear)
        if not (transposed or isinstance(linear, nn.Linear)):
            raise UnsupportedError(
                f"cannot pack a {type(linear).__name__}",
                where="SparseLinear.from_dense",
                expected="an nn.Linear or a transformers Conv1D",
            )
        weight = cast("Tensor", linear.weight).detach()
        bias = cast("nn.Parameter | None", linear.bias)
        require_value_dtype(dtype or weight.dtype)
        kind = weight.dtype if dtype is None or is_quantised(dtype) else dtype
        dense = weight.t() if transposed else weight
        if not is_semi_structured(dense):
            dense = dense.to(kind).contiguous()
        if bias is not None and bias.dtype != kind:
            bias = nn.Parameter(bias.detach().to(kind), requires_grad=bias.requires_grad)
        packed = PackedWeight.from_dense(dense, parse(pattern), dtype or kind)
        layer = cls.from_packed(packed, bias, transposed=transposed)
        if weight_grad:
            # Registered past __setattr__, which the read-only property `weight` would stop.
            leaf = packed.to_dense().to(kind) if is_semi_structured(weight) else weight.to(kind).clone()
            layer._parameters["weight"] = nn.Parameter(leaf)
        return layer.train(linear.training)

    # What the layer looks like -------------------------------------------------------------------------------------

    @property
    def pattern(self) -> Pattern:
        """Sparsity pattern of the packed weight."""
        return self.packed.pattern

    @property
    def weight_dtype(self) -> torch.dtype:
        """Element type of the packed values, without unpacking them; `weight` is float32 where they are quantised."""
        return self.packed.dtype

    @property
    def weight_device(self) -> torch.device:
        """Device of the weight, without unpacking it."""
        return self.packed.device

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Shape of `weight`, without unpacking it."""
        sizes = (self.out_features, self.in_features)
        return sizes[::-1] if self.transposed else sizes

    @property
    def weight(self) -> Tensor:
        """The dense weight, [out_features, in_features] ([in_features, out_features] for a Conv1D); read-only.

        Unpacked at each access; `weight_dtype`, `weight_device` and `weight_shape` are free. With `weight_grad` it is
        the dense leaf, which the optimiser may change.
        """
        leaf = self._parameters.get("weight")
        return self._oriented(self.packed.to_dense()) if leaf is None else leaf

    @property
    def density(self) -> float:
        """Kept positions over all positions."""
        return density(self.packed)

    @property
    def held_bytes(self) -> int:
        """Bytes that the layer holds for its weight: packed form, kept dense copy and gradient leaf; not the bias."""
        copies = (self._dense, self._parameters.get("weight"))
        return self.packed.nbytes + sum(c.numel() * c.element_size() for c in copies if c is not None)

    @property
    def kept_dense(self) -> tuple[Tensor, ...]:
        """The dense copy that `keep_dense` bought, if there is one; not the gradient leaf, which is a parameter."""
        return () if self._dense is None else (self._dense,)

    def stored(self) -> StoredWeight:
        """Return the stored form of the weight; on the meta device its tensors have sizes only."""
        return self.packed.stored() if self._sizes is None else self._sizes

    def _oriented(self, matrix: Tensor) -> Tensor:
        """Turn a matrix from the layout of `packed` to that of `weight`, or back."""
        return matrix.t() if self.transposed else matrix

    def extra_repr(self) -> str:
        """Describe sizes and pattern, as nn.Linear does."""
        copy = ", keep_dense=True" if self._dense is not None else ""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"pattern={self.pattern.name}, dtype={self.weight_dtype}{copy}"
        )

    # The computation -----------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b for x [..., in_features]."""
        y = self._linear(x)
        device = "cpu" if x.is_cpu else x.device.type  # the name of a device is slow to ask for
        if device == "meta" or not torch.is_autocast_enabled(device):  # torch knows no autocast there
            return y
        # The weight stays in its own type under autocast: casting it would undo the packing at every call.
        return y.to(torch.get_autocast_dtype(device))

    def _linear(self, x: Tensor) -> Tensor:
        if self._dense is not None:
            tokens = math.prod(x.shape[:-1])
            if any(low <= tokens < high for low, high in self.dense_tokens):
                return F.linear(x, self._dense, self.bias)
        bias = self._parameters.get("bias")
        if bias is None:  # none, or a plain tensor; for a parameter nn.Module's look-up takes longer than all the rest
            bias = self.bias
        leaf = self._parameters.get("weight")
        return self.packed.linear(x, bias, weight=None if leaf is None else self._oriented(leaf))

    def keep_dense_copy(self, dense_tokens: tuple[tuple[int, int], ...]) -> None:
        """Hold a dense copy as well and serve the token counts in the half-open ranges `dense_tokens` from it."""
        self._dense, self.dense_tokens = self.packed.to_dense(), dense_tokens

    def repack(self) -> None:
        """Take the values of the gradient leaf over into the packed weight, at the positions that it keeps.

        The leaf is set to the result, so pruned positions stay zero. Does nothing without `weight_grad`.
        """
        leaf = self._parameters.get("weight")
        if leaf is None:
            return
        with torch.no_grad():
            kept = torch.where(self.stored().keep_mask(), self._oriented(leaf), 0)
            self._hold(PackedWeight.from_dense(kept.contiguous(), self.pattern, self.weight_dtype))
            leaf.copy_(self._oriented(kept))

    # Moves: the only places where the form of the weight changes ---------------------------------------------------

    def _hold(self, packed: PackedWeight) -> None:
        """Replace the weight; a kept dense copy and the sizes on the meta device follow it."""
        was, self.packed = self.packed, packed
        if packed.device.type != "meta":
            self._sizes = None
        elif self._sizes is None:
            self._sizes = retyped(was.stored().to("meta"), packed.dtype)
        else:
            self._sizes = retyped(self._sizes, packed.dtype)
        if self._dense is not None:
            self._dense = packed.to_dense()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SparseLinear:
        # An empty tensor tells what `fn` does to type and device without touching the weight; casts leave integers, and
        # so quantised values, alone.
        kind = torch.int8 if is_quantised(self.weight_dtype) else self.weight_dtype
        probe = fn(torch.empty(0, dtype=kind, device=self.weight_device))
        changes = (probe.dtype, probe.device) != (kind, self.weight_device)
        dtype = self.weight_dtype if probe.dtype is kind else probe.dtype
        packed = moved(self.packed, dtype, probe.device) if changes else self.packed
        # Only now: a type that weights cannot have leaves the bias alone.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if changes:
            self._hold(packed)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # The gradient leaf is not a second weight: what forward uses is saved.
        destination.pop(f"{prefix}weight", None)
        for name, tensor in self.stored().tensors.items():
            destination[prefix + name] = tensor

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        stored, rest = split_state(state_dict, prefix)
        dense = None if stored else rest.pop(f"{prefix}weight", None)
        try:
            if stored or dense is not None:
                self._take(from_tensors(stored) if dense is None else self._pack(dense), local_metadata)
            else:
                missing_keys.append(f"{prefix}weight")
        except NamedError as error:
            raise named_for(error, prefix[:-1] or type(self).__name__) from error
        if "weight" in self._parameters and (stored or dense is not None):
            rest[f"{prefix}weight"] = self._oriented(self.packed.to_dense())
        super()._load_from_state_dict(rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def _pack(self, dense: Tensor) -> StoredWeight:
        """Stored form of a loaded dense weight, in this layer's pattern."""
        if tuple(dense.shape) != self.weight_shape:
            raise ShapeError(
                f"the loaded weight is {list(dense.shape)}", where="weight", expected=str(list(self.weight_shape))
            )
        quantised = self.weight_dtype if is_quantised(self.weight_dtype) else None
        matrix = self._oriented(dense)
        return pack(matrix if is_semi_structured(matrix) else matrix.contiguous(), self.pattern, quantised)

    def _take(self, stored: StoredWeight, local_metadata: dict[str, Any]) -> None:
        """Hold a loaded weight: in this layer's type and device, or in its own where `assign=True` was asked for."""
        if stored.shape != (self.out_features, self.in_features):
            raise ShapeError(
                f"the loaded weight is {list(stored.shape)}",
                where="shape",
                expected=f"[{self.out_features}, {self.in_features}]",
            )
        if local_metadata.get("assign_to_params_buffers", False):
            self._hold(PackedWeight.from_stored(stored))
        elif self._sizes is not None:
            warnings.warn("loading into a SparseLinear on the meta device does nothing: pass assign=True", stacklevel=2)
        else:
            self._hold(PackedWeight.from_stored(stored).to(self.weight_device, self.weight_dtype))
