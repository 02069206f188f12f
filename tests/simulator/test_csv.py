"""The request files of SpAtten's authors: rows, both layouts, round trips, every way in which one can be bad."""

from __future__ import annotations

import dataclasses
import gzip
import random
from pathlib import Path

import pytest

from simulator.errors import CorruptFileError, FileMissingError, InvalidValueError, UnsupportedError
from simulator.workload import AttentionOp, ReadRequest, Workload
from simulator.workload.reader import read_workload
from simulator.workload.spatten_csv import GENERATION, SUMMARISATION
from simulator.workload.spatten_requests import write_requests

Row = dict[str, str]


def named(columns: str, cells: str) -> Row:
    return dict(zip(columns.split(","), cells.split(","), strict=True))


# What the test bench reads, in its order, and what the program for BERT does.
ROW = named(
    "iteration_id,layer_id,head_id,embedding_length_D,sentence_length_L,key_fetch_num,quant_key_bit,quant_query_bit,"
    "auto_requant_thres,if_requant,auto_requant_incre,value_fetch_num,quant_value_bit,if_accumulate_importance,"
    "if_rescale_previous_importance,if_topk,topk",
    "0,0,0,64.0,993,993,12,16,-1,False,-1,307,8,True,False,False,-1",
)
BERT_ROW = named(
    "layer_id,head_id,embedding_length_D,sentence_length_L,key_value_query_fetch_num,quant_key_bit,quant_value_bit,"
    "quant_query_bit,auto_requant_thres,if_requant,auto_requant_incre,auto_requant_num,if_accumulate_importance,"
    "if_topk,topk",
    "0,0,64,50,40,8,8,12,-1,False,-1,-1,True,False,-1",
)


def row(base: Row = ROW, **changes: object) -> Row:
    return {**base, **{name: str(value) for name, value in changes.items()}}


def text(*rows: Row, end: str = "") -> str:
    lines = [",".join(rows[0]), *(",".join(each.values()) for each in rows)]
    return "\n".join([*lines, *([end] if end else [])]) + "\n"


def written(tmp_path: Path, content: str | bytes, name: str = "requests.csv") -> str:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(tmp_path / name)


def read(tmp_path: Path, *rows: Row, unquantised: str = "8+4") -> Workload:
    return read_workload(written(tmp_path, text(*rows)), ReadRequest(unquantised=unquantised))


def requests(workload: Workload) -> int:
    return sum(len(op.heads) for op in workload.attention)


def key_and_value_bits(workload: Workload) -> int:
    total = 0
    for op in workload.attention:
        low = sum(count > 0 for count in op.lsb_queries) * op.keys * op.key_lsb_bits
        total += op.head_dim * (len(op.heads) * op.keys * op.key_msb_bits + low + sum(op.values) * op.value_bits)
    return total


def first_pass_operations(workload: Workload) -> int:
    return sum(2 * op.head_dim * len(op.heads) * op.queries * (op.keys + op.local_values) for op in workload.attention)


# Counted in the released files: requests, operations without a repetition, bits of K and V.
RELEASED = {
    "gpt2-medium@dense": (12_288, 3_172_466_688, 50_759_467_008),
    "gpt2-medium@dense-8+4": (12_288, 3_172_466_688, 15_862_333_440),
    "gpt2-medium@wikitext2": (11_328, 1_022_899_456, 5_664_206_848),
    "gpt2-small@dense": (4_608, 1_189_675_008, 19_034_800_128),
    "gpt2-small@dense-8+4": (4_608, 1_189_675_008, 5_948_375_040),
    "gpt2-small@wikitext2": (4_608, 196_909_056, 659_426_048),
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_encoded_schedules_have_the_totals_of_the_released_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "requests.csv"
    write_requests(read_workload(name), path)
    workload = read_workload(str(path))
    assert (requests(workload), first_pass_operations(workload), key_and_value_bits(workload)) == RELEASED[name]
    assert path.read_text().count("\n") == RELEASED[name][0] + 2
    assert workload.kinds() == dict.fromkeys(("tokens", "heads", "values", "lsb", "bits"), "published")


def test_the_released_schedule_reads_8_96_times_fewer_bits() -> None:
    dense, pruned = (read_workload(f"gpt2-medium@{name}") for name in ("dense", "wikitext2"))
    assert key_and_value_bits(dense) / key_and_value_bits(pruned) == pytest.approx(8.96, abs=0.005)
    small = read_workload("gpt2-small@wikitext2")
    assert sum(op.recomputed for op in small.attention) == 323
    layers = [sum(op.recomputed for op in small.attention if op.layer == layer) for layer in range(12)]
    assert layers == [124, 172, 12, 1, 1, 1, 1, 1, 3, 1, 1, 5]
    assert small.operations("attention") == 231_258_496
    dense = read_workload("gpt2-small@dense")
    assert key_and_value_bits(dense) / key_and_value_bits(small) == pytest.approx(28.87, abs=0.005)


@pytest.mark.parametrize("name", ["gpt2-medium@wikitext2", "gpt2-small@wikitext2", "bert-base@rte~assumed"])
def test_a_file_of_requests_gives_back_every_op(tmp_path: Path, name: str) -> None:
    before = read_workload(name)
    write_requests(before, tmp_path / "r.csv")
    after = read_workload(str(tmp_path / "r.csv"))
    assert after.model == before.model, "24 layers of 16 heads of 64 are those of gpt2-medium"
    assert after.sequences == before.sequences
    ignored: dict[str, object] = {"kind": {}, "head_select": None}
    plain = [[dataclasses.replace(op, **ignored) for op in w.attention] for w in (before, after)]
    assert plain[0] == plain[1]
    packed = gzip.compress((tmp_path / "r.csv").read_bytes())
    again = read_workload(written(tmp_path, packed, "r.csv.gz"))
    assert again.attention == after.attention


def test_one_request(tmp_path: Path) -> None:
    workload = read_workload(written(tmp_path, text(ROW, end="configs/gpt2/x.yml" + "," * 16)))
    assert workload.attention == (
        AttentionOp(
            layer=0,
            sequence=0,
            phase="generate",
            step=0,
            context=993,
            queries=1,
            keys=993,
            heads=(0,),
            kv_heads=1,
            head_dim=64,
            values=(307,),
            local_values=307,
            lsb_queries=(0,),
            query_bits=16,
            key_msb_bits=12,
            key_lsb_bits=0,
            value_bits=8,
            kind=dict.fromkeys(("tokens", "heads", "values", "lsb", "bits"), "published"),
        ),
    )
    assert workload.schedule == "configs/gpt2/x.yml"
    assert workload.sequences[0].tokens == 992
    assert (workload.linear, workload.other) == ((), ())
    model = workload.model
    assert (model.family, model.layers, model.heads, model.head_dim, model.hidden) == ("unknown", 1, 1, 64, 64)


def test_what_is_not_quantised(tmp_path: Path) -> None:
    dense = row(quant_key_bit=-1, quant_query_bit=-1, quant_value_bit=-1)
    op = read(tmp_path, dense).attention[0]
    assert (op.query_bits, op.key_msb_bits, op.key_lsb_bits, op.value_bits, op.lsb_queries) == (12, 8, 4, 8, (1,))
    op = read(tmp_path, dense, unquantised="32").attention[0]
    assert (op.query_bits, op.key_msb_bits, op.key_lsb_bits, op.value_bits, op.lsb_queries) == (32, 32, 0, 32, (0,))
    assert any("-1" in note for note in read(tmp_path, dense).notes)
    assert read(tmp_path, ROW, unquantised="32").attention == read(tmp_path, ROW).attention
    op = read(tmp_path, row(BERT_ROW, quant_key_bit=-1, quant_value_bit=-1)).attention[0]
    assert (op.key_msb_bits, op.key_lsb_bits, op.value_bits, op.recomputed) == (8, 0, 8, 0)
    with pytest.raises(InvalidValueError, match="8\\+4 or 32"):
        read(tmp_path, ROW, unquantised="16")


def test_low_bits_and_selections(tmp_path: Path) -> None:
    asked = {"quant_key_bit": 6, "auto_requant_thres": 0.05, "auto_requant_incre": 4}
    rows = [row(head_id=head, if_requant=head == 1, **asked) for head in range(3)]
    rows.append(row(head_id=3, if_topk=True, topk=600, **asked))
    (op,) = read(tmp_path, *rows).attention
    assert (op.heads, op.lsb_queries, op.key_lsb_bits, op.token_select) == ((0, 1, 2, 3), (0, 1, 0, 0), 4, (993, 600))
    late = row(key_fetch_num=102, value_fetch_num=20, if_topk=True, topk=921)
    (op,) = read(tmp_path, late).attention
    assert op.token_select == (993, 921), "for the next iteration's first layer: among all tokens"


def test_bert_rows_are_of_the_summarisation(tmp_path: Path) -> None:
    rows = [row(BERT_ROW, layer_id=layer, head_id=head) for layer in range(2) for head in range(3)]
    rows[2] = row(rows[2], if_topk=True, topk=30)
    first, second = read(tmp_path, *rows).attention
    assert (first.phase, first.context, first.queries, first.keys, first.values) == ("summarise", 50, 40, 40, (40,) * 3)
    assert (first.local_values, first.token_select, second.token_select) == (40, (40, 30), None)
    asked = {"if_requant": True, "auto_requant_incre": 4, "auto_requant_thres": 0.1}
    assert read(tmp_path, row(BERT_ROW, **asked)).attention[0].lsb_queries == (40,)
    assert read(tmp_path, row(BERT_ROW, auto_requant_num=7, **asked)).attention[0].lsb_queries == (7,)
    short = {name: value for name, value in BERT_ROW.items() if name != "auto_requant_num"}
    assert read(tmp_path, short).attention == read(tmp_path, BERT_ROW).attention
    two = [{"iteration_id": str(i), **row(BERT_ROW, sentence_length_L=50 + i)} for i in range(2)]
    workload = read(tmp_path, *two)
    assert [s.tokens for s in workload.sequences] == [50, 51]
    assert [op.sequence for op in workload.attention] == [0, 1]
    assert {"iteration_id"} | SUMMARISATION > {"key_value_query_fetch_num"} and set(ROW) == GENERATION


def test_unequal_heads_of_a_layer(tmp_path: Path) -> None:
    from simulator import api

    kept = [40, 40, 30, 40]
    rows = [row(BERT_ROW, head_id=head, key_value_query_fetch_num=keys) for head, keys in enumerate(kept)]
    workload = read(tmp_path, *rows)
    assert [(op.heads, op.keys, op.continues) for op in workload.attention] == [
        ((0, 1), 40, True),
        ((2,), 30, True),
        ((3,), 40, False),
    ]
    assert workload.operations() == sum(2 * 64 * 2 * keys * keys for keys in kept)
    (layer,) = api.run(workload, "spatten").layers
    assert (layer.heads_mean, layer.context_mean) == (4, 50)
    (dense,) = workload.dense().attention
    assert (dense.heads, dense.keys, dense.continues) == ((0, 1, 2, 3), 50, False)
    each = [row(row(BERT_ROW, head_id=head), if_topk=True, topk=30) for head in range(3)]
    assert [op.token_select for op in read(tmp_path, *each).attention] == [(40, 30)] * 3
    backwards = read(tmp_path, *(row(BERT_ROW, head_id=head) for head in (2, 0, 1)))
    assert [op.heads for op in backwards.attention] == [(2,), (0, 1)]


def test_any_rows_keep_their_counts(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for case in range(20):
        dim, rows, operations, bits = rng.choice([32, 64, 80]), [], 0, 0
        for step in range(2):
            for layer in range(3):
                length = rng.randint(1, 200)
                for head in sorted(rng.sample(range(6), rng.randint(1, 6))):
                    keys = rng.choice([length, rng.randint(1, length)])
                    values, high = rng.randint(0, keys), rng.choice([4, 6, 8, 12])
                    low = rng.random() < 0.3
                    names = {"iteration_id": step, "layer_id": layer, "head_id": head, "embedding_length_D": dim}
                    counts = {"sentence_length_L": length, "key_fetch_num": keys, "value_fetch_num": values}
                    widths = {"quant_key_bit": high, "auto_requant_incre": 4, "if_requant": low}
                    rows.append(row(**names, **counts, **widths))
                    operations += 2 * dim * (keys * (2 if low else 1) + values)
                    bits += dim * (keys * (high + (4 if low else 0)) + values * 8)
        workload = read(tmp_path, *rows)
        assert (requests(workload), workload.operations()) == (len(rows), operations), f"seed {seed}, case {case}"
        assert key_and_value_bits(workload) == bits


BAD = {
    "kept more than there are": (row(key_fetch_num=994), "key_fetch_num is 994 of 993 tokens", "key_fetch_num"),
    "more V than K": (row(key_fetch_num=300), "value_fetch_num is 307 of 300 keys", "value_fetch_num"),
    "negative": (row(key_fetch_num=-3), "key_fetch_num -3 is negative", "key_fetch_num"),
    "no key": (row(key_fetch_num=0, value_fetch_num=0), "key_fetch_num 0 is out of range", "key_fetch_num"),
    "no integer": (row(value_fetch_num="12.5"), "'12.5' is not an integer", "value_fetch_num"),
    "no number": (row(layer_id="two"), "'two' is not an integer", "layer_id"),
    "empty cell": (row(layer_id=""), "'' is not an integer", "layer_id"),
    "not a number": (row(sentence_length_L="nan"), "'nan' is not an integer", "sentence_length_L"),
    "beyond any size": (row(sentence_length_L="9" * 30), "out of range", "sentence_length_L"),
    "too many heads": (row(head_id=10**6), "out of range", "head_id"),
    "no bits": (row(quant_value_bit=0), "a width of 0 bits", "quant_value_bit"),
    "wide": (row(quant_key_bit=64), "out of range", "quant_key_bit"),
    "no truth value": (row(if_topk="maybe"), "'maybe' is no truth value", "if_topk"),
    "selects nothing": (row(if_topk=True), "topk is -1", "topk"),
    "selects too many": (row(if_topk=True, topk=994), "topk is 994", "topk"),
    "low bits of none": (row(if_requant=True), "K has -1 low bits", "auto_requant_incre"),
    "no threshold": (row(auto_requant_thres=3), "'3' is no threshold", "auto_requant_thres"),
    "no such threshold": (row(auto_requant_thres="x"), "'x' is no threshold", "auto_requant_thres"),
    "twice": (row(head_id=0, layer_id=0, iteration_id=0), "layer 0, head 0 is there twice", "line 2"),
    "other size": (row(head_id=1, embedding_length_D=32), "a head of 32 elements", "line 2"),
    "other length": (row(head_id=1, sentence_length_L=995), "a sentence of 995 tokens", "line 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    bad, what, where = BAD[name]
    with pytest.raises(CorruptFileError) as caught:
        read(tmp_path, ROW, bad)
    message = str(caught.value)
    assert what in message
    assert "requests.csv, line 3" in message
    assert where in message


def test_more_queries_again_than_there_are(tmp_path: Path) -> None:
    asked = {"if_requant": True, "auto_requant_incre": 4, "auto_requant_num": 41}
    with pytest.raises(CorruptFileError, match="auto_requant_num is 41 of 40 queries"):
        read(tmp_path, row(BERT_ROW, **asked))


def without(name: str) -> Row:
    return {column: value for column, value in ROW.items() if column != name}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        (",".join(ROW) + "\n", "no requests"),
        (",".join(ROW) + "\nconfigs/x.yml\n", "no requests"),
        (text(without("topk")), "'topk' is missing"),
        (text({**ROW, "colour": "1"}), "unknown column 'colour'"),
        (text({**without("head_id"), "hed_id": "0"}), "did you mean 'hed_id'"),
        (text({**BERT_ROW, "key_fetch_num": "1"}), "unknown column 'key_fetch_num'"),
        (text(ROW).replace("topk\n", "topk,topk\n", 1), "'topk' is there twice"),
        (text(ROW)[:-20], "the row has"),
        (text(ROW) + ",".join(ROW.values())[:25], "it may be truncated"),
        (text(ROW, end="config.yml") + ",".join(row(head_id=1).values()), "follows the line"),
        (text(ROW).replace("12", '"1" 2'), "not a row of CSV"),
        ("0,0,0,64\n", "is missing"),
        (b"\xff\xfe\x00\x01", "not text"),
        (gzip.compress(text(ROW).encode())[:-9], "truncated or damaged"),
        (gzip.compress(text(ROW).encode())[:40], "truncated or damaged"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: str | bytes, what: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(CorruptFileError) as caught:
        read_workload(path)
    assert what in str(caught.value)
    assert "requests.csv" in str(caught.value)


def test_damage_within_a_compressed_file_is_named(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    raw = gzip.compress(text(*(row(head_id=head) for head in range(16))).encode())
    whole, named = read_workload(written(tmp_path, raw, "whole.csv.gz")).attention, 0
    for _ in range(30):
        bad = bytearray(raw)
        bad[rng.randrange(10, len(bad))] ^= 1 << rng.randrange(8)
        try:  # a bit that fills up the last byte of the data means nothing
            assert read_workload(written(tmp_path, bytes(bad), "requests.csv.gz")).attention == whole
        except CorruptFileError as error:
            named += "truncated or damaged" in str(error)
    assert named >= 25
    with pytest.raises(CorruptFileError, match="not compressed"):
        read_workload(written(tmp_path, text(ROW), "plain.csv.gz"))


def test_any_damage_is_read_or_named(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole = text(*(row(head_id=head, layer_id=layer) for layer in range(2) for head in range(3)), end="x.yml").encode()
    named = 0
    for _ in range(300):
        raw = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(raw))
            damage = rng.choice([b"", b"-", b".", b",", b'"', b"\n", b"9", b"\x00", bytes([rng.randrange(256)])])
            raw[place : place + rng.randint(0, 3)] = damage
        try:
            read_workload(written(tmp_path, bytes(raw)))
        except CorruptFileError as error:
            named += "requests.csv" in str(error)
    assert named > 100


def test_options_that_change_nothing_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeff" + text(ROW).replace("\n", "\r\n"))  # as a spreadsheet writes it
    assert requests(read_workload(path)) == 1
    for changed in ({"schedule": "none"}, {"seq_len": 3}, {"batch": 2}, {"generate": 0}, {"config": "c"}, {"heads": 4}):
        flag = "--" + next(iter(changed)).replace("_", "-")
        with pytest.raises(InvalidValueError, match=f"{flag} changes nothing"):
            read_workload(path, ReadRequest(**changed))
    with pytest.raises(InvalidValueError, match="no model"):
        read_workload(path, ReadRequest(input="x.txt"))
    with pytest.raises(InvalidValueError, match="--unquantised changes nothing"):
        read_workload("gpt2", ReadRequest(unquantised="32"))
    with pytest.raises(FileMissingError, match=r"absent\.csv"):
        read_workload(str(tmp_path / "absent.csv"))


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("gpt2-medium", ReadRequest(seq_len=9, generate=2)),
        ("gpt2-small@wikitext2", ReadRequest(batch=2)),
        ("llama-3-8b", ReadRequest(seq_len=9, generate=0)),
    ],
)
def test_what_the_format_cannot_say_is_not_written(tmp_path: Path, name: str, request_: ReadRequest) -> None:
    with pytest.raises(UnsupportedError):
        write_requests(read_workload(name, request_), tmp_path / "r.csv")
    assert not list(tmp_path.iterdir())


def test_requests_run_on_a_design(tmp_path: Path) -> None:
    from simulator import api

    rows = [row(layer_id=layer, head_id=head) for layer in range(2) for head in range(3)]
    result = api.run(written(tmp_path, text(*rows)), "spatten")
    assert result.scopes["attention"].operations == 6 * 2 * 64 * (993 + 307)
    assert result.scopes["total"].cycles == result.scopes["attention"].cycles
    dense = api.run(str(tmp_path / "requests.csv"), "systolic")
    assert dense.scopes["attention"].operations == 6 * 2 * 64 * 2 * 993


def test_the_authors_program_sees_every_row(tmp_path: Path, seed: int) -> None:
    """Its formula restated over the rows of a file, with heads that differ: bert.cpp of the authors' repository."""
    from simulator import api

    rng = random.Random(seed)
    for case in range(5):
        dim, rows, cycles = rng.choice([32, 64, 128]), [], 0
        wide = 512 // dim
        for layer in range(rng.randint(1, 4)):
            length = rng.randint(1, 300)
            words = 0
            for head in range(rng.randint(1, 5)):
                kept = rng.choice([length, rng.randint(1, length)])
                widths = [rng.choice([4, 6, 8, 12, -1]) for _ in range(2)]
                counts = {"sentence_length_L": length, "key_value_query_fetch_num": kept, "embedding_length_D": dim}
                bits = {"quant_key_bit": widths[0], "quant_value_bit": widths[1]}
                rows.append(row(BERT_ROW, layer_id=layer, head_id=head, **counts, **bits))
                words = -(-kept // wide)
                for width in widths:
                    stored = 4 if width == 4 else 8
                    cycles += -(-(words * wide * dim * stored // 256) // 16)
                cycles += length * words
            cycles += 11 + 87 + words + 2 + 3
        result = api.run(written(tmp_path, text(*rows)), "spatten", fidelity="authors")
        assert result.cycles == cycles, f"seed {seed}, case {case}"
