"""State dicts whose tensors are not plain: sparse layouts, semi-structured tensors, exported programs, masks."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)
from weights import random_weight

import sparsecore as sc
from sparsecore.errors import CorruptFileError, KeyMismatchError, UnsupportedError
from sparsecore.patterns import NM, Block, Unstructured

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor"),
]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LAYOUTS = {
    "csr": lambda dense: dense.to_sparse_csr(),
    "csc": lambda dense: dense.to_sparse_csc(),
    "bsr": lambda dense: dense.to_sparse_bsr((4, 2)),
    "bsc": lambda dense: dense.to_sparse_bsc((4, 2)),
    "coo": lambda dense: dense.to_sparse(),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sparse_tensors_are_packed_weights(
    tmp_path: Path, seed: int, layout: str, dtype: torch.dtype, zipped: bool
) -> None:
    dense = random_weight(96, 64, Unstructured(), generator(seed), dtype)
    if layout[0] == "b":
        dense = random_weight(96, 64, Block(4, 2), generator(seed), dtype)
    state = {"fc.weight": LAYOUTS[layout](dense), "fc.bias": torch.ones(96, dtype=dtype), "scale": dense.to_sparse()}
    torch.save(state, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    checkpoint = sc.load(tmp_path / "m.pt")
    assert set(checkpoint.packed) == {"fc"}
    assert checkpoint.pattern("fc.weight") == (Block(4, 2) if layout == "bsr" else sc.find_pattern(dense))
    assert torch.equal(checkpoint["fc.weight"], dense)
    assert torch.equal(checkpoint["scale"], dense)
    model = sc.load(tmp_path / "m.pt", into=nn.ModuleDict({"fc": nn.Linear(64, 96)}).to(dtype), strict=False)
    assert isinstance(model["fc"], sc.nn.SparseLinear)
    assert torch.equal(model["fc"].weight, dense)


def test_sparse_tensors_of_other_types_and_ranks_are_expanded(tmp_path: Path, seed: int) -> None:
    whole = torch.randint(-3, 3, (6, 8), generator=generator(seed))
    cube = torch.relu(torch.randn(3, 4, 5, generator=generator(seed)))
    halves = torch.stack((cube[0].to_sparse(), cube[1].to_sparse()))  # uncoalesced parts are summed
    torch.save({"a": whole.to_sparse_csr(), "b.weight": cube.to_sparse(), "c": halves}, tmp_path / "m.pt")
    checkpoint = sc.load(tmp_path / "m.pt")
    assert not checkpoint.packed
    assert torch.equal(checkpoint["a"], whole)
    assert torch.equal(checkpoint["b.weight"], cube)
    assert torch.equal(checkpoint["c"], cube[:2])


def cutlass(dense: Tensor) -> Tensor:
    """What to_sparse_semi_structured makes of `dense` on a GPU without cuSPARSELt; its converter runs on the CPU."""
    packed, meta = sparse_semi_structured_from_dense_cutlass(dense)
    return SparseSemiStructuredTensorCUTLASS(dense.shape, packed, meta, None, None, None)


@pytest.mark.parametrize("parameter", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(32, 64), (64, 192), (160, 64), (96, 512)])
def test_semi_structured_tensors_of_cutlass_are_read(
    tmp_path: Path, seed: int, shape: tuple[int, int], dtype: torch.dtype, parameter: bool
) -> None:
    pattern = NM(1, 2) if dtype == torch.float32 else NM(2, 4)
    dense = random_weight(*shape, pattern, generator(seed), dtype)
    tensor = cutlass(dense)
    if dtype != torch.float32:  # torch's own way back is an oracle where it is right
        assert torch.equal(sparse_semi_structured_to_dense_cutlass(tensor.packed, tensor.meta), dense)
    torch.save({"fc.weight": nn.Parameter(tensor, requires_grad=False) if parameter else tensor}, tmp_path / "m.pt")
    checkpoint = sc.load(tmp_path / "m.pt")
    assert checkpoint.pattern("fc.weight") == pattern
    assert torch.equal(checkpoint["fc.weight"], dense)


def test_semi_structured_tensors_of_int8_are_expanded(tmp_path: Path, seed: int) -> None:
    dense = (random_weight(32, 128, NM(2, 4), generator(seed)) * 10).to(torch.int8)
    torch.save({"fc.weight": cutlass(dense)}, tmp_path / "m.pt")
    assert torch.equal(sc.load(tmp_path / "m.pt")["fc.weight"], dense)


def test_opaque_and_training_forms_are_refused_by_name(tmp_path: Path, seed: int) -> None:
    dense = random_weight(32, 64, NM(2, 4), generator(seed), torch.float16)
    packed, meta = sparse_semi_structured_from_dense_cutlass(dense)
    blob = SparseSemiStructuredTensorCUSPARSELT(dense.shape, torch.zeros(36 * 32), None, None, None, None)
    training = SparseSemiStructuredTensorCUTLASS(dense.shape, packed, meta, packed, meta, None)
    turned = SparseSemiStructuredTensorCUTLASS(dense.shape[::-1], None, None, packed, meta, None)
    for name, tensor, problem in (
        ("blob", blob, "cuSPARSELt"),
        ("training", training, "training"),
        ("turned", turned, "transposed"),
    ):
        torch.save({"fc.weight": tensor}, tmp_path / f"{name}.pt")
        with pytest.raises(UnsupportedError, match=rf"(?s){problem}.*{name}\.pt: fc\.weight"):
            sc.load(tmp_path / f"{name}.pt")


class Program(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 8)
        self.norm = nn.BatchNorm1d(8)
        self.tied = nn.Linear(12, 8, bias=False)
        self.tied.weight = self.fc.weight
        self.mix = nn.Parameter(torch.randn(8, 8).bfloat16().t())
        self.register_buffer("own", torch.ones(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.norm(self.fc(x) + self.tied(x)) @ self.mix.float()) * self.own.sum()


@pytest.mark.filterwarnings("ignore:No complete tensor found in the group")
def test_exported_programs_are_read_and_not_run(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = Program().eval()
    sc.prune.one_shot(model.fc, pattern="2:4")
    torch.export.save(torch.export.export(model, (torch.ones(2, 12),)), tmp_path / "m.pt2")
    (tmp_path / "renamed.pt").write_bytes((tmp_path / "m.pt2").read_bytes())
    for name in ("m.pt2", "renamed.pt"):
        checkpoint = sc.load(tmp_path / name)
        assert checkpoint.kind == "exported program"
        expected = model.state_dict()
        assert set(checkpoint) == set(expected)
        assert all(torch.equal(checkpoint[key], tensor) for key, tensor in expected.items())
        assert all(checkpoint[key].is_contiguous() for key in expected)
    assert torch.equal(sc.load(tmp_path / "m.pt2", into=Program()).fc.weight, model.fc.weight)


def test_programs_of_older_releases_are_read_from_their_state_dict(tmp_path: Path, seed: int) -> None:
    """torch up to 2.8 kept a state dict of torch.save inside the archive."""
    state = {"fc.weight": random_weight(8, 12, NM(2, 4), generator(seed))}
    inner = io.BytesIO()
    torch.save(state, inner)
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", inner.getvalue())
        archive.writestr("version", "5.3")
    checkpoint = sc.load(tmp_path / "m.pt2")
    assert checkpoint.kind == "exported program"
    assert torch.equal(checkpoint["fc.weight"], state["fc.weight"])


# Masks ---------------------------------------------------------------------------------------------------------------

NAMINGS = {
    "as the weights": lambda mask: {"fc.weight": mask},
    "_mask": lambda mask: {"fc.weight_mask": mask},
    ".mask": lambda mask: {"fc.weight.mask": mask},
    "by layer": lambda mask: {"fc": mask},
    "nni": lambda mask: {"fc": {"weight": mask, "bias": torch.ones(16)}},
    "boolean": lambda mask: {"fc.weight": mask.bool()},
    "integers": lambda mask: {"fc.weight": mask.to(torch.uint8)},
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_masks_in_a_file_of_their_own_are_applied(tmp_path: Path, seed: int, naming: str) -> None:
    rng = generator(seed)
    state = {"fc.weight": torch.randn(16, 32, generator=rng), "fc.bias": torch.randn(16, generator=rng)}
    mask = (torch.rand(16, 32, generator=rng) < 0.3).float()
    state["fc.weight"][mask == 0] = float("nan")
    torch.save(state, tmp_path / "m.pt")
    torch.save(NAMINGS[naming](mask), tmp_path / "mask.pth")
    checkpoint = sc.load(tmp_path / "m.pt", masks=tmp_path / "mask.pth")
    assert torch.equal(checkpoint["fc.weight"], torch.where(mask != 0, state["fc.weight"], 0))
    assert torch.equal(checkpoint["fc.bias"], state["fc.bias"])
    model = sc.load(tmp_path / "m.pt", masks=tmp_path / "mask.pth", into=nn.ModuleDict({"fc": nn.Linear(32, 16)}))
    assert torch.equal(model["fc"].weight, checkpoint["fc.weight"])


def test_masks_of_nothing_are_named(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(3, 4)}, tmp_path / "m.pt")
    torch.save({"other.weight": torch.ones(3, 4)}, tmp_path / "mask.pth")
    with pytest.raises(KeyMismatchError, match=r"(?s)other\.weight.*mask\.pth"):
        sc.load(tmp_path / "m.pt", masks=tmp_path / "mask.pth")
    torch.save({"fc.weight": torch.ones(4, 3)}, tmp_path / "mask.pth")
    with pytest.raises(CorruptFileError, match="mask do not fit"):
        sc.load(tmp_path / "m.pt", masks=tmp_path / "mask.pth")
    torch.save({"fc.weight": torch.full((3, 4), 0.5)}, tmp_path / "mask.pth")
    with pytest.raises(CorruptFileError, match="other values than 0 and 1"):
        sc.load(tmp_path / "m.pt", masks=tmp_path / "mask.pth")


@pytest.mark.parametrize("kind", ["binary_mask", "mask"])
def test_masks_of_nncf_hooks_are_applied(tmp_path: Path, seed: int, kind: str) -> None:
    """Names and meaning as NNCF 3.4 writes them: hooks on the weight, points of its name as colons."""
    rng = generator(seed)
    weight, kept = torch.randn(8, 12, generator=rng), torch.rand(8, 12, generator=rng) < 0.4
    mask = kept if kind == "binary_mask" else torch.where(kept, 1.5, -1.5)
    hook = f"__nncf_hooks.post_hooks.body:0:weight__0.0.{kind}"
    torch.save({"body.0.weight": weight, hook: mask}, tmp_path / "m.pt")
    checkpoint = sc.load(tmp_path / "m.pt")
    assert set(checkpoint) == {"body.0.weight"}
    assert torch.equal(checkpoint["body.0.weight"], torch.where(kept, weight, 0))
