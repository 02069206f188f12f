"""torch.compile takes a whole sparsified model, without a break, for any batch."""

from __future__ import annotations

import copy

import pytest
import torch
from sparse_models import generator, linear
from torch import Tensor, nn

import sparsecore as sc
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Unstructured


class Encoder(nn.Module):
    """Embedding, one attention layer and one MLP with pruned projections, a residual and a norm."""

    def __init__(self, rng: torch.Generator, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, width)
        self.qkv = linear(width, 3 * width, NM(2, 4), rng)
        self.out = linear(width, width, Block(4, 8), rng)
        self.up = linear(width, 2 * width, Unstructured(), rng)
        self.down = linear(2 * width, width, NM(1, 4), rng, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        q, k, v = self.qkv(x).chunk(3, -1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))
        return self.norm(x + self.down(nn.functional.gelu(self.up(x))))


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def test_whole_model_with_a_dynamic_batch(seed: int) -> None:
    rng = generator(seed)
    dense = Encoder(rng)
    model = sc.sparsify(copy.deepcopy(dense), min_ratio=0)
    assert len(sc.report(model).packed) == 4
    graphs: list[set[str]] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append({str(node.target) for node in graph.graph.nodes})
        return torch._inductor.compile(graph, inputs)

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counting)
    compiled(torch.randint(50, (4, 6), generator=rng))
    first = len(graphs)
    for batch, length in ((3, 7), (2, 9), (5, 4), (16, 3)):
        ids = torch.randint(50, (batch, length), generator=rng)
        y = compiled(ids)
        torch.testing.assert_close(y, model(ids))
        torch.testing.assert_close(y, dense(ids))
    assert len(graphs) == first, "what was compiled for the first batch serves every other"
    calls = {name for name in set.union(*graphs) if "sparsecore" in name}
    assert len(calls) == 3, f"nm, bitmask and block products are in the graph: {calls}"


def test_backward_and_autocast_compile(seed: int) -> None:
    rng = generator(seed)
    layer = SparseLinear.from_dense(linear(32, 16, NM(2, 4), rng), "2:4")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 32, generator=rng, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    compiled(x).sum().backward()
    layer(twin).sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compiled(x).dtype == torch.bfloat16
        torch.testing.assert_close(compiled(x), layer(x))


def test_a_new_weight_is_seen_by_the_compiled_model(seed: int) -> None:
    rng = generator(seed)
    layer = SparseLinear.from_dense(linear(32, 16, NM(2, 4), rng), "2:4")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 32, generator=rng)
    torch.testing.assert_close(compiled(x), layer(x))
    layer.load_state_dict(linear(32, 16, NM(2, 4), rng).state_dict())
    torch.testing.assert_close(compiled(x), layer(x))


def test_a_kept_dense_copy_compiles(seed: int) -> None:
    rng = generator(seed)
    layer = SparseLinear.from_dense(linear(32, 16, NM(2, 4), rng), "2:4")
    layer.keep_dense_copy(((8, 2**62),))
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in (2, 20, 5):
        x = torch.randn(tokens, 32, generator=rng)
        torch.testing.assert_close(compiled(x), layer(x))
