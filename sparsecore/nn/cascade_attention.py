"""Self-attention for models of one's own whose sequences shrink from layer to layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecore.cascade.projections import narrowed
from sparsecore.cascade.state import CascadeState
from sparsecore.errors import InvalidValueError, ShapeError, UnsupportedError

__all__ = ["CascadeAttention"]


class CascadeAttention(nn.Module):
    """Multi-head self-attention over the tokens and heads that a `sparsecore.cascade.CascadeState` still keeps.

    One state goes through all layers of a pass; what stands between the attentions works on fewer and fewer tokens:

        state = sc.cascade.CascadeState.of(sc.cascade.Schedule(token_keep=0.5), layers=12, heads=12)
        x = state.begin(embeddings, mask)                  # [B, L, E], bool [B, L]
        for layer in layers:
            x = x + layer.attention(layer.norm1(x), state)
            x = x + layer.mlp(layer.norm2(x))
            x = state.advance(x)                           # fewer tokens; after the last layer all L positions again
        kept = state.keep_mask                             # bool [B, L]: positions that went through all layers

    Without a state it is plain attention. Everything is differentiable but the decisions.

    Parameters
    ----------
    embed_dim: E, features of a token. num_heads: heads. head_dim: features of a head, default embed_dim // num_heads.
    bias: whether the projections have one.

    Raises
    ------
    InvalidValueError: embed_dim is no multiple of num_heads and head_dim is not given.
    """

    def __init__(self, embed_dim: int, num_heads: int, head_dim: int | None = None, bias: bool = True) -> None:
        super().__init__()
        if num_heads < 1 or (head_dim is None and embed_dim % num_heads):
            raise InvalidValueError(
                f"{embed_dim} features for {num_heads} heads", expected="a multiple of num_heads, or a head_dim"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.head_dim = embed_dim // num_heads if head_dim is None else head_dim
        inner = num_heads * self.head_dim
        self.q_proj = nn.Linear(embed_dim, inner, bias)
        self.k_proj = nn.Linear(embed_dim, inner, bias)
        self.v_proj = nn.Linear(embed_dim, inner, bias)
        self.out_proj = nn.Linear(inner, embed_dim, bias)

    @classmethod
    def from_dense(cls, attention: nn.MultiheadAttention) -> CascadeAttention:
        """Return a module with copies of the weights of torch's own attention.

        Raises
        ------
        UnsupportedError: keys or values of another width than queries, an extra bias or zero key, not batch_first.
        """
        if attention.in_proj_weight is None or attention.bias_k is not None or attention.add_zero_attn:
            raise UnsupportedError(
                "this nn.MultiheadAttention is not plain self-attention",
                expected="kdim and vdim of embed_dim, add_bias_kv and add_zero_attn off",
            )
        if not attention.batch_first:
            raise UnsupportedError("the nn.MultiheadAttention is not batch_first", expected="batch_first=True")
        bias = attention.in_proj_bias is not None
        made = cls(attention.embed_dim, attention.num_heads, bias=bias)
        made = made.to(attention.in_proj_weight.device, attention.in_proj_weight.dtype)
        with torch.no_grad():
            for number, linear in enumerate((made.q_proj, made.k_proj, made.v_proj)):
                linear.weight.copy_(attention.in_proj_weight.chunk(3)[number])
                if bias:
                    linear.bias.copy_(attention.in_proj_bias.chunk(3)[number])
            made.out_proj.load_state_dict(attention.out_proj.state_dict())
        return made.train(attention.training)

    def forward(self, x: Tensor, state: CascadeState | None = None) -> Tensor:
        """Return the attention of x [B, n, E] over itself, [B, n, E], once a layer of a pass of `state`.

        Raises
        ------
        ShapeError: x is no [B, n, E]. InvalidValueError: the state is for another number of heads.
        """
        if x.dim() != 3 or x.shape[2] != self.embed_dim:
            raise ShapeError(f"x is {list(x.shape)}", where="x", expected=f"[B, n, {self.embed_dim}]")
        heads = None
        if state is not None:
            if state.rules.heads != self.num_heads:
                raise InvalidValueError(
                    f"the state is for {state.rules.heads} heads", where="state", expected=f"{self.num_heads}"
                )
            if state.rules.narrows and state.head_ids is not None and len(x) and self._plain:
                heads = state.head_ids[0]
        kept = self.num_heads if heads is None else len(heads)
        q, k, v = (
            _project(linear, x, heads, self.head_dim, 0).view(*x.shape[:2], kept, self.head_dim).transpose(1, 2)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = functional.scaled_dot_product_attention(q, k, v) if state is None else state.attend(q, k, v)
        return _project(self.out_proj, out.transpose(1, 2).flatten(2), heads, self.head_dim, 1)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, head_dim={self.head_dim}"

    @property
    def _plain(self) -> bool:
        """Whether heads can be left out of all projections; a packed one computes them all."""
        return all(type(p) is nn.Linear for p in (self.q_proj, self.k_proj, self.v_proj, self.out_proj))


def _project(linear: nn.Linear, x: Tensor, heads: Tensor | None, head_dim: int, side: int) -> Tensor:
    if heads is None:
        result: Tensor = linear(x)
        return result
    return functional.linear(x, *narrowed(linear.weight, linear.bias, heads, head_dim, side))
