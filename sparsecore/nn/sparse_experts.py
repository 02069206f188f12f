"""`SparseExperts`: the fused experts of a mixture-of-experts layer, each expert packed for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsecore.errors import UnsupportedError
from sparsecore.models import ExpertLayout, expert_layout
from sparsecore.nn.sparse_linear import SparseLinear
from sparsecore.packed import PackedWeight
from sparsecore.patterns import Pattern, parse

__all__ = ["SparseExperts", "expert_slices", "follows_convention"]


class SparseExperts(nn.Module):
    """Drop-in for a fused-experts module of transformers (MixtralExperts and relatives).

    Every expert's slice of a 3-D parameter ``<name>`` [experts, out, in] becomes a SparseLinear ``<name>.<expert>``.
    Everything else of the module (activation, biases, limits) is taken over as it is. `load_state_dict` also takes the
    3-D parameters.

    forward(hidden_states [tokens, hidden], top_k_index int [tokens, k], top_k_weights [tokens, k]) -> [tokens, hidden];
    an index of `num_experts` or more stands for no expert.
    """

    layout: ExpertLayout
    num_experts: int

    @classmethod
    def from_layers(cls, experts: nn.Module, layers: Mapping[str, Sequence[SparseLinear]]) -> SparseExperts:
        """Return `experts` with the 3-D parameters named in `layers` replaced by one SparseLinear an expert.

        A projection that is not named stays dense. Raises UnsupportedError for a module that does not follow the
        convention.
        """
        layout = expert_layout(experts)
        if layout is None:
            raise UnsupportedError(
                f"{type(experts).__name__} does not follow the fused-experts convention",
                where="SparseExperts.from_layers",
            )
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        new.__dict__.update({k: v for k, v in experts.__dict__.items() if k not in ("_parameters", "_modules")})
        new._parameters = {name: p for name, p in experts._parameters.items() if name not in layers}
        new._modules = {**experts._modules, **{name: nn.ModuleList(ones) for name, ones in layers.items()}}
        new.layout = layout
        return new

    @classmethod
    def from_dense(cls, experts: nn.Module, pattern: Pattern | str) -> SparseExperts:
        """Pack both projections of every expert of `experts` in `pattern`.

        Raises UnsupportedError as `from_layers` does and PatternError where a slice does not satisfy the pattern.
        """
        layout = expert_layout(experts)
        names = (layout.up, layout.down) if layout is not None else ()
        layers = {
            name: [
                SparseLinear.from_packed(PackedWeight.from_dense(one, parse(pattern)))
                for one in expert_slices(experts.get_parameter(name).detach(), layout is not None and layout.transposed)
            ]
            for name in names
        }
        return cls.from_layers(experts, layers)

    def packed_projections(self) -> dict[str, list[SparseLinear]]:
        """Return the packed layers of all experts, by the name of the 3-D parameter that they replace."""
        found = {name: self._modules.get(name) for name in (self.layout.up, self.layout.down)}
        return {k: cast("list[SparseLinear]", list(m)) for k, m in found.items() if isinstance(m, nn.ModuleList)}

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Return the weighted sum of each token's experts."""
        result = torch.zeros_like(hidden_states)
        # Tokens in the order of their experts: one slice an expert.
        experts, order = top_k_index.flatten().sort(stable=True)
        counts = torch.bincount(experts, minlength=self.num_experts)[: self.num_experts].tolist()
        tokens = order // top_k_index.shape[-1]
        weights = top_k_weights.flatten()[order]
        start = 0
        for expert, count in enumerate(counts):
            if count:
                rows = tokens[start : start + count]
                out = self._one(expert, hidden_states[rows]) * weights[start : start + count, None]
                result.index_add_(0, rows, out.to(result.dtype))
            start += count
        return result

    def _one(self, expert: int, x: Tensor) -> Tensor:
        """One expert on its tokens x [tokens, hidden]."""
        x = self._project(self.layout.up, self.layout.up_bias, expert, x)
        x = self.layout.middle(self, x)
        x = self._project(self.layout.down, self.layout.down_bias, expert, x)
        norm = self.layout.post_norm
        return x if norm is None else cast("Tensor", self.get_submodule(norm)(x))

    def _project(self, name: str, bias: str | None, expert: int, x: Tensor) -> Tensor:
        weights = getattr(self, name)
        if isinstance(weights, nn.ModuleList):
            out: Tensor = weights[expert](x)
        else:
            dense = weights[expert]
            out = F.linear(x, dense.t() if self.layout.transposed else dense)
        return out if bias is None else out + self.get_parameter(bias)[expert]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # A 3-D parameter is handed to the layers of its experts, which load after this module.
        for name in self.packed_projections():
            if f"{prefix}{name}" in state_dict:
                slices = expert_slices(state_dict.pop(f"{prefix}{name}"), self.layout.transposed)
                state_dict.update({f"{prefix}{name}.{i}.weight": one for i, one in enumerate(slices)})
        super()._load_from_state_dict(state_dict, prefix, *rest)


def expert_slices(fused: Tensor, transposed: bool) -> list[Tensor]:
    """Weight [out, in] of each expert of a 3-D parameter, [experts, in, out] where `transposed`."""
    return [one.t().contiguous() if transposed else one for one in fused]


def follows_convention(experts: nn.Module) -> bool:
    """Tell whether SparseExperts computes what `experts` does, by running both on a few random tokens."""
    layout = expert_layout(experts)
    if layout is None:
        return False
    ours = SparseExperts.from_layers(experts, {})
    down = experts.get_parameter(layout.down)
    width, count = down.shape[2 if layout.transposed else 1], ours.num_experts
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(8, width, generator=rng).to(down)
    choice = torch.rand(8, count, generator=rng).topk(min(2, count)).indices.to(down.device)
    share = torch.rand(choice.shape, generator=rng).to(down)
    with torch.no_grad():
        theirs, mine = experts(x, choice, share), ours(x, choice, share)
    # Both round in their own order; another computation is off by far more.
    limit = 32 * torch.finfo(down.dtype).eps * theirs.float().norm()
    return mine.shape == theirs.shape and bool((mine.float() - theirs.float()).norm() <= limit)
