"""What ships by name: models and their uses, lengths, batches, and a class token that is never pruned."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command import Simulate

from simulator.errors import CorruptFileError, FormatVersionError, InvalidValueError, UnknownNameError
from simulator.workload import AttentionOp, ReadRequest, Workload
from simulator.workload.build import build
from simulator.workload.named import builtin_workloads, describe_builtin, model_sizes
from simulator.workload.reader import read_workload
from simulator.workload.schedule import load_schedule

TASKS = {"squad", "squad-v2", "cola", "mnli-m", "mnli-mm", "mrpc", "qnli", "qqp", "rte", "sst-2", "sts-b"}


def test_every_name_is_a_workload() -> None:
    for name in builtin_workloads():
        short = ReadRequest(seq_len=12, generate=2) if "gpt2" in name or "llama" in name else ReadRequest(seq_len=12)
        workload = read_workload(name, short)
        assert workload.name == name
        assert workload.source
        assert workload.model in model_sizes()
        assert describe_builtin(name)
    small = [read_workload(name, ReadRequest(seq_len=12, generate=2)) for name in ("gpt2", "gpt2-small")]
    assert small[0].attention == small[1].attention


def test_the_tasks_of_bert() -> None:
    for model, layers in (("bert-base", 12), ("bert-large", 24)):
        names = {name for name in builtin_workloads() if name.startswith(f"{model}@")}
        assert names == {f"{model}@{task}~assumed" for task in TASKS}
        for name in names:
            workload = read_workload(name)
            assert (workload.model.layers, workload.kinds()["tokens"]) == (layers, "assumed")
            tokens = workload.sequences[0].tokens
            assert f"{tokens} tokens: an assumed length" in workload.notes[0]
    given = read_workload("bert-base@squad~assumed", ReadRequest(seq_len=384))
    assert given.sequences[0].tokens == 384
    assert not any("assumed length" in note for note in given.notes)


@pytest.mark.parametrize(("batch", "suffix"), [(1, ""), (8, "-batch8"), (32, "-batch32")])
@pytest.mark.parametrize(("size", "final"), [("8k", 8192), ("32k", 32768)])
def test_llama(batch: int, suffix: str, size: str, final: int) -> None:
    workload = read_workload(f"llama-3-8b@{size}{suffix}", ReadRequest(generate=1))
    assert [s.tokens for s in workload.sequences] == [final - 32] * batch
    op = workload.attention[-1]
    assert (len(op.heads), op.kv_heads, op.head_dim, op.context) == (32, 8, 128, final - 31)
    assert len(workload.attention) == 2 * 32 * batch, "attention is by sequence"
    assert len(workload.linear) == 2 * (32 * 7 + 1), "linear layers are for the batch"


def test_a_batch_reads_weights_once() -> None:
    one, eight = (read_workload("llama-3-8b", ReadRequest(seq_len=16, generate=2, batch=n)) for n in (1, 8))
    assert len(one.linear) == len(eight.linear)
    for alone, together in zip(one.linear, eight.linear, strict=True):
        weights = alone.in_features * alone.out_features * alone.weight_bits // 8
        assert (together.sequence, together.tokens, together.operations) == (
            None,
            8 * alone.tokens,
            8 * alone.operations,
        )
        assert together.bytes - weights == 8 * (alone.bytes - weights)
    assert eight.operations("attention") == 8 * one.operations("attention")
    assert eight.bytes("attention") == 8 * one.bytes("attention"), "each sequence has a K and V of its own"
    assert eight.dense().operations("linear") == eight.operations("linear")


def test_generations_are_generations_alone() -> None:
    for name in ("gpt2-medium@wikitext2", "gpt2-small@wikitext2", "gpt2-medium@dense", "gpt2-small@dense-8+4"):
        workload = read_workload(name)
        assert {op.phase for op in workload.ops()} == {"generate"}
        assert (workload.sequences[0].tokens, max(op.context for op in workload.attention)) == (992, 1024)
    medium = read_workload("gpt2-medium@dense")
    weights = 24 * (3 + 1 + 4 + 4) * 1024 * 1024
    assert medium.operations("linear") == 32 * 2 * (weights + 1024 * 50257)
    longer = read_workload("gpt2-small@wikitext2", ReadRequest(seq_len=100, generate=4))
    assert {op.step for op in longer.attention} == {0, 1, 2, 3}
    assert longer.kinds()["tokens"] == "assumed"


def test_a_selection_for_the_next_step() -> None:
    """The released file of GPT-2-Small selects 921 tokens behind the last layer of all iterations but the last one."""
    ops = read_workload("gpt2-small@wikitext2").attention
    found = {(op.step, op.layer): op.token_select for op in ops if op.token_select}
    assert {layer for _, layer in found} == {0, 1, 5, 11}
    assert found[0, 11] == (993, 921)
    assert found[30, 11] == (1023, 921)
    assert (31, 11) not in found
    assert found[1, 0] == (921, 716)
    assert len(found) == 4 * 31


def test_the_class_token_stays() -> None:
    workload = read_workload("vit-base")
    assert workload.sequences[0].tokens == 197
    assert {op.protected for op in workload.attention} == {1}
    assert workload.attention[-1].keys < 197
    assert all(a.keys >= b.keys for a, b in pairwise(workload.attention))
    everything = read_workload("vit-base", ReadRequest(schedule="none"))
    assert {op.protected for op in everything.attention} == {0}
    patches = everything.linear[0]
    assert (patches.tokens, patches.in_features, patches.out_features) == (196, 768, 768)
    classifier = everything.linear[-1]
    assert (classifier.tokens, classifier.out_features) == (1, 1000)
    per_token = 12 * 2 * (4 * 768 * 768 + 2 * 768 * 3072)
    assert everything.operations("linear") == 197 * per_token + 2 * 196 * 768 * 768 + 2 * 768 * 1000
    assert read_workload("vit-base", ReadRequest(seq_len=1)).attention[-1].keys == 1


def test_assumed_positions_have_the_class_token(seed: int) -> None:
    from simulator.designs.registry import make

    design = make("spatten", seed=seed)[0]
    hits = 0
    for kept in range(1, 197, 13):
        rows = design.chosen(kept, 197, 0, 1)
        assert rows.shape == (kept,)
        assert rows[0] == 0
        assert np.all(np.diff(rows) > 0)
        assert rows[-1] < 197
        hits += 0 in design.chosen(kept, 197, 1)
    assert hits < 16, "without protection the first position is one like the others"


def test_protection_in_schedules(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("token_keep: [1, 0.01]\nprotect: 2\n")
    schedule = load_schedule(tmp_path / "s.yaml")
    model = read_workload("vit-base", ReadRequest(seq_len=4)).model
    ops = build(model, schedule, 100).attention
    assert [(op.keys, op.protected) for op in (ops[0], ops[-1])] == [(100, 2), (2, 2)]


def test_bad_names_and_options() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'bert-base@squad~assumed'"):
        read_workload("bert-base@squad")
    with pytest.raises(UnknownNameError, match="gpt2-small@wikitext2"):
        read_workload("gpt2-small@wikitxt2")
    with pytest.raises(InvalidValueError, match="--schedule changes nothing"):
        read_workload("gpt2-medium@wikitext2", ReadRequest(schedule="none"))
    with pytest.raises(InvalidValueError, match="is a generation"):
        read_workload("gpt2-medium@wikitext2", ReadRequest(generate=0))
    with pytest.raises(InvalidValueError, match="no weights"):
        read_workload("vit-base", ReadRequest(input="x.png"))


def test_they_are_listed(simulate: Simulate) -> None:
    code, out, _ = simulate("archs")
    assert code == 0
    assert all(f"  {name} " in out for name in builtin_workloads())
    said = "".join(simulate("run", "--help")[1].split())
    assert all(name in said for name in builtin_workloads())


def test_requests_from_the_command_line(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    code, out, _ = simulate("capture", "gpt2-small@dense", path, "--seq-len", 30, "--generate", 2)
    assert (code, path.read_text().count("\n")) == (0, 2 * 12 * 12 + 2)
    assert "24 attention, 0 linear, 0 other ops" in out
    code, _, _ = simulate("--arch", "spatten", path, "--json", tmp_path / "r.json", "-q")
    assert code == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["scopes"]["attention"]["operations"] == sum(2 * 64 * 2 * 144 * length for length in (31, 32))
    path.write_text(path.read_text().replace(",31,", ",x,", 1))
    code, _, err = simulate("--arch", "spatten", path)
    assert code == 2
    assert "line 2" in err
    code, _, err = simulate("bert-base", "--unquantised", "32")
    assert code == 2
    assert "--unquantised" in err


def kept_sets(seed: int) -> Workload:
    """Two ops of a pruned decoder whose kept positions are known."""
    rng = np.random.default_rng(seed)
    model = read_workload("gpt2", ReadRequest(seq_len=2, generate=0)).model
    ops, arrays = [], {}
    for step, context in enumerate((1, 300, 1000)):
        keys = int(rng.integers(1, context + 1))
        arrays[f"keys{step}"] = np.sort(rng.choice(context, keys, replace=False)).astype(np.int32)
        op = AttentionOp(0, 0, "generate", step, context, 1, keys, (0,), 1, 64, (keys,), keys, (0,), 8, 8, 0, 8)
        ops.append(type(op)(**{**{n: getattr(op, n) for n in op.__slots__}, "key_ids": f"keys{step}"}))
    return Workload("kept", model, read_workload("gpt2").sequences, tuple(ops), (), (), arrays)


def test_kept_sets_are_bitmaps_in_the_file(tmp_path: Path, seed: int) -> None:
    from safetensors.numpy import load_file

    workload = kept_sets(seed)
    workload.save(tmp_path / "w.json")
    (beside,) = tmp_path.glob("*.safetensors")
    stored = load_file(beside)
    for op in workload.attention:
        assert op.key_ids is not None
        bitmap = stored[op.key_ids]
        assert (bitmap.dtype, bitmap.shape) == (np.uint8, (-(-op.context // 8),))
        bits = [bitmap[i // 8] >> (i % 8) & 1 for i in range(op.context)]
        assert np.flatnonzero(bits).tolist() == workload.arrays[op.key_ids].tolist()
    again = Workload.load(tmp_path / "w.json")
    assert again == workload
    assert all(np.array_equal(again.arrays[name], ids) for name, ids in workload.arrays.items())
    assert all(ids.dtype == np.int32 for ids in again.arrays.values())


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_older_workloads_load(tmp_path: Path, seed: int) -> None:
    from safetensors.numpy import save_file

    workload, path = kept_sets(seed), tmp_path / "w.json"
    workload.save(path)
    (beside,) = tmp_path.glob("*.safetensors")
    save_file(workload.arrays, tmp_path / "w.ids.safetensors")  # lists of positions, and no hash
    rewrite(path, version="1.0", arrays={"file": "w.ids.safetensors"})
    old = json.loads(path.read_text())
    for op in old["attention"]:  # without the fields that came later
        del op["protected"], op["continues"]
    path.write_text(json.dumps(old))
    again = Workload.load(path)
    assert again == workload
    assert all(np.array_equal(again.arrays[name], ids) for name, ids in workload.arrays.items())
    rewrite(path, version="1.1")
    with pytest.raises(CorruptFileError, match="file and sha256"):
        Workload.load(path)
    rewrite(path, version="2.0")
    with pytest.raises(FormatVersionError, match=r"2\.0"):
        Workload.load(path)
    rewrite(path, version="1.1", arrays={"file": beside.name, "sha256": "0" * 64})
    with pytest.raises(CorruptFileError, match="do not belong"):
        Workload.load(path)


def test_damaged_bitmaps_are_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    workload, path = kept_sets(1), tmp_path / "w.json"
    good = {name: np.zeros(op.context, bool) for op, name in zip(workload.attention, workload.arrays, strict=True)}
    for name, ids in workload.arrays.items():
        good[name][ids] = True
    packed = {name: np.packbits(kept, bitorder="little") for name, kept in good.items()}
    for damage, what in (
        (np.append(packed["keys1"], np.uint8(1)), "key ids"),
        (packed["keys1"][:-5] & 0, "key ids"),
        (packed["keys1"].astype(np.int64), "an array of int64"),
        (packed["keys1"].reshape(2, -1), "an array of uint8"),
    ):
        workload.save(path)
        save_file({**packed, "keys1": damage}, tmp_path / "w.bad.safetensors")
        rewrite(path, version="1.0", arrays={"file": "w.bad.safetensors"})
        with pytest.raises(CorruptFileError, match=what):
            Workload.load(path)
