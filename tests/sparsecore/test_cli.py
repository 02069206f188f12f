"""The command `sparsecore`, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

import sparsecore as sc
from sparsecore.cli import app, main

RUN = [sys.executable, "-c", "from sparsecore.cli import main; main()"]


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; exit codes and streams are those of the installed script."""
    return subprocess.run(
        [*RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200", **environment},
    )


def invoke(*arguments: object) -> str:
    """Run the command inside this process, which is quick; for what must succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def checkpoint(path: Path, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state = {
        "embed.weight": torch.randn(20, 64),
        "layer.fc1.weight": torch.randn(128, 64),
        "layer.fc1.bias": torch.randn(128),
        "layer.fc2.weight": torch.randn(64, 128),
        "norm.weight": torch.ones(64),
    }
    save_file(state, path)
    return state


def test_prune_then_inspect_then_load(tmp_path: Path, seed: int) -> None:
    state = checkpoint(tmp_path / "in.safetensors", seed)
    output = invoke("prune", tmp_path / "in.safetensors", tmp_path / "out.safetensors", "--pattern", "2:4")
    assert "layer.fc1.weight" in output
    assert "embed.weight" not in output
    pruned = sc.load(tmp_path / "out.safetensors")
    assert set(pruned.packed) == {"layer.fc1", "layer.fc2"}
    assert set(pruned) == set(state)
    for name in ("layer.fc1.weight", "layer.fc2.weight"):
        expected = nn.Linear(*reversed(state[name].shape), bias=False)
        expected.weight.data.copy_(state[name])
        sc.prune.one_shot(expected, pattern="2:4")
        assert torch.equal(pruned[name], expected.weight)
    assert torch.equal(pruned["embed.weight"], state["embed.weight"])
    found = json.loads(invoke("inspect", tmp_path / "out.safetensors", "--json"))
    rows = {row["name"]: row for row in found["tensors"]}
    assert (found["kind"], found["version"]) == ("sparsecore", "1.2")
    assert rows["layer.fc1.weight"]["state"] == "packed"
    assert rows["layer.fc1.weight"]["pattern"] == "2:4"
    assert rows["layer.fc1.weight"]["density"] == 0.5
    assert rows["layer.fc1.weight"]["dense_bytes"] == 128 * 64 * 4
    assert rows["layer.fc1.weight"]["bytes"] == pruned.packed["layer.fc1"].stored.nbytes
    assert rows["norm.weight"]["state"] == "dense"
    assert "layer.fc2.weight" in invoke("inspect", tmp_path / "out.safetensors")


def test_prune_can_write_dense_zeros_and_pack_makes_them_small(tmp_path: Path, seed: int) -> None:
    checkpoint(tmp_path / "in.safetensors", seed)
    options = ("--pattern", "block 16x16", "--sparsity", "0.75", "--scope", "global", "--no-pack")
    invoke("prune", tmp_path / "in.safetensors", tmp_path / "zeros.safetensors", *options)
    assert "layer.fc1.weight" in load_file(tmp_path / "zeros.safetensors")
    output = invoke("pack", tmp_path / "zeros.safetensors", tmp_path / "packed.safetensors")
    assert "2 of 5 tensors packed" in output
    zeros, packed = sc.load(tmp_path / "zeros.safetensors"), sc.load(tmp_path / "packed.safetensors")
    assert {name: packed.pattern(name) for name in ("layer.fc1.weight", "layer.fc2.weight")} == {
        "layer.fc1.weight": sc.Block(16, 16),
        "layer.fc2.weight": sc.Block(16, 16),
    }
    assert all(torch.equal(packed[name], zeros[name]) for name in zeros)


def test_pack_says_when_there_is_nothing_to_pack(tmp_path: Path, seed: int) -> None:
    checkpoint(tmp_path / "in.safetensors", seed)
    assert "nothing was packed" in invoke("pack", tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert len(sc.load(tmp_path / "out.safetensors")) == 5


def test_a_hugging_face_folder_is_pruned_as_its_model(tmp_path: Path, seed: int) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.GPT2Config(vocab_size=30, n_positions=12, n_embd=16, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "hf")
    output = invoke("prune", tmp_path / "hf", tmp_path / "out.safetensors", "--pattern", "2:4")
    assert "transformer.h.0.mlp.c_fc" in output
    loaded = sc.load(tmp_path / "out.safetensors", into=transformers.GPT2LMHeadModel(config))
    weight = loaded.transformer.h[0].mlp.c_fc.weight.detach()  # [in, out]: the groups run along the first dimension
    assert weight.t().reshape(64, 4, 4).count_nonzero(dim=-1).eq(2).all()
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_info_names_what_this_machine_has() -> None:
    found = json.loads(invoke("info", "--json"))
    assert found["processor"]["runs"] == sc.runtime_isa()
    assert found["versions"]["torch"] == torch.__version__
    assert found["threads"]["count"] == torch.get_num_threads()
    assert "cuda" in found
    assert sc.runtime_isa() in invoke("info")


def test_exit_codes_and_messages(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path / "in.safetensors", seed)
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "in.safetensors").read_bytes()[:500])
    out = tmp_path / "out.safetensors"
    for arguments, text in (
        (("inspect", tmp_path / "nothing.safetensors"), "no such checkpoint"),
        (("inspect", tmp_path / "cut.safetensors"), "not a readable safetensors file"),
        (("inspect", tmp_path / "module.pt"), "--trust-pickle"),
        (("prune", tmp_path / "in.safetensors", out, "--pattern", "2 of 4"), "no such sparsity pattern"),
        (("prune", tmp_path / "in.safetensors", tmp_path / "no" / "out.safetensors"), "folder"),
        (("prune", tmp_path / "in.safetensors"), "Missing argument"),
    ):
        monkeypatch.setattr(sys, "argv", ["sparsecore", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        shown = capsys.readouterr().err
        assert leaving.value.code == 2, (arguments, shown)
        assert text in shown, (arguments, shown)
        assert "Traceback" not in shown
    assert not out.exists()


def test_the_process_ends_with_the_exit_code(tmp_path: Path) -> None:
    done = command("inspect", tmp_path / "nothing.safetensors")
    assert done.returncode == 2
    assert "no such checkpoint" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_usage_names_the_command() -> None:
    assert "sparsecore prune" in command("prune", "--help").stdout
    module = [sys.executable, "-m", "sparsecore.cli", "prune", "--help"]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(module, capture_output=True, text=True, check=True, env=environment)
    assert "sparsecore prune" in done.stdout


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = command("inspect", tmp_path / "nothing.safetensors", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "FileMissingError" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--sparsity", "1.5", "--pattern", "unstructured"), "sparsity is 1.5"),
        (("--scope", "everywhere", "--pattern", "unstructured"), "no such scope"),
        (("--method", "magnitud"), "magnitude"),
        (("--exclude", "*"), "no weight to prune"),
    ],
)
def test_bad_options_of_prune_are_named(tmp_path: Path, seed: int, arguments: tuple[str, ...], error: str) -> None:
    checkpoint(tmp_path / "in.safetensors", seed)
    source, target = str(tmp_path / "in.safetensors"), str(tmp_path / "out.safetensors")
    result = CliRunner().invoke(app, ["prune", source, target, *arguments])
    assert isinstance(result.exception, sc.errors.NamedError)
    assert error in str(result.exception)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_trusted_pickle_is_read(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3), tmp_path / "module.pt")
    assert "bias" in invoke("inspect", tmp_path / "module.pt", "--trust-pickle")


def test_without_torch_the_command_says_what_to_install(tmp_path: Path) -> None:
    blocker = tmp_path / "sitecustomize.py"
    blocker.write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch': raise ModuleNotFoundError('no torch', name='torch')\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = command("inspect", tmp_path / "m.safetensors", PYTHONPATH=path)
    assert done.returncode == 2, done
    assert "sparsecore-kernels[torch]" in done.stderr
    assert command("--help", PYTHONPATH=path).returncode == 0


def test_doctor_shows_the_machine_and_calibrates_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = json.loads(invoke("doctor", "--json"))
    assert found["machine"]["isa"] == found["instruction sets"]["runs"] == sc.runtime_isa()
    assert "GB/s" in found["limits"]["read"]
    assert found["calibration"]["own"] == "none"
    assert any("--calibrate" in line for line in found["advice"])
    # The measurement itself has tests of its own; here one pattern is enough.
    monkeypatch.setattr("sparsecore.calibrate.CASES", ((sc.NM(2, 4), (0.5,)),))
    monkeypatch.setattr("sparsecore.calibrate.DTYPES", (torch.float32,))
    shown = invoke("doctor", "--calibrate")
    assert "written: " in shown
    assert "in use" in shown
    after = json.loads(invoke("doctor", "--json"))
    assert after["calibration"]["own"] == "in use"
    assert after["calibration"]["trust"] == 1
    assert not any("--calibrate" in line for line in after["advice"])


def test_bench_explains_random_layers_and_those_of_a_checkpoint(tmp_path: Path, seed: int) -> None:
    random_layer = invoke("bench", "--shape", "64x32", "--tokens", "1,40", "--dtype", "bf16", "--explain")
    assert "64x32 bfloat16 2:4, density 0.500" in random_layer
    assert "verdict: " in random_layer
    assert "bound by" in random_layer
    checkpoint(tmp_path / "in.safetensors", seed)
    invoke("prune", tmp_path / "in.safetensors", tmp_path / "out.safetensors", "--pattern", "2:4")
    layers = json.loads(invoke("bench", tmp_path / "out.safetensors", "--tokens", "3", "--json"))
    assert {(layer["name"], *layer["shape"]) for layer in layers} == {
        ("layer.fc1.weight", 128, 64),
        ("layer.fc2.weight", 64, 128),
    }
    for layer in layers:
        (point,) = layer["points"]
        assert point["tokens"] == 3
        assert point["packed"] >= 0 < point["dense"]
        assert point["read_floor"] == layer["packed_bytes"] / layer["limits"]["read"]
        assert layer["verdict"].startswith(("packed: ", "dense: "))
    save_file({"a.weight": torch.randn(8, 8)}, tmp_path / "full.safetensors")
    assert "no weight" in invoke("bench", tmp_path / "full.safetensors")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--shape", "64"), "no shape"),
        (("--shape", "0x64"), "no shape"),
        (("--shape", "9999999x9999999"), "no shape"),
        (("--dtype", "fp8"), "no dtype"),
        (("--tokens", "1,x"), "no numbers of tokens"),
        (("--tokens", "0"), "no numbers of tokens"),
        (("--sparsity", "2", "--pattern", "unstructured"), "sparsity is 2"),
        (("--pattern", "2 of 4"), "no such sparsity pattern"),
    ],
)
def test_bad_options_of_bench_are_named(arguments: tuple[str, ...], error: str) -> None:
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(result.exception, sc.errors.NamedError)
    assert error in str(result.exception)
