"""The module for models that are not Hugging Face's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecore.cascade import CascadeState, Schedule
from sparsecore.errors import InvalidValueError, ShapeError, UnsupportedError
from sparsecore.nn import CascadeAttention

HEADS, WIDTH, LAYERS = 4, 24, 3


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = CascadeAttention(WIDTH, HEADS)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor, state: CascadeState | None) -> Tensor:
        x = x + self.attention(self.norm1(x), state)
        return x + self.mlp(self.norm2(x))


def model_of(seed: int) -> nn.ModuleList:
    layers = nn.ModuleList(Layer() for _ in range(LAYERS)).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return layers


def run(layers: nn.ModuleList, x: Tensor, state: CascadeState, mask: Tensor | None = None) -> Tensor:
    x = state.begin(x, mask)
    for layer in layers:
        x = state.advance(layer(x, state))
    return x


def test_keep_all_is_plain_attention(seed: int) -> None:
    layers = model_of(seed)
    x = torch.randn(2, 11, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    state = CascadeState.of(Schedule(), LAYERS, HEADS)
    with torch.no_grad():
        expected = x
        for layer in layers:
            expected = layer(expected, None)
        torch.testing.assert_close(run(layers, x, state), expected)
    assert bool(state.keep_mask.all())


@pytest.mark.parametrize("choice", ["each", "shared", [[0, 1, 3], [0, 3], [3]]])
def test_one_state_serves_pass_after_pass(choice: object, seed: int) -> None:
    layers = model_of(seed)
    x = torch.randn(3, 13, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(13) >= torch.tensor([0, 6, 12])[:, None]  # padding on the left
    head_keep = 1.0 if isinstance(choice, list) else 0.7
    state = CascadeState.of(Schedule(token_keep=0.5, head_keep=head_keep), LAYERS, HEADS, head_choice=choice)
    with torch.no_grad():
        first = run(layers, x, state, mask)
        kept = state.keep_mask
        other = run(layers, x[:, 3:], state)
        assert other.shape == (3, 10, WIDTH)
        assert torch.equal(run(layers, x, state, mask), first)
        assert torch.equal(state.keep_mask, kept)
        if choice != "shared":
            alone = run(layers, x[1:2, 6:], state)
            torch.testing.assert_close(alone[0], first[1, 6:])
            assert torch.equal(state.keep_mask[0], kept[1, 6:])
    assert not bool(kept[~mask].any())
    assert kept.sum(1).tolist() == [Schedule(token_keep=0.5).token_counts(n, LAYERS)[-1] for n in (13, 7, 1)]


def test_gradients_reach_every_projection(seed: int) -> None:
    layers = model_of(seed)
    x = torch.randn(2, 9, WIDTH, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(9) < torch.tensor([9, 5])[:, None]
    state = CascadeState.of(Schedule(token_keep=0.6, head_keep=0.8), LAYERS, HEADS)
    run(layers, x, state, mask).square().sum().backward()
    assert x.grad is not None and bool((x.grad[mask] != 0).any(-1).all())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in layers.parameters())


def test_weights_of_torchs_own_attention(seed: int) -> None:
    torch.manual_seed(seed)
    dense = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    x = torch.randn(2, 7, WIDTH)
    own = CascadeAttention.from_dense(dense)
    torch.testing.assert_close(own(x), dense(x, x, x, need_weights=False)[0], atol=1e-5, rtol=1e-5)
    assert not own.training
    for wrong in ({}, {"batch_first": True, "kdim": 8}, {"batch_first": True, "add_zero_attn": True}):
        with pytest.raises(UnsupportedError):
            CascadeAttention.from_dense(nn.MultiheadAttention(WIDTH, HEADS, **wrong))


def test_what_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="25 features for 4 heads"):
        CascadeAttention(25, 4)
    assert CascadeAttention(25, 4, head_dim=8)(torch.zeros(1, 3, 25)).shape == (1, 3, 25)
    layer = CascadeAttention(WIDTH, HEADS)
    with pytest.raises(ShapeError, match="x is"):
        layer(torch.zeros(1, 3, WIDTH + 1))
    state = CascadeState.of(Schedule(), LAYERS, 8)
    with pytest.raises(InvalidValueError, match="8 heads"):
        layer(state.begin(torch.zeros(1, 3, WIDTH)), state)
    with pytest.raises(ShapeError, match="mask is"):
        state.begin(torch.zeros(1, 3, WIDTH), torch.ones(1, 4, dtype=torch.bool))


def test_calls_out_of_turn_are_named() -> None:
    layers, x = model_of(2), torch.randn(1, 3, WIDTH, dtype=torch.float64)
    state = CascadeState.of(Schedule(token_keep=0.5), LAYERS, HEADS)
    attention = next(part for part in layers.modules() if isinstance(part, CascadeAttention))
    with pytest.raises(InvalidValueError, match="out of turn, with 0 of"):
        attention(x, state)
    with pytest.raises(InvalidValueError, match="out of turn"):
        state.advance(x)
    state.begin(x)
    with pytest.raises(InvalidValueError, match="out of turn"):
        state.advance(x)
    attention(x, state)
    with pytest.raises(InvalidValueError, match="out of turn, with 1 of"):
        attention(x, state)
    out = run(layers, x, state, torch.ones(1, 3))  # a mask of numbers
    for late in (lambda: attention(x, state), lambda: state.advance(x)):
        with pytest.raises(InvalidValueError, match=f"out of turn, with {LAYERS} of {LAYERS}"):
            late()
    assert torch.equal(out, run(layers, x, state, torch.ones(1, 3, dtype=torch.bool)))


def test_a_sequence_without_tokens_gives_zeros() -> None:
    layers = model_of(3)
    x = torch.randn(2, 5, WIDTH, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [False] * 5])
    with torch.no_grad():
        out = run(layers, x, CascadeState.of(Schedule(token_keep=0.5), LAYERS, HEADS), mask)
    assert bool(out.isfinite().all())
    assert int(out[1].count_nonzero()) == 0
    assert functional.relu(out[0].abs()).sum() > 0
