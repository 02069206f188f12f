"""An encoder on short and long texts, dense against cascade: time, agreement, and the tokens that survive."""

from __future__ import annotations

import copy
from functools import partial
from statistics import median
from typing import Any

import torch
from picture import passage_svg, sentence_svg
from rich.console import Console
from texts import Corpus, Inputs, cosine, embed, load_dense, run_all
from torch import nn

import sparsecore as sc
from simulator.report import DataTable, Section
from simulator.report.terminal import print_table
from sparsecore.timing import interleaved, median_ratio

SCHEDULE = sc.cascade.Schedule(token_keep=0.7, head_keep=0.95)
SHOWN_SENTENCES, SHOWN_PASSAGES = (1, 4), (0, 12)


def compare_texts(console: Console) -> Section:
    """Print how fast and how alike the two models are on the same texts; return it with the pictures."""
    corpus = Corpus.load()
    dense = load_dense()
    pruned = copy.deepcopy(dense, {id(weight): weight for weight in dense.parameters()})  # the weights are shared
    handle = sc.cascade.apply(pruned, SCHEDULE)
    rows = [_row(name, dense, pruned, corpus, texts) for name, texts in _groups(corpus).items()]
    columns = ("texts", "tokens", "dense", "cascade", "speed", "agreement")
    table = DataTable("Time per text, one at a time, and cosine of the two embeddings", columns, tuple(rows))
    print_table(table, console)
    console.print(f"the last passage:\n{handle.report()}\n")
    pictures = [_picture(pruned, handle, corpus, corpus.short[i], sentence_svg) for i in SHOWN_SENTENCES]
    pictures += [_picture(pruned, handle, corpus, corpus.passages[i], _passage) for i in SHOWN_PASSAGES]
    asked = (
        f"all-MiniLM-L6-v2, fp32. Asked for: {SCHEDULE.token_keep:.0%} of the tokens and {SCHEDULE.head_keep:.0%} of "
        f"the heads, as means over {handle.info.layers} layers."
    )
    reading = (
        "Sentences: one line a layer, with the tokens that it computed; dots stand for pruned ones, bold for those "
        "that went through all layers. Passages: the stronger the background, the more layers computed the token."
    )
    return Section("An encoder on the same texts, dense and with cascade", (asked, reading), (table,), tuple(pictures))


def _groups(corpus: Corpus) -> dict[str, tuple[str, ...]]:
    return {"short": corpus.short[::3], "long": corpus.passages[::2]}


def _row(name: str, dense: nn.Module, pruned: nn.Module, corpus: Corpus, texts: tuple[str, ...]) -> tuple[str, ...]:
    inputs = corpus.singles(texts)
    calls = {"dense": partial(run_all, dense, inputs), "cascade": partial(run_all, pruned, inputs)}
    times = interleaved(calls, rounds=5)
    ms = [f"{median(times[which]) / len(inputs) * 1e3:.2f} ms" for which in ("dense", "cascade")]
    tokens = sum(one["input_ids"].shape[1] for one in inputs) / len(inputs)
    agreement = cosine(_embeddings(pruned, inputs), _embeddings(dense, inputs))
    ratio = median_ratio(times["dense"], times["cascade"])
    return (name, f"{tokens:.0f}", *ms, f"{ratio:.2f}x", f"{agreement:.4f}")


@torch.inference_mode()
def _embeddings(model: nn.Module, inputs: list[Inputs]) -> torch.Tensor:
    return torch.cat([embed(model(**one), one["attention_mask"]) for one in inputs])


@torch.inference_mode()
def _picture(model: nn.Module, handle: sc.cascade.Handle, corpus: Corpus, text: str, draw: Any) -> str:
    batch = corpus.encode((text,))
    model(**batch)
    run = handle.last_run
    tokens = corpus.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    svg: str = draw(tokens, run.survived[0].tolist(), run.model.layers)
    return svg


def _passage(tokens: list[str], survived: list[int], layers: int) -> str:
    notes = [f"{count} of {layers} layers" for count in survived]
    return passage_svg(tokens, [count / layers for count in survived], notes)
