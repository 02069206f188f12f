"""MODEL to a workload: every kind of file, without torch, and every way in which one can be bad."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from simulator.errors import (
    ConfigError,
    CorruptFileError,
    FileMissingError,
    InvalidValueError,
    UnknownNameError,
    UnsupportedError,
)
from simulator.workload import ModelInfo, ReadRequest
from simulator.workload import reader as reader_module
from simulator.workload.reader import builtin_models, read_workload

Arrays = dict[str, np.ndarray]


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float16)


def bert(layers: int = 2, hidden: int = 32, mlp: int = 64, prefix: str = "", types: int = 2) -> Arrays:
    tensors = {
        f"{prefix}embeddings.word_embeddings.weight": zeros(50, hidden),
        f"{prefix}embeddings.token_type_embeddings.weight": zeros(types, hidden),
        f"{prefix}pooler.dense.weight": zeros(hidden, hidden),
    }
    for layer in range(layers):
        start = f"{prefix}encoder.layer.{layer}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            tensors[f"{start}{name}.weight"] = zeros(hidden, hidden)
        tensors[f"{start}intermediate.dense.weight"] = zeros(mlp, hidden)
        tensors[f"{start}output.dense.weight"] = zeros(hidden, mlp)
    return tensors


def distilbert() -> Arrays:
    start = "distilbert.transformer.layer.0."
    names = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin")
    tensors = {f"{start}{name}.weight": zeros(24, 24) for name in names}
    return {
        **tensors,
        f"{start}ffn.lin1.weight": zeros(48, 24),
        f"{start}ffn.lin2.weight": zeros(24, 48),
        "distilbert.embeddings.word_embeddings.weight": zeros(70, 24),
    }


def gpt2() -> Arrays:
    tensors = {"wte.weight": zeros(90, 16), "wpe.weight": zeros(64, 16)}
    for layer in range(3):
        tensors[f"h.{layer}.attn.c_attn.weight"] = zeros(16, 48)
        tensors[f"h.{layer}.attn.c_proj.weight"] = zeros(16, 16)
        tensors[f"h.{layer}.mlp.c_fc.weight"] = zeros(16, 64)
        tensors[f"h.{layer}.mlp.c_proj.weight"] = zeros(64, 16)
    return tensors


def llama(q_norm: bool = False) -> Arrays:
    start = "model.layers.0."
    tensors = {
        "model.embed_tokens.weight": zeros(100, 32),
        f"{start}self_attn.q_proj.weight": zeros(32, 32),
        f"{start}self_attn.k_proj.weight": zeros(8, 32),
        f"{start}self_attn.v_proj.weight": zeros(8, 32),
        f"{start}self_attn.o_proj.weight": zeros(32, 32),
        f"{start}mlp.gate_proj.weight": zeros(48, 32),
        f"{start}mlp.up_proj.weight": zeros(48, 32),
        f"{start}mlp.down_proj.weight": zeros(32, 48),
    }
    return {**tensors, f"{start}self_attn.q_norm.weight": zeros(8)} if q_norm else tensors


def vit() -> Arrays:
    projection = "vit.embeddings.patch_embeddings.projection.weight"
    tensors = {"classifier.weight": zeros(10, 32), projection: zeros(32, 3, 16, 16)}
    start = "vit.encoder.layer.0."
    for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
        tensors[f"{start}{name}.weight"] = zeros(32, 32)
    tensors[f"{start}attention.output.dense.weight"] = zeros(32, 32)
    tensors[f"{start}intermediate.dense.weight"] = zeros(64, 32)
    tensors[f"{start}output.dense.weight"] = zeros(32, 64)
    return tensors


def written(tmp_path: Path, tensors: Arrays, name: str = "model.safetensors") -> str:
    save_file(tensors, tmp_path / name)
    return str(tmp_path / name)


def numbers(model: ModelInfo) -> tuple[object, ...]:
    return (model.family, model.layers, model.heads, model.kv_heads, model.head_dim, model.hidden, model.intermediate)


@pytest.mark.parametrize(
    ("tensors", "heads", "expected"),
    [
        (bert(), 4, ("bert", 2, 4, 4, 8, 32, 64)),
        (bert(prefix="bert."), 2, ("bert", 2, 2, 2, 16, 32, 64)),
        (bert(types=1), 4, ("roberta", 2, 4, 4, 8, 32, 64)),
        (bert(prefix="roberta."), 4, ("roberta", 2, 4, 4, 8, 32, 64)),
        (distilbert(), 3, ("distilbert", 1, 3, 3, 8, 24, 48)),
        (gpt2(), 2, ("gpt2", 3, 2, 2, 8, 16, 64)),
        (llama(), 4, ("llama", 1, 4, 1, 8, 32, 48)),
        (llama(q_norm=True), None, ("llama", 1, 4, 1, 8, 32, 48)),
        (vit(), 4, ("vit", 1, 4, 4, 8, 32, 64)),
    ],
)
def test_sizes_from_names_and_shapes(
    tmp_path: Path, tensors: Arrays, heads: int | None, expected: tuple[object, ...]
) -> None:
    workload = read_workload(written(tmp_path, tensors), ReadRequest(heads=heads, seq_len=16, generate=0))
    assert numbers(workload.model) == expected
    assert workload.model.parameters == sum(array.size for array in tensors.values())
    assert workload.model.dtype == "f16"
    assert workload.model.vocab in {10, 50, 70, 90, 100}
    assert workload.source.endswith("model.safetensors")


def test_heads_are_asked_for_and_checked(tmp_path: Path) -> None:
    path = written(tmp_path, bert())
    with pytest.raises(InvalidValueError, match=r"--heads N, or --config"):
        read_workload(path)
    with pytest.raises(InvalidValueError, match="5 heads"):
        read_workload(path, ReadRequest(heads=5))
    config = tmp_path / "config.json"
    config.write_text(json.dumps(BERT_CONFIG))
    assert read_workload(path, ReadRequest(config=str(config))).model.heads == 4
    assert read_workload(path, ReadRequest(config=str(tmp_path))).model.heads == 4
    assert read_workload(path, ReadRequest(config=str(config), heads=4)).model.heads == 4
    with pytest.raises(InvalidValueError, match="--heads is 8, the config has 4"):
        read_workload(path, ReadRequest(config=str(config), heads=8))
    config.write_text(json.dumps({**BERT_CONFIG, "num_hidden_layers": 3}))
    with pytest.raises(CorruptFileError, match="3 layers"):
        read_workload(path, ReadRequest(config=str(config)))
    config.write_text(json.dumps({**BERT_CONFIG, "intermediate_size": 65}))
    with pytest.raises(CorruptFileError, match=r"\[64, 32\][\s\S]*\[65, 32\]"):
        read_workload(path, ReadRequest(config=str(config)))


BERT_CONFIG = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "intermediate_size": 64,
    "vocab_size": 50,
}


def test_stored_sparse_weights_give_their_pattern(tmp_path: Path) -> None:
    tensors = bert()
    start = "encoder.layer.0."

    def stored(name: str, **parts: np.ndarray) -> None:
        del tensors[f"{start}{name}.weight"]
        tensors.update({f"{start}{name}.{part}": array for part, array in parts.items()})

    square = np.array([[32], [32]], np.int64)  # as compressed-tensors and sparsecore.save write it
    stored("attention.self.query", shape=square, compressed=zeros(32, 16), bitmask=np.zeros((32, 4), np.uint8))
    stored(
        "attention.self.key",
        shape=square,
        compressed=zeros(32, 8),
        codes=np.zeros((32, 2), np.uint8),
        nm=np.array([1, 4], np.int64),
    )
    stored(
        "attention.self.value",
        shape=square,
        compressed=zeros(100),
        bitmask=np.zeros((32, 4), np.uint8),
        row_offsets=np.zeros(32, np.int64),
    )
    stored(
        "intermediate.dense",
        shape=np.array([64, 32], np.int64),
        blocks=zeros(2, 8, 16),
        block_cols=np.zeros(2, np.int32),
        block_row_offsets=np.zeros(9, np.int64),
        block=np.array([8, 16], np.int64),
    )
    workload = read_workload(written(tmp_path, tensors), ReadRequest(heads=4))
    ops = {op.name: op for op in workload.linear if op.layer == 0}
    found = {name: (op.pattern, op.density) for name, op in ops.items() if op.pattern != "dense"}
    assert found == {
        "attention.self.query": ("2:4", 0.5),
        "attention.self.key": ("1:4", 0.25),
        "attention.self.value": ("unstructured", 100 / 1024),
        "intermediate.dense": ("block 8x16", 256 / 2048),
    }
    assert ops["attention.self.query"].kind["pattern"] == "measured"
    assert ops["output.dense"].kind["pattern"] == "assumed"
    tensors[f"{start}attention.self.query.shape"] = np.array([0, 32], np.int64)
    with pytest.raises(CorruptFileError, match="two positive"):
        read_workload(written(tmp_path, tensors), ReadRequest(heads=4))
    tensors[f"{start}attention.self.query.shape"] = np.array([64, 32], np.int64)
    with pytest.raises(CorruptFileError, match="has the shape"):
        read_workload(written(tmp_path, tensors), ReadRequest(heads=4))


def test_hugging_face_folder(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"config\.json"):
        read_workload(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(BERT_CONFIG))
    assert numbers(read_workload(str(tmp_path)).model) == ("bert", 2, 4, 4, 8, 32, 64)
    assert read_workload(str(tmp_path / "config.json")).model.heads == 4
    tensors = bert()
    names = sorted(tensors)
    for part, half in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in half}, tmp_path / f"part{part}.safetensors")
    weight_map = {name: f"part{i % 2}.safetensors" for i, name in enumerate(names)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert read_workload(str(tmp_path)).model.parameters == sum(array.size for array in tensors.values())
    (tmp_path / "part1.safetensors").unlink()
    with pytest.raises(FileMissingError, match="part1"):
        read_workload(str(tmp_path))
    index.write_text(json.dumps({"weight_map": {"a": "../part0.safetensors"}}))
    with pytest.raises(CorruptFileError, match="weight_map"):
        read_workload(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"model_type": "rwkv"}, UnsupportedError, "'rwkv' is not supported"),
        ({"model_type": "bart"}, UnsupportedError, "did you mean 'bert'"),
        ({**BERT_CONFIG, "num_attention_heads": "4"}, ConfigError, "num_attention_heads"),
        ({**BERT_CONFIG, "hidden_size": 0}, ConfigError, "hidden_size"),
        ({key: value for key, value in BERT_CONFIG.items() if key != "intermediate_size"}, ConfigError, "intermediate"),
    ],
)
def test_bad_configs(tmp_path: Path, config: dict[str, object], error: type[Exception], said: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=said):
        read_workload(str(tmp_path))


def test_configs_of_other_families(tmp_path: Path) -> None:
    configs = [
        ({"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 32, "vocab_size": 9, "n_inner": None}, 128, 4),
        ({"model_type": "distilbert", "n_layers": 2, "n_heads": 4, "dim": 32, "hidden_dim": 9, "vocab_size": 9}, 9, 4),
        ({**BERT_CONFIG, "model_type": "mistral", "num_key_value_heads": 2, "torch_dtype": "bfloat16"}, 64, 2),
    ]
    for config, mlp, kv_heads in configs:
        (tmp_path / "config.json").write_text(json.dumps(config))
        model = read_workload(str(tmp_path), ReadRequest(seq_len=4, generate=0)).model
        assert (model.layers, model.heads, model.kv_heads, model.intermediate) == (2, 4, kv_heads, mlp)
    assert model.dtype == "bf16"


def test_vision_transformers_have_patches_of_16(tmp_path: Path) -> None:
    config = {**BERT_CONFIG, "model_type": "vit", "patch_size": 16, "id2label": {str(i): "a" for i in range(7)}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    workload = read_workload(str(path))
    assert (workload.model.vocab, workload.sequences[0].tokens) == (7, 197)
    assert {op.protected for op in workload.attention} == {1}
    path.write_text(json.dumps({**config, "patch_size": 32}))
    with pytest.raises(UnsupportedError, match="patch_size is 32"):
        read_workload(str(path))


def test_damaged_safetensors(tmp_path: Path) -> None:
    path = Path(written(tmp_path, bert()))
    raw = path.read_bytes()
    request = ReadRequest(heads=4)
    for cut in (0, 4, 8, 100, len(raw) - 1):
        path.write_bytes(raw[:cut])
        with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
            read_workload(str(path), request)
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    name = "encoder.layer.0.output.dense.weight"
    for change in ({"shape": [-1, 2]}, {"shape": [2**40, 2**40]}, {"data_offsets": [0]}, {"dtype": 3}, {"shape": "x"}):
        bad = json.dumps({**header, name: {**header[name], **change}}).encode()
        path.write_bytes(struct.pack("<Q", len(bad)) + bad + raw[8 + length :])
        with pytest.raises(CorruptFileError, match=r"output\.dense"):
            read_workload(str(path), request)
    path.write_bytes(struct.pack("<Q", 4) + b"[[[[" + raw)
    with pytest.raises(CorruptFileError, match="not JSON"):
        read_workload(str(path), request)


def test_models_that_do_not_fit(tmp_path: Path) -> None:
    request = ReadRequest(heads=4)
    with pytest.raises(UnsupportedError, match="no known model"):
        read_workload(written(tmp_path, {"a": zeros(2)}), request)
    tensors = bert(layers=3)
    gap = {name: array for name, array in tensors.items() if "layer.1." not in name}
    with pytest.raises(CorruptFileError, match="layer 1 of 3"):
        read_workload(written(tmp_path, gap), request)
    hole = {name: array for name, array in tensors.items() if "2.output.dense" not in name}
    with pytest.raises(CorruptFileError, match=r"layer\.2\.output\.dense"):
        read_workload(written(tmp_path, hole), request)
    with pytest.raises(UnsupportedError, match="several"):
        read_workload(written(tmp_path, {**bert(prefix="a."), **bert(prefix="b.")}), request)
    opt = {name.replace("mlp.up_proj", "fc1"): array for name, array in llama().items()}
    with pytest.raises(UnsupportedError, match="no known model"):
        read_workload(written(tmp_path, opt), request)


def test_saved_workloads_and_names(tmp_path: Path) -> None:
    models = {"bert-base", "bert-large", "gpt2", "gpt2-medium", "llama-3-8b", "vit-base", "vit-large"}
    assert set(builtin_models()) == models
    workload = read_workload("bert-base", ReadRequest(seq_len=20, schedule="none"))
    assert workload.sequences[0].tokens == 20
    workload.save(tmp_path / "w.json")
    assert read_workload(str(tmp_path / "w.json")) == workload
    with pytest.raises(InvalidValueError, match="saved workload"):
        read_workload(str(tmp_path / "w.json"), ReadRequest(input="x.txt"))
    with pytest.raises(InvalidValueError, match="no weights"):
        read_workload("gpt2", ReadRequest(input="x.txt"))
    for changed in ({"schedule": "none"}, {"seq_len": 3}, {"batch": 2}, {"generate": 0}, {"config": "c"}, {"heads": 4}):
        flag = "--" + next(iter(changed)).replace("_", "-")
        with pytest.raises(InvalidValueError, match=f"{flag} changes nothing"):
            read_workload(str(tmp_path / "w.json"), ReadRequest(**changed))
    with pytest.raises(InvalidValueError, match="--heads changes nothing"):
        read_workload("gpt2", ReadRequest(heads=12))
    with pytest.raises(InvalidValueError, match="--batch changes nothing"):
        read_workload(written(tmp_path, bert()), ReadRequest(input="x.json", batch=2))
    with pytest.raises(UnknownNameError, match="did you mean 'bert-base'"):
        read_workload("bert-bas")
    with pytest.raises(FileMissingError, match=r"absent\.pt"):
        read_workload("absent.pt")
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(CorruptFileError, match="not a saved workload"):
        read_workload(str(tmp_path / "r.json"))
    (tmp_path / "r.json").write_text('{"format": "sparsecore-result"}')
    with pytest.raises(CorruptFileError, match="simulate show"):
        read_workload(str(tmp_path / "r.json"))


def test_builtin_sizes_are_those_of_the_reference_implementation() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        large = transformers.BertConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
        )
        models = {
            "bert-base": transformers.BertModel(transformers.BertConfig()),
            "bert-large": transformers.BertModel(large),
            "gpt2": transformers.GPT2Model(transformers.GPT2Config()),
            "gpt2-medium": transformers.GPT2Model(transformers.GPT2Config(n_embd=1024, n_layer=24, n_head=16)),
            "vit-base": transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)),
        }
        large_sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
        vit = transformers.ViTConfig(**large_sizes, intermediate_size=4096, num_labels=1000)
        models["vit-large"] = transformers.ViTForImageClassification(vit)
        llama = transformers.LlamaConfig(
            hidden_size=4096,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            intermediate_size=14336,
            vocab_size=128256,
            tie_word_embeddings=False,
        )
        models["llama-3-8b"] = transformers.LlamaForCausalLM(llama)
    assert models.keys() == set(builtin_models())
    for name, model in models.items():
        assert read_workload(name, ReadRequest(seq_len=1, generate=0)).model.parameters == model.num_parameters()


def read_answer(path: str, request: ReadRequest) -> ModelInfo | None:
    """A reader as another package would register it."""
    return ModelInfo("bert", 1, request.heads or 2, 2, 8, 16, 32, 10, 0, "f32") if path.endswith(".mine") else None


def test_readers_of_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint("torch", f"{__name__}:read_answer", "simulator.readers")]
    monkeypatch.setattr(reader_module.importlib.metadata, "entry_points", lambda group: entries)
    (tmp_path / "model.mine").write_bytes(b"anything")
    assert read_workload(str(tmp_path / "model.mine")).model.layers == 1
    (tmp_path / "model.other").write_bytes(b"anything")
    with pytest.raises(CorruptFileError, match="no known kind"):
        read_workload(str(tmp_path / "model.other"))
    entries[0] = EntryPoint("torch", f"{__name__}:absent", "simulator.readers")
    with pytest.raises(UnsupportedError, match="cannot be loaded"):
        read_workload(str(tmp_path / "model.mine"))


def test_no_torch_is_imported() -> None:
    code = (
        "import sys; from simulator.workload.reader import read_workload; read_workload('bert-base');"
        "sys.exit('torch' in sys.modules or 'sparsecore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
