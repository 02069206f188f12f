"""`sparsecore inspect`: what is told of each tensor, in text, in JSON and as a page."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner
from weights import random_mask

import sparsecore as sc
from sparsecore.cli import app
from sparsecore.inspection import Inspection, Line, inspect_checkpoint
from sparsecore.inspection_page import inspection_page

HIDDEN, HEADS = 64, 4


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def llama(folder: Path, seed: int, change: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """A Llama of two layers with a 2:4 weight, one that almost is, heads that are gone and an empty second layer."""
    rng = torch.Generator().manual_seed(seed)

    def dense(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=rng) + 0.5

    state = {"embed_tokens.weight": dense(50, HIDDEN), "norm.weight": dense(HIDDEN)}
    for layer in range(2):
        prefix = f"layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            state[f"{prefix}self_attn.{name}.weight"] = dense(HIDDEN, HIDDEN) * (1 - layer)
        state[f"{prefix}mlp.gate_proj.weight"] = dense(160, HIDDEN) * (1 - layer)
        state[f"{prefix}mlp.up_proj.weight"] = dense(160, HIDDEN) * (1 - layer)
        state[f"{prefix}mlp.down_proj.weight"] = dense(HIDDEN, 160) * (1 - layer)
    first = "layers.0."
    for name in ("gate_proj", "up_proj"):
        state[f"{first}mlp.{name}.weight"] *= random_mask(160, HIDDEN, sc.NM(2, 4), rng)
    state[f"{first}mlp.up_proj.weight"][5, :4] = 1
    state[f"{first}self_attn.q_proj.weight"][16:48] = 0
    state[f"{first}self_attn.o_proj.weight"][:, 16:48] = 0
    state |= change or {}
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    config = {
        "model_type": "llama", "hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "num_hidden_layers": 2, "intermediate_size": 160, "vocab_size": 50,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return state


def inspected(path: Path) -> Inspection:
    return inspect_checkpoint(sc.load(path))


def line(found: Inspection, name: str) -> Line:
    return next(one for one in found.lines if one.name == name)


def test_patterns_heads_and_empty_layers_are_told(tmp_path: Path, seed: int) -> None:
    state = llama(tmp_path / "hf", seed)
    found = inspected(tmp_path / "hf")
    assert {one.name for one in found.lines} == set(state)
    said = {one.name.removeprefix("layers.0."): one for one in found.lines}
    assert said["mlp.gate_proj.weight"].found == "2:4"
    assert said["mlp.up_proj.weight"].found == "2:4 in 99.9 % of the groups"
    assert "2:4" in said["mlp.up_proj.weight"].verdict
    assert said["self_attn.q_proj.weight"].found == "32 of 64 rows zero (heads 1, 2)"
    assert said["self_attn.o_proj.weight"].found == "32 of 64 columns zero (heads 1, 2)"
    assert said["self_attn.k_proj.weight"].verdict == "stays dense: no zeros"
    assert line(found, "layers.1.mlp.up_proj.weight").verdict == "all zero: the layer can go"
    assert found.notes == ("every weight of layer 1 is zero: the layer only passes its input on",)
    for one in found.lines:
        assert one.density == pytest.approx(int(state[one.name].count_nonzero()) / state[one.name].numel())
        assert one.dense_bytes == state[one.name].numel() * 4
    assert found.packed_bytes < found.dense_bytes == found.file_bytes


def test_packed_bytes_are_those_of_packing(tmp_path: Path, seed: int) -> None:
    llama(tmp_path / "hf", seed)
    found = inspected(tmp_path / "hf")
    packed = sc.load(tmp_path / "hf", pack=True)
    assert {one.name: one.packed_bytes for one in found.lines} == {name: packed.nbytes(name) for name in packed}
    sc.save(packed, tmp_path / "packed.safetensors")
    again = inspected(tmp_path / "packed.safetensors")
    assert again.file_bytes == again.packed_bytes == found.packed_bytes
    assert again.dense_bytes == found.dense_bytes
    assert {one.name: one.density for one in again.lines} == {one.name: one.density for one in found.lines}
    assert {one.name for one in again.lines if one.state == "packed"} == {
        f"{module}.weight" for module in packed.packed
    }


def test_speeds_are_those_of_the_dispatcher(tmp_path: Path, seed: int) -> None:
    llama(tmp_path / "hf", seed)
    one = line(inspected(tmp_path / "hf"), "layers.0.mlp.gate_proj.weight")
    shape = (160, HIDDEN)
    cost = sc.dispatch.LayerCost(sc.NM(2, 4), 0.5, shape, torch.float32, one.dense_bytes, one.packed_bytes)
    assert one.ratios == sc.dispatch.predict(cost, (1, 16, 128))


def test_shapes_that_do_not_fit_the_config_are_told(tmp_path: Path, seed: int) -> None:
    small = {f"layers.0.mlp.{name}.weight": torch.ones(96, HIDDEN) for name in ("gate_proj", "up_proj")}
    llama(tmp_path / "hf", seed, {**small, "layers.0.mlp.down_proj.weight": torch.ones(HIDDEN, 96)})
    found = inspected(tmp_path / "hf")
    assert line(found, "layers.0.mlp.down_proj.weight").verdict == "structurally pruned: the config says 64 x 160"
    assert any("3 weights have other shapes than the config says" in note for note in found.notes)


def test_filters_and_tensors_that_are_no_weights(tmp_path: Path, seed: int) -> None:
    filters = torch.rand(8, 3, 3, 3, generator=torch.Generator().manual_seed(seed)) + 0.5
    filters[2:5] = 0
    save_file({"conv.weight": filters, "i": torch.zeros(3).long()}, tmp_path / "m.safetensors")
    found = inspected(tmp_path / "m.safetensors")
    assert line(found, "conv.weight").found == "3 of 8 filters zero"
    assert line(found, "conv.weight").density == 5 / 8
    assert (line(found, "i").found, line(found, "i").verdict) == ("-", "-")


def test_a_pattern_along_the_first_dimension_is_found(tmp_path: Path, seed: int) -> None:
    weight = llama(tmp_path / "hf", seed)["layers.0.mlp.gate_proj.weight"]
    save_file({"c.weight": weight.t().contiguous()}, tmp_path / "m.safetensors")
    one = line(inspected(tmp_path / "m.safetensors"), "c.weight")
    assert (one.found, one.pattern, one.shape) == ("2:4 along the first dimension", "2:4", (HIDDEN, 160))


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        assert tag not in ("script", "link", "img")


def test_the_page_needs_nothing_and_its_pictures_are_svg(tmp_path: Path, seed: int) -> None:
    llama(tmp_path / "hf", seed)
    page = inspection_page(inspected(tmp_path / "hf"))
    assert Page(page).addresses == []
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 3
    for picture in pictures:
        ET.fromstring(picture)
    assert page.count("layers.0.mlp.gate_proj") >= 3


def test_names_in_a_file_do_not_become_markup(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>.weight"
    weight = torch.ones(64, 64)
    weight[:, ::2] = 0
    save_file({name: weight}, tmp_path / "m.safetensors")
    page = inspection_page(inspected(tmp_path / "m.safetensors"))
    assert "<script" not in page
    Page(page)


def test_the_command_prints_writes_and_takes_masks(tmp_path: Path, seed: int) -> None:
    llama(tmp_path / "hf", seed)
    text = invoke("inspect", tmp_path / "hf", "--html", tmp_path / "page.html")
    assert "2:4 in 99.9 % of the groups" in text
    assert "every weight of layer 1 is zero" in text
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    plain = json.loads(invoke("inspect", tmp_path / "hf", "--json"))
    assert {"ratios", "verdict", "packed_bytes", "found"} <= plain["tensors"][0].keys()
    torch.save(nn.Linear(8, 8).state_dict(), tmp_path / "m.pt")
    torch.save({"weight": torch.eye(8)}, tmp_path / "mask.pth")
    masked = json.loads(invoke("inspect", tmp_path / "m.pt", "--masks", tmp_path / "mask.pth", "--json"))
    assert next(one["density"] for one in masked["tensors"] if one["name"] == "weight") == 1 / 8


def test_an_empty_and_an_odd_checkpoint_have_pages_too(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(0, 4), "b": torch.tensor(2.0), "c": torch.ones(1, 1)}, tmp_path / "m.safetensors")
    found = inspected(tmp_path / "m.safetensors")
    Page(inspection_page(found))
    assert [one.density for one in found.lines] == [1.0, 1.0, 1.0]
