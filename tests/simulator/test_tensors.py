"""Q, K and V beside a workload: written layer by layer, read when a design has to decide, named where missing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from attention_ops import attention
from command import Simulate

from simulator import api
from simulator.designs.a3.decide import A3Rule
from simulator.designs.decision import AttentionTensors, Rule, decide
from simulator.designs.mnnfast.decide import MnnFastRule
from simulator.designs.offline import decide_layer, decided_offline
from simulator.errors import CorruptFileError, FileMissingError, InvalidValueError, MissingTensorsError
from simulator.workload import ModelInfo, ReadRequest, Sequence, Workload
from simulator.workload.reader import read_workload
from simulator.workload.tensors import LayerTensors, TensorsFile, TensorWriter, opened

A3, FAST = A3Rule(0.5, 5.0, 4, 4), MnnFastRule(0.1)
MODEL = ModelInfo("gpt2", 2, 4, 2, 8, 32, 0, 10, 10, "f32")
PROMPT, STEPS = 9, 3


def layer(rng: np.random.Generator, tokens: int = PROMPT + STEPS, **more: object) -> LayerTensors:
    q = rng.standard_normal((4, tokens, 8)).astype(np.float32)
    k, v = (rng.standard_normal((2, tokens, 8)).astype(np.float32) for _ in range(2))
    return dataclasses.replace(LayerTensors(q, k, v, 0.35, causal=True), **more)


def workload(tensors: TensorsFile | None = None) -> Workload:
    ops = [attention(PROMPT, heads=4, head_dim=8, layer=n, kv_heads=2) for n in range(2)]
    ops += [
        attention(PROMPT + step + 1, 1, heads=4, head_dim=8, layer=n, step=step, kv_heads=2)
        for step in range(STEPS)
        for n in range(2)
    ]
    return Workload("w", MODEL, (Sequence(0, PROMPT),), tuple(ops), (), (), tensors=tensors)


def kept(folder: Path, rng: np.random.Generator) -> tuple[Workload, list[LayerTensors]]:
    writer, layers = TensorWriter(folder / "w.json"), [layer(rng) for _ in range(2)]
    for number, tensors in enumerate(layers):
        writer.add(0, number, tensors)
    made = workload(writer.finish())
    made.save(folder / "w.json")
    return made, layers


@pytest.mark.parametrize("rule", [A3, FAST], ids=["a3", "mnnfast"])
def test_steps_are_decided_like_ops_of_their_own(rule: Rule, seed: int) -> None:
    tensors = layer(np.random.default_rng(seed))
    made = {one.place: one for one in decide_layer(rule, tensors, 0, 1, PROMPT)}
    assert len(made) == 1 + STEPS
    for step in range(STEPS):
        end = PROMPT + step + 1
        alone = AttentionTensors(tensors.q[:, end - 1 : end], tensors.k[:, :end], tensors.v[:, :end], tensors.scale)
        expected, found = decide(rule, (1, 0, "generate", step), alone), made[1, 0, "generate", step]
        assert dataclasses.replace(found, output_error=None) == dataclasses.replace(expected, output_error=None)
        assert all(np.array_equal(found.arrays()[name], array) for name, array in expected.arrays().items())
        assert found.output_error == pytest.approx(expected.output_error)
    visible = np.tri(PROMPT, dtype=bool)
    prompt = AttentionTensors(tensors.q[:, :PROMPT], tensors.k[:, :PROMPT], tensors.v[:, :PROMPT], 0.35, visible)
    whole = decide(rule, (1, 0, "summarise", 0), prompt)
    assert np.array_equal(made[1, 0, "summarise", 0].candidates, whole.candidates)


@pytest.mark.parametrize("causal", [True, False])
def test_tensors_come_back_as_they_were(causal: bool, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    odd = rng.random((5, 5)) < 0.6
    given = {
        (0, 0): layer(rng, causal=causal),
        (0, 1): layer(rng, tokens=5, causal=False, visible=odd),
        (7, 3): dataclasses.replace(layer(rng, tokens=1), q=np.ones((4, 1, 8), np.float16)),
        (1, 0): layer(rng, tokens=0),
    }
    writer = TensorWriter(tmp_path / "w.json")
    for (sequence, number), tensors in given.items():
        writer.add(sequence, number, tensors)
    with opened(writer.finish()) as reader:
        for (sequence, number), tensors in given.items():
            again = reader.layer(sequence, number)
            for name in ("q", "k", "v"):
                assert np.array_equal(getattr(again, name), getattr(tensors, name))
                assert getattr(again, name).dtype == getattr(tensors, name).dtype
            assert (again.scale, again.causal) == (tensors.scale, tensors.causal)
            assert (again.visible is None) == (tensors.visible is None)
            assert again.visible is None or np.array_equal(again.visible, odd)
        with pytest.raises(CorruptFileError, match=r"2\.0\.k"):
            reader.layer(2, 0)
    (path,) = tmp_path.iterdir()
    assert path.match("w.????????????.tensors.safetensors")


def test_another_design_decides_later(tmp_path: Path, seed: int) -> None:
    made, layers = kept(tmp_path, np.random.default_rng(seed))
    loaded = Workload.load(tmp_path / "w.json")
    assert loaded == made and loaded.tensors == made.tensors
    with_both = decided_offline(loaded, [A3, FAST])
    assert len(with_both.decisions) == 2 * 2 * (1 + STEPS)
    for one in with_both.decided(A3.name).values():
        expected = {d.place: d for d in decide_layer(A3, layers[one.layer], 0, one.layer, PROMPT)}[one.place]
        assert np.array_equal(one.candidates, expected.candidates)
        assert one.output_error == expected.output_error
    assert decided_offline(with_both, [FAST]) is with_both
    part = decided_offline(loaded.only("generate"), [FAST])
    assert {one.phase for one in part.decisions} == {"generate"}
    result = api.run(str(tmp_path / "w.json"), "a3")
    assert result.output_error is not None and result.error_kind == "measured"
    assert api.run(str(tmp_path / "w.json"), "spatten").output_error is None


def test_without_tensors_it_is_said_what_to_do(tmp_path: Path, seed: int) -> None:
    plain = workload()
    assumed = api.run(plain, "mnnfast")  # nothing was captured: fractions
    assert {field.name: field.kind for field in assumed.inputs}["workload.decisions"] == "assumed"
    tensors = layer(np.random.default_rng(seed))
    captured = dataclasses.replace(
        plain, decisions=tuple(d for n in range(2) for d in decide_layer(A3, tensors, 0, n, PROMPT))
    )
    assert api.run(captured, "a3").error_kind == "measured"
    assert api.run(captured, "a3-base").scopes["attention"].cycles  # keeps all: nothing to decide
    with pytest.raises(MissingTensorsError, match=r"(?s)no decisions by 'mnnfast.*'a3: M = 0\.5 n.*--keep-tensors"):
        api.run(captured, "mnnfast")
    with pytest.raises(MissingTensorsError, match="captured with tensors"):
        decided_offline(plain, [A3])
    with pytest.raises(InvalidValueError, match=r"(?s)nothing is run.*--input"):
        read_workload("bert-base", ReadRequest(keep_tensors=str(tmp_path / "x.json")))


def test_damaged_tensors_are_named(tmp_path: Path, seed: int) -> None:
    made, _ = kept(tmp_path, np.random.default_rng(seed))
    assert made.tensors is not None
    path, raw = made.tensors.path, made.tensors.path.read_bytes()
    damages: tuple[tuple[Callable[[], object], type[Exception], str], ...] = (
        (lambda: path.write_bytes(raw[:-3]), CorruptFileError, "do not belong"),
        (lambda: path.write_bytes(raw[:50] + b"x" + raw[51:]), CorruptFileError, "do not belong"),
        (path.unlink, FileMissingError, "does not exist"),
    )
    for damage, error, what in damages:
        damage()
        with pytest.raises(error, match=what):
            api.run(str(tmp_path / "w.json"), "a3")
    document = json.loads((tmp_path / "w.json").read_text())
    for entry in ({"file": "../w"}, {"file": "w", "sha256": 1}, [1]):
        (tmp_path / "w.json").write_text(json.dumps({**document, "tensors": entry}))
        with pytest.raises(CorruptFileError, match="reference to the tensors"):
            Workload.load(tmp_path / "w.json")


def test_old_tensors_go_with_their_workload(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, _ = kept(tmp_path, rng)
    second, _ = kept(tmp_path, rng)
    assert first.tensors is not None and second.tensors is not None
    assert not first.tensors.path.exists() and second.tensors.path.exists()
    with pytest.raises(InvalidValueError, match="another folder"):
        second.save(tmp_path.parent / "elsewhere.json")
    dataclasses.replace(second, tensors=None).save(tmp_path / "w.json")
    assert [path.name for path in tmp_path.iterdir()] == ["w.json"]
    with pytest.raises(FileMissingError, match="folder"):
        TensorWriter(tmp_path / "none" / "w.json")


def test_the_command_names_what_cannot_be_captured(simulate: Simulate, tmp_path: Path) -> None:
    for options, what in (
        (("--arch", "a3"), "nothing is run"),
        (("--keep-tensors",), "nothing is run"),
        (("--arch", "a4", "--input", "x.json"), "a4"),
    ):
        code, _, err = simulate("capture", "bert-base", tmp_path / "w.json", *options)
        assert code == 2
        assert what in err
    code, _, err = simulate("capture", "bert-base", tmp_path / "w.csv", "--keep-tensors", "--input", "x")
    assert (code, "hold no decisions" in err) == (2, True)
