"""Quantised values in the bitmasks of compressed-tensors, with the scales that it writes beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from weights import generator, random_weight

import sparsecore as sc
from sparsecore.errors import CorruptFileError, UnsupportedError
from sparsecore.patterns import NM, Pattern, Unstructured

ROWS, COLS = 24, 64
KINDS = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}


def written(values: str, pattern: Pattern, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """(tensors of a layer `fc` without scales, its quantised values as dense fp32)."""
    largest = 127 if values == "int8" else 448
    weight = random_weight(ROWS, COLS, pattern, generator(seed))
    q = (weight / weight.abs().max() * largest).to(KINDS[values])
    tensors = dict(sc.pack(q.float(), pattern).tensors)
    tensors["compressed"] = tensors["compressed"].to(KINDS[values])
    tensors["shape"] = tensors["shape"].reshape(2, 1)
    return {f"fc.{name}": tensor for name, tensor in tensors.items()}, q.float()


SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "of the weight": lambda scale: scale[:1].float(),
    "of each output": lambda scale: scale[:, None],
    "of each output, 1-D": lambda scale: scale,
}


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("pattern", [NM(2, 4), Unstructured()], ids=lambda p: p.name)
@pytest.mark.parametrize("values", KINDS)
def test_they_load_dense_and_packed(values: str, pattern: Pattern, scales: str, tmp_path: Path, seed: int) -> None:
    tensors, q = written(values, pattern, seed)
    scale = (torch.rand(ROWS, generator=generator(seed)) / 100 + 1e-3).bfloat16()
    given = SCALES[scales](scale)
    beside = {"fc.weight_scale": given, "fc.input_scale": torch.ones(1), "fc.bias": torch.ones(ROWS)}
    save_file({**tensors, **beside}, tmp_path / "m.safetensors")
    dense = q * given.float().reshape(-1, 1)
    checkpoint = sc.load(tmp_path / "m.safetensors")
    assert checkpoint.kind == "compressed-tensors"
    assert set(checkpoint) == {"fc.weight", "fc.bias"}
    assert torch.equal(checkpoint["fc.weight"], dense)
    model = sc.load(tmp_path / "m.safetensors", into=nn.ModuleDict({"fc": nn.Linear(COLS, ROWS)}))
    assert model["fc"].weight_dtype is KINDS[values] and torch.equal(model["fc"].weight, dense)
    plain = sc.load(tmp_path / "m.safetensors", into=nn.ModuleDict({"fc": nn.Linear(COLS, ROWS)}), dense=True)
    assert torch.equal(plain["fc"].weight, dense)
    x = torch.randn(3, COLS, generator=generator(seed))
    with torch.no_grad():
        ours, theirs = model["fc"](x), plain["fc"](x)
    torch.testing.assert_close(ours, theirs, rtol=0.1, atol=0.1 * float(theirs.abs().max()))
    sc.save(model, tmp_path / "again.safetensors")
    assert torch.equal(sc.load(tmp_path / "again.safetensors")["fc.weight"], dense)


def test_what_has_another_meaning_is_refused_by_name(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "m.safetensors"
    for values, code in (("fp8", 0x7F), ("int8", 0x80)):
        tensors, _ = written(values, NM(2, 4), seed)
        scale = {"fc.weight_scale": torch.ones(ROWS, 1)}
        for beside, error in (
            ({}, "elements of"),
            ({"fc.weight_scale": torch.ones(ROWS, 2)}, "scales of a weight of 24 outputs"),
            ({"fc.weight_scale": torch.ones(ROWS, 1, dtype=torch.int32)}, "int32"),
            ({**scale, "fc.weight_zero_point": torch.ones(ROWS, 1, dtype=torch.int8)}, "zero point"),
        ):
            save_file({**tensors, **beside}, path)
            with pytest.raises(UnsupportedError, match=error):
                sc.load(path)
        save_file({**tensors, "fc.weight_scale": -torch.ones(1)}, path)
        with pytest.raises(CorruptFileError, match="scale of row 0"):
            sc.load(path)
        bad = tensors["fc.compressed"].view(torch.uint8).clone()
        bad[1, 1] = code
        save_file({**tensors, **scale, "fc.compressed": bad.view(KINDS[values])}, path)
        with pytest.raises(CorruptFileError, match="compressed"):
            sc.load(path)
        save_file({**tensors, **scale, "fc.weight_zero_point": torch.zeros(ROWS, 1, dtype=torch.int8)}, path)
        assert set(sc.load(path)) == {"fc.weight"}


def test_an_fp8_file_says_so_and_converts(tmp_path: Path, seed: int) -> None:
    from typer.testing import CliRunner

    from sparsecore.cli.app import app

    model = nn.ModuleDict({"fc": nn.Linear(COLS, ROWS)})
    with torch.no_grad():
        model["fc"].weight.copy_(random_weight(ROWS, COLS, NM(2, 4), generator(seed)))
    sc.save(sc.sparsify(model, dtype="fp8", min_ratio=0), tmp_path / "m.safetensors")
    inspected = CliRunner().invoke(app, ["inspect", str(tmp_path / "m.safetensors")])
    assert inspected.exit_code == 0 and "float8_e4m3fn" in inspected.output
    for form in ("dense", "sparse-24-bitmask", "sparsecore"):
        arguments = ["convert", str(tmp_path / "m.safetensors"), "--to", form, "-o", str(tmp_path / form)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        assert torch.equal(sc.load(tmp_path / form)["fc.weight"], model["fc"].weight)
