from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_bert import batch_of, tiny_bert

from sparsecore import cascade
from sparsecore.errors import CorruptFileError, FileMissingError, FormatVersionError


@pytest.fixture
def run(seed: int) -> cascade.CascadeRun:
    handle = cascade.apply(tiny_bert(seed), cascade.Schedule(token_keep=0.6, head_keep=0.8, value_keep=0.5))
    with torch.no_grad():
        handle.model(**batch_of(seed, (20, 9, 1)))
    return handle.last_run


def test_round_trip(run: cascade.CascadeRun, tmp_path: Path) -> None:
    run.save(tmp_path / "run.safetensors")
    again = cascade.CascadeRun.load(tmp_path / "run.safetensors")
    assert (again.schedule, again.model, again.lengths) == (run.schedule, run.model, run.lengths)
    for name in ("survived", "heads_survived", "values", "low_queries"):
        assert torch.equal(getattr(again, name), getattr(run, name)), name


def test_kept_ids_and_counts_agree(run: cascade.CascadeRun) -> None:
    plan = [run.schedule.token_counts(length, 4) for length in run.lengths]
    heads = run.schedule.head_counts(6, 4)
    for sequence in range(3):
        before = set(range(run.lengths[sequence]))
        for layer in range(4):
            kept = set(run.tokens(layer, sequence).tolist())
            assert kept <= before
            assert len(kept) == plan[sequence][layer] == run.token_counts[layer, sequence]
            assert len(run.heads(layer, sequence)) == heads[layer] == run.head_counts[layer, sequence]
            assert run.local_values(layer, sequence) == max(1, len(kept) // 2)
            before = kept
        assert run.keep_mask[sequence].nonzero().flatten().tolist() == sorted(before)
    shares = [sum(counts) / 4 / length for counts, length in zip(plan, run.lengths, strict=True)]
    assert run.token_keep == pytest.approx(sum(shares) / 3)
    assert run.head_keep == pytest.approx(sum(heads) / 24)


def test_value_rows_are_between_the_local_count_and_the_keys(run: cascade.CascadeRun) -> None:
    for layer in range(4):
        for sequence in range(3):
            heads = set(run.heads(layer, sequence).tolist())
            for head, rows in enumerate(run.values[layer, sequence].tolist()):
                least = run.local_values(layer, sequence)
                assert least <= rows <= run.token_counts[layer, sequence] if head in heads else rows == 0


def test_missing_and_foreign_files(run: cascade.CascadeRun, tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        cascade.CascadeRun.load(tmp_path / "none.safetensors")
    with pytest.raises(FileMissingError):
        run.save(tmp_path / "none" / "run.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CorruptFileError, match="not the record"):
        cascade.CascadeRun.load(tmp_path / "other.safetensors")


def test_every_truncation_is_named(run: cascade.CascadeRun, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run.save(path)
    whole = path.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError):
            cascade.CascadeRun.load(path)


def rewrite(run: cascade.CascadeRun, path: Path, head: dict[str, object], **tensors: torch.Tensor) -> None:
    own = {name: getattr(run, name) for name in ("survived", "heads_survived", "values", "low_queries")}
    base = {
        "version": "1.0",
        "schedule": run.schedule.to_json(),
        "model": {name: getattr(run.model, name) for name in run.model.__slots__},
        "lengths": list(run.lengths),
    }
    save_file(own | tensors, path, metadata={"sparsecore.cascade_run": json.dumps(base | head)})


def test_damaged_content_is_named(run: cascade.CascadeRun, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    rewrite(run, path, {})
    assert cascade.CascadeRun.load(path).lengths == run.lengths
    rewrite(run, path, {"version": "1.7"})
    assert cascade.CascadeRun.load(path).lengths == run.lengths
    rewrite(run, path, {"version": "2.0"})
    with pytest.raises(FormatVersionError):
        cascade.CascadeRun.load(path)
    for head in ({"lengths": [20, 9]}, {"lengths": [20, 8, 1]}, {"lengths": "x"}, {"schedule": {"token_keep": 2.0}}):
        rewrite(run, path, head)
        with pytest.raises(CorruptFileError):
            cascade.CascadeRun.load(path)
    rewrite(run, path, {}, heads_survived=run.heads_survived + 5)
    with pytest.raises(CorruptFileError, match="heads_survived"):
        cascade.CascadeRun.load(path)
    rewrite(run, path, {}, values=run.values[:2].contiguous())
    with pytest.raises(CorruptFileError, match="values"):
        cascade.CascadeRun.load(path)
