"""The route of `PackedWeight.linear` past the dispatcher: the same results and gradients, and no tracer missed."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad
from weights import generator, random_weight

from sparsecore import PackedWeight, ops
from sparsecore.errors import ShapeError, UnknownNameError
from sparsecore.nn import SparseLinear
from sparsecore.ops.direct import needs_gradient, runs_directly
from sparsecore.patterns import NM, Block, Unstructured


def problem(seed, pattern):
    rng = generator(seed)
    weight = PackedWeight.from_dense(random_weight(10, 24, pattern, rng), pattern)
    return weight, *(torch.randn(shape, generator=rng, requires_grad=True) for shape in ((2, 3, 24), 10, (2, 3, 10)))


@pytest.mark.parametrize("activation", ["none", "gelu"])
@pytest.mark.parametrize("pattern", [NM(2, 4), Unstructured(), Block(4, 8)], ids=lambda p: p.name)
def test_same_gradients_as_through_the_dispatcher(pattern, activation, seed):
    weight, x, bias, towards = problem(seed, pattern)
    assert runs_directly(x, bias)
    assert needs_gradient(x, bias)

    def derivatives(out):
        first = torch.autograd.grad(out, (x, bias), towards, create_graph=True)
        total = sum(grad.sin().sum() for grad in first)
        return (out, *first, *torch.autograd.grad(total, (x, bias, towards), materialize_grads=True))

    mine = derivatives(weight.linear(x, bias, activation))
    theirs = derivatives(ops.packed_linear(x, weight.resident, bias, *weight.shape, activation))
    for own, other in zip(mine, theirs, strict=True):
        assert torch.equal(own, other)


def test_only_what_needs_a_gradient_gets_one(seed):
    weight, x, bias, _ = problem(seed, NM(2, 4))
    assert not weight.linear(x.detach(), bias.detach()).requires_grad
    with torch.no_grad():
        assert not weight.linear(x, bias).requires_grad
    weight.linear(x.detach(), bias).sum().backward()
    assert x.grad is None
    assert torch.equal(bias.grad, torch.full((10,), 6.0))


def test_what_traces_or_maps_goes_through_the_dispatcher(seed):
    weight, x, bias, _ = problem(seed, NM(2, 4))
    layer = SparseLinear.from_packed(weight, torch.nn.Parameter(bias.detach()))
    plain = x.detach()
    expected = layer(plain)
    direct = []
    torch.func.vmap(lambda t: direct.append(runs_directly(t)) or direct.append(runs_directly(plain)) or t)(plain)
    assert direct == [False, False]
    traced = torch.jit.trace(layer, plain, check_trace=False)
    assert "sparsecore" in str(traced.inlined_graph)
    with torch.no_grad():
        graph = torch.fx.experimental.proxy_tensor.make_fx(layer)(plain)
    assert any("sparsecore" in str(node.target) for node in graph.graph.nodes)
    assert torch.equal(graph(plain), expected)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert layer.packed.linear(mode.from_tensor(plain)).shape == expected.shape


def test_forward_mode_is_refused_and_no_tangent_lost(seed):
    weight, x, _, _ = problem(seed, NM(2, 4))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), torch.ones_like(x))
        with pytest.raises(NotImplementedError, match="jvp"):
            weight.linear(dual)


def test_refusals_speak_of_tensors(seed):
    weight, x, _, _ = problem(seed, NM(2, 4))
    for wrong in (torch.tensor(1.0), torch.ones(3, 23), x[..., :5]):
        with pytest.raises(ShapeError, match=r"the input is \["):
            weight.linear(wrong)
    with pytest.raises(ShapeError, match="the bias is"):
        weight.linear(x, torch.ones(11))
    with pytest.raises(UnknownNameError, match="no activation"):
        weight.linear(x, activation="gulu")
